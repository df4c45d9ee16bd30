package reconciler_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"locktide.dev/policy"
	"locktide.dev/schema"
)

// atMost is a user's rule: no group has more members.
func atMost(n int) *policy.Rule {
	return &policy.Rule{Code: "at-most", Kind: "groups", Severity: schema.Deny, Judge: func(_ context.Context, groups []policy.Element) (out []policy.Fault, _ error) {
		for i, e := range groups {
			var g schema.Group
			if err := json.Unmarshal(e.Data, &g); err != nil {
				return nil, err
			}
			if g.Count.Number > n {
				out = append(out, policy.Fault{Element: i, Message: "too many"})
			}
		}
		return out, nil
	}}
}

// A commit that weakens a rule is judged by the rule as it was: what it allows
// may be used from the next commit on.
func TestCommitDoesNotWeakenTheRulesThatJudgeIt(t *testing.T) {
	inBubble(t, func(w *world) {
		w.git.commitWithRules(fleet(one("1"), 2), atMost(2))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.git.commitWithRules(fleet(one("1"), 4), atMost(4))
		w.quiet(5*time.Minute, "a commit that allows itself what it does")
		if got := w.loop.Report().InForce; got != "c1" {
			t.Fatalf("%s is in force", got)
		}
		w.git.commitWithRules(fleet(one("1"), 2), atMost(4))
		w.until(10*time.Minute, "the rule alone is weakened", w.onCommit("c3"))
		w.git.commitWithRules(fleet(one("1"), 4), atMost(4))
		w.until(10*time.Minute, "what it allows is used", w.onCommit("c4"))
	})
}
