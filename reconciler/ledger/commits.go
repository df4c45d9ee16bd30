package ledger

import (
	"cmp"
	"fmt"
	"time"

	"locktide.dev/schema"
)

// Commit is how far a commit has spread.
type Commit struct {
	At        time.Time `json:"at"` // last change
	Started   int       `json:"started"`
	Ended     int       `json:"ended"`
	Failed    int       `json:"failed"`
	Wave      int       `json:"wave"`       // size of the running wave
	InWave    int       `json:"in_wave"`    // started in it
	Clean     int       `json:"clean"`      // ended well in it
	WaveEnded int       `json:"wave_ended"` // ended at all in it
}

// Same says whether two accounts of one commit are the same.
func (c Commit) Same(o Commit) bool {
	at := c.At.Equal(o.At)
	c.At = o.At
	return at && c == o
}

// commit says whether a commit may start more: failures that ended count, and
// those of rollouts that stand braked or go back just now, with or without a
// slot of their own.
func (l *Ledger) commit(info Info, env *admission) (schema.Reason, bool) {
	if info.Commit == "" || env.Approved[info.Commit] {
		return schema.Reason{}, true
	}
	if env.running == nil {
		env.running = l.tally(env.Rollouts)
	}
	c, running := l.Commits.Get(info.Commit), env.running[info.Commit]
	c.Started, c.Failed = c.Started+running.Started, c.Failed+running.Failed
	allowed := max(env.Limits.BrakeMin, c.Started*env.Limits.BrakeShare/100)
	if c.Failed <= allowed {
		return schema.Reason{}, true
	}
	return schema.Reason{Code: schema.WaitCommitBrake, Message: fmt.Sprintf("%d of %d started partitions of commit %s failed (allowed %d)", c.Failed, c.Started, short(info.Commit), allowed), Next: "locktide approve " + short(info.Commit)}, false
}

// tally sums up what running rollouts add to their commits' accounts.
func (l *Ledger) tally(rollouts map[string]Info) map[string]Commit {
	out := map[string]Commit{}
	for id, r := range rollouts {
		c := out[r.Commit]
		if r.Begun && !l.Open.Has(id) {
			c.Started++
		}
		if r.Failing {
			c.Failed++
		}
		out[r.Commit] = c
	}
	return out
}

// Count judges a commit by a rollout that ended without ever having had a
// slot, such as one that only created.
func (l *Ledger) Count(rollout, commit string, failed bool, now time.Time) {
	if l.Open.Has(rollout) || commit == "" {
		return
	}
	c := l.Commits.Get(commit)
	c.At, c.Started, c.Ended = now, c.Started+1, c.Ended+1
	if failed {
		c.Failed++
	}
	l.Commits = l.Commits.With(commit, c)
}

// judge counts the end of a rollout for its commit.
func (l *Ledger) judge(commit string, failed bool, slowStart int) {
	c, ok := l.Commits.Find(commit)
	if commit == "" || !ok {
		return
	}
	c.Ended++
	c.WaveEnded++
	if failed {
		c.Failed++
	} else {
		c.Clean++
	}
	if c.WaveEnded >= c.Wave && c.InWave >= c.Wave {
		if c.Clean >= c.Wave {
			c.Wave = min(2*c.Wave, cmp.Or(slowStart, defaultSlowStart))
		}
		c.InWave, c.Clean, c.WaveEnded = 0, 0, 0
	}
	l.Commits = l.Commits.With(commit, c)
}

// short cuts a commit for people; approvals take the beginning of one.
func short(commit string) string { return commit[:min(len(commit), 10)] }
