package reconciler

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/policy"
	"locktide.dev/reconciler/planner"
	"locktide.dev/schema"
)

// What waits for an approval may need more than one person: as many as the
// teams that own it ask for. They say so one after the other; what the first
// ones said holds for any later plan that asks for no more.

// assent is one person's approval of a set.
type assent struct {
	By    string    `json:"by"`
	At    time.Time `json:"at"`
	Items []string  `json:"items"` // as Await.Items
}

// keepApprovals bounds how many approvals and assents the journal keeps.
const keepApprovals = 100

// count fills in how many people each set needs and who approved it so far.
func (l *Loop) count(awaits []schema.Await) {
	for i, a := range awaits {
		awaits[i].From = l.approvers(a.Items)
		if need, err := l.needs(a.Rule, a.Items); need > 1 && err == nil {
			awaits[i].Need, awaits[i].By = need, l.assented(a.Items)
		}
	}
}

// needs is how many people have to approve a set. Teams of the commit before
// judge it too: a commit does not lower what it needs itself.
func (l *Loop) needs(rule string, items []string) (need int, err error) {
	need = 1
	if rule == planner.RuleDeletions && l.cfg.SecondPerson {
		need = 2
	}
	base, err := l.baseFleet()
	for _, f := range []*schema.Fleet{base, l.st.fleet} {
		if f == nil || !slices.ContainsFunc(sortedKeys(f.Teams), func(t string) bool { return f.Teams[t].Approvers > need }) {
			continue
		}
		for _, item := range items {
			for _, ref := range l.origins(item) {
				need = max(need, f.Teams[policy.OwnerOf(f, ref)].Approvers)
			}
		}
	}
	return need, err
}

// approvers gives whom the stages of a set ask, a list for each: one of it has
// to approve. What a commit changes about that does not hold for its own
// changes (lifted).
func (l *Loop) approvers(items []string) [][]string {
	var out [][]string
	asks := func(stage string) bool { return len(l.st.fleet.Stages[stage].Approve) > 0 }
	if l.st.fleet == nil || len(l.st.meta.Lifted) == 0 && !slices.ContainsFunc(sortedKeys(l.st.fleet.Stages), asks) {
		return nil
	}
	ask := func(by []string) {
		if len(by) > 0 && !slices.ContainsFunc(out, func(have []string) bool { return slices.Equal(have, by) }) {
			out = append(out, by)
		}
	}
	for _, item := range items {
		k, to, ok := parseItem(item)
		if !ok {
			continue // the rest of a commit: what waits in it for a stage goes on waiting
		}
		for _, stage := range l.stagesOf(k) {
			old := slices.IndexFunc(l.st.meta.Lifted, func(x lifted) bool {
				was, held := x.Items[k]
				return x.Name == "" && x.Stage == stage && held && was == to
			})
			if old >= 0 {
				ask(l.st.meta.Lifted[old].Approve)
			} else {
				ask(l.st.fleet.Stages[stage].Approve)
			}
		}
	}
	return out
}

// stagesOf gives the stages of an object, as Git has it or else as it is
// driven at.
func (l *Loop) stagesOf(k schema.Key) []string {
	if w, ok := l.st.head.Find(k); ok {
		return planner.StagesOf(&w.Object)
	}
	if o, known := l.body(l.st.target[k].Body); known {
		return planner.StagesOf(&o)
	}
	return nil
}

// mayApprove says why a command's sender may not approve what is asked of
// these lists; zero: they may.
func (l *Loop) mayApprove(c schema.Command, lists [][]string) schema.Answer {
	name, _, _ := strings.Cut(cmp.Or(c.By, "unknown"), "@")
	if l.cfg.Named && !c.Proven {
		a := refuse("whoever approves needs a token of their own, and this is the one that all share")
		a.Next = "--token-file FILE with yours; people in the daemon's configuration lists who has one"
		return a
	}
	for _, list := range lists {
		if !slices.ContainsFunc(list, func(who string) bool { return who == name || slices.Contains(c.Roles, who) }) {
			a := refuse("%s may not approve it: %s may", name, strings.Join(list, " or "))
			if a.Next = "ask them"; !l.cfg.Named {
				a.Next += "; people in the daemon's configuration says who has which role"
			}
			return a
		}
	}
	return schema.Answer{OK: true}
}

// baseFleet gives the definitions of the commit before, or nil. After a
// restart they are read once.
func (l *Loop) baseFleet() (*schema.Fleet, error) {
	st := &l.st
	if st.baseOf != st.meta.Base {
		f, err := l.storedFleet(context.Background(), schema.Digest(st.meta.Base))
		if err != nil {
			return nil, fmt.Errorf("cannot read the definitions of the commit before, whose teams say who has to approve: %w", err)
		}
		st.base, st.baseOf = f, st.meta.Base
	}
	return st.base, nil
}

// origins are the definitions of an awaited item's object, as Git has it and
// as it is driven at.
func (l *Loop) origins(item string) []schema.Ref {
	var refs []schema.Ref
	for _, k := range l.itemKeys(item) {
		refs = append(refs, l.definitionsOf(k)...)
	}
	return refs
}

// itemKeys gives the objects of an awaited item; of a commit all that are still
// to be changed.
func (l *Loop) itemKeys(item string) (keys []schema.Key) {
	if k, _, ok := parseItem(item); ok {
		return []schema.Key{k}
	}
	for _, p := range l.st.lastPlan.Partitions {
		for _, it := range p.Items {
			keys = append(keys, it.Key)
		}
	}
	return keys
}

func (l *Loop) definitionsOf(k schema.Key) []schema.Ref {
	refs := slices.Clone(l.st.head.Get(k).Object.From)
	if o, known := l.body(l.st.target[k].Body); known {
		refs = append(refs, o.From...)
	}
	return refs
}

// assented names those who approved a set, or one that holds it.
func (l *Loop) assented(items []string) []string {
	var by []string
	for _, a := range l.st.meta.Assents {
		all := !slices.ContainsFunc(items, func(item string) bool { return !slices.Contains(a.Items, item) })
		if all && !slices.ContainsFunc(by, func(name string) bool { return samePerson(name, a.By) }) {
			by = append(by, a.By)
		}
	}
	return by
}

// samePerson compares names as the API knows them: NAME or NAME@HOST. One
// person on two hosts is one.
func samePerson(a, b string) bool {
	a, _, _ = strings.Cut(a, "@")
	b, _, _ = strings.Cut(b, "@")
	return a == b
}

func (l *Loop) approve(c schema.Command) schema.Answer {
	st, digest := &l.st, c.Target
	for _, a := range st.lastPlan.Awaits {
		if digest != "" && (digest == a.Digest.Short() || digest == string(a.Digest)) {
			return l.assent(c, a.Rule, a.Items, plural(len(a.Items), "change")+" ("+a.Rule+")")
		}
	}
	for id := range st.ledger.Commits.Keys() { // not only the one in force: an older one may still spread
		if id == digest || (len(digest) >= 7 && strings.HasPrefix(id, digest)) {
			return l.assent(c, "", []string{id}, "the rest of commit "+digest+" past its commit brake")
		}
	}
	a := refuse("nothing with digest %q awaits approval", digest)
	a.Next = "locktide status lists what does"
	return a
}

// assent takes one person's approval; the last one that is needed makes it
// hold.
func (l *Loop) assent(c schema.Command, rule string, items []string, what string) schema.Answer {
	st, by := &l.st, cmp.Or(c.By, "unknown")
	if a := l.mayApprove(c, l.approvers(items)); !a.OK {
		return a
	}
	if a := l.ownWork(c, items); !a.OK {
		return a
	}
	need, err := l.needs(rule, items)
	if err != nil {
		return refuse("%v", err)
	}
	if need > 1 {
		said := l.assented(items)
		if slices.ContainsFunc(said, func(name string) bool { return samePerson(name, by) }) {
			a := refuse("%s approved it already: %d of %d people did", by, len(said), need)
			a.Next = "somebody else approves it, too"
			return a
		}
		st.meta.Assents = last(append(slices.Clone(st.meta.Assents), assent{By: by, At: time.Now(), Items: items}), keepApprovals)
		if n := len(said) + 1; n < need {
			return done("%s approved %s: %d of %d people did; it starts when all have", by, what, n, need)
		}
	}
	if !slices.ContainsFunc(st.meta.Approved, func(set []string) bool { return slices.Equal(set, items) }) {
		st.meta.Approved = last(append(st.meta.Approved, items), keepApprovals)
	}
	return done("approved %s", what)
}

func last[T any](list []T, n int) []T { return list[max(0, len(list)-n):] }
