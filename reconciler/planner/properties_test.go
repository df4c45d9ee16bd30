package planner

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"locktide.dev/schema"
)

type promise struct {
	name  string
	keeps func(Input, func(Input) schema.Plan) error
}

// promises are kept by every plan, whatever the input. A planner is passed, so
// that one without a guard can be judged too.
var promises = []promise{
	{"ownership", ofPlan(owned)},
	{"partial reads", ofPlan(untouched)},
	{"adoption", ofPlan(adopted)},
	{"deletions", ofPlan(capped)},
	{"blast", ofPlan(blasted)},
	{"waves", ofPlan(ordered)},
	{"explained", ofPlan(explained)},
	{"converged", converged},
	{"order-free", orderFree},
	{"approvals", subsets},
}

func ofPlan(keeps func(Input, schema.Plan) error) func(Input, func(Input) schema.Plan) error {
	return func(in Input, plan func(Input) schema.Plan) error { return keeps(in, plan(in)) }
}

// owned: only what head or target names, with the right verb and entries.
func owned(in Input, p schema.Plan) error {
	seen := map[schema.Key]bool{}
	for _, it := range items(p) {
		w, defined := in.Head.Find(it.Key)
		from, exists := in.Target[it.Key]
		ok := !seen[it.Key] && it.From == from
		switch it.Verb {
		case schema.VerbCreate:
			ok = ok && defined && !exists && it.To == w.Entry
		case schema.VerbUpdate:
			ok = ok && defined && exists && it.To == w.Entry && from.Digest != w.Entry.Digest
		case schema.VerbDelete:
			ok = ok && !defined && exists && it.To == schema.Entry{}
		default:
			ok = false
		}
		if !ok {
			return fmt.Errorf("%s %s is not ours to do", it.Verb, it.Key)
		}
		seen[it.Key] = true
	}
	return nil
}

// untouched: nothing frozen is touched; nothing is deleted from an incomplete
// render or reading, or where only a tombstone may delete.
func untouched(in Input, p schema.Plan) error {
	for _, it := range items(p) {
		old, had := in.Bodies(it.From.Body)
		for _, ref := range append(slices.Clone(old.From), in.Head.Get(it.Key).Object.From...) {
			if in.Frozen[ref] {
				return fmt.Errorf("%s is frozen", it.Key)
			}
			if in.Observed[ref] && !in.ByHand[it.Key] && it.Verb != schema.VerbDelete {
				return fmt.Errorf("%s is of a group of mode observe", it.Key)
			}
		}
		if it.Verb != schema.VerbDelete {
			continue
		}
		if !in.Complete || !in.Readable["mem:"+it.Key.Instance] || !had {
			return fmt.Errorf("%s is deleted without sight", it.Key)
		}
		tomb := slices.ContainsFunc(old.From, func(r schema.Ref) bool { return in.Tombstones[r] })
		if (it.Key.Kind == "mem.vol" || old.Paced != nil && old.Paced.Storage) && !tomb {
			return fmt.Errorf("%s is deleted without a tombstone", it.Key)
		}
	}
	return nil
}

// adopted: what is somebody else's is not created over.
func adopted(in Input, p schema.Plan) error {
	for _, it := range items(p) {
		if in.Adoptable[it.Key] {
			return fmt.Errorf("%s %s, which is somebody else's", it.Verb, it.Key)
		}
	}
	return nil
}

// capped: P24.
func capped(in Input, p schema.Plan) error {
	charged := map[schema.Kind]int{}
	for _, it := range items(p) {
		old, _ := in.Bodies(it.From.Body)
		head := in.Head.Get(it.Key).Object
		deep := it.Verb == schema.VerbUpdate && old.Paced != nil && head.Paced.Count*2 < old.Paced.Count
		if !it.Free && (it.Verb == schema.VerbDelete || deep) {
			charged[it.Key.Kind]++
		}
	}
	for kind, n := range charged {
		have, ok := in.Owned[kind]
		if !ok {
			for k := range in.Target {
				if k.Kind == kind {
					have++
				}
			}
		}
		gone := in.DeletedLastHour[kind]
		if limit := max(1, min(5, (have+gone)/10)); n+gone > limit {
			return fmt.Errorf("%d of %d %s deleted, %d in the last hour", n, have, kind, gone)
		}
	}
	return nil
}

// blasted: no more groups are replaced than may be, and no more of a place.
func blasted(in Input, p schema.Plan) error {
	groups, here, all := 0, map[string]int{}, map[string]int{}
	for _, it := range items(p) {
		if it.Verb == schema.VerbUpdate && it.From.Release != it.To.Release {
			groups++
			here[it.Key.Instance] += max(1, in.Head.Get(it.Key).Object.Paced.Count)
		}
	}
	for _, w := range in.Head.All() {
		if w.Object.Paced != nil {
			all[w.Object.Key.Instance] += max(1, w.Object.Paced.Count)
		}
	}
	for place, n := range here {
		if n >= 50 && n*10 > all[place] {
			return fmt.Errorf("%d of %d members of %s replaced", n, all[place], place)
		}
	}
	if groups > in.BlastGroups {
		return fmt.Errorf("%d groups replaced, %d allowed", groups, in.BlastGroups)
	}
	return nil
}

// ordered: whichever partition runs, after each of its items every standing
// job finds its configuration and every standing route its groups' jobs, as
// far as they were there before.
func ordered(in Input, p schema.Plan) error {
	lost := func(s schema.Snapshot) map[string]bool {
		out := map[string]bool{}
		jobs := map[string]bool{}
		for k, e := range s {
			if o, ok := in.Bodies(e.Body); ok && k.Kind == "mem.job" {
				jobs[o.Group] = true
			}
		}
		for k, e := range s {
			o, _ := in.Bodies(e.Body)
			for _, r := range o.Reads {
				if _, ok := s[r]; !ok {
					out[fmt.Sprintf("%s reads %s", k, r)] = true
				}
			}
			for _, g := range o.Serves {
				if !jobs[g] {
					out[fmt.Sprintf("%s serves %s", k, g)] = true
				}
			}
		}
		return out
	}
	for _, part := range p.Partitions {
		s := in.Target
		before := lost(s)
		deleting := false
		for _, it := range part.Items {
			if deleting && it.Verb != schema.VerbDelete {
				return fmt.Errorf("%s grows after a deletion", it.Key)
			}
			deleting = it.Verb == schema.VerbDelete
			s = apply(s, it)
			for what := range lost(s) {
				// A route whose definition names a group that is not defined is
				// refused by policy; the planner cannot make it whole.
				if !before[what] && !undefined(in, what) {
					return fmt.Errorf("after %s %s: %s, which is gone", it.Verb, it.Key, what)
				}
			}
		}
	}
	return nil
}

// undefined says whether head itself routes to a group that never existed.
func undefined(in Input, what string) bool {
	_, group, ok := strings.Cut(what, " serves ")
	if !ok {
		return false
	}
	for _, e := range in.Target {
		if o, _ := in.Bodies(e.Body); o.Group == group && o.Key.Kind == "mem.job" {
			return false
		}
	}
	for _, w := range in.Head.All() {
		if w.Object.Group == group && w.Object.Key.Kind == "mem.job" {
			return false
		}
	}
	return true
}

// explained: every item has a reason, and every difference is an item, awaits
// approval or is named in a note.
func explained(in Input, p schema.Plan) error {
	var text strings.Builder
	swept := map[string]bool{}
	for _, n := range p.Notes {
		text.WriteString(n.Message + "\n")
		swept[n.Code] = true
	}
	for _, a := range p.Awaits {
		if a.Why == "" || a.Digest == "" || len(a.Items) == 0 {
			return fmt.Errorf("an awaited set without reason: %+v", a)
		}
		text.WriteString(strings.Join(a.Items, " \n") + " \n")
	}
	done := map[schema.Key]bool{}
	for _, it := range items(p) {
		if it.Reason.Code == "" || it.Reason.Message == "" {
			return fmt.Errorf("%s has no reason", it.Key)
		}
		done[it.Key] = true
	}
	explain := func(k schema.Key) error {
		if done[k] || strings.Contains(text.String(), k.String()+" ") {
			return nil
		}
		_, defined := in.Head.Find(k)
		if in.Adoptable[k] && swept["adoptable"] {
			return nil
		}
		if !defined && (swept["incomplete"] || swept["unread"] || swept["still-read"] && k.Kind == "mem.kv") {
			return nil
		}
		return fmt.Errorf("nothing says why %s is not as desired", k)
	}
	for k, w := range in.Head.All() {
		if in.Target[k].Digest != w.Entry.Digest {
			if err := explain(k); err != nil {
				return err
			}
		}
	}
	for k := range in.Target {
		if _, ok := in.Head.Find(k); !ok {
			if err := explain(k); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestPromises(t *testing.T) {
	gen := inputs()
	rapid.Check(t, func(t *rapid.T) {
		in := gen.Draw(t, "in")
		for _, promise := range promises {
			if err := promise.keeps(in, Plan); err != nil {
				t.Fatalf("%s: %v", promise.name, err)
			}
		}
	})
}

func TestAPlanOfWhatDiffersIsThePlanOfAll(t *testing.T) {
	gen := inputs()
	rapid.Check(t, func(t *rapid.T) {
		in := gen.Draw(t, "in")
		all := Plan(in)
		in.Differs = map[schema.Key]bool{}
		for k, w := range in.Head.All() {
			if e, exists := in.Target[k]; !exists || e.Digest != w.Entry.Digest {
				in.Differs[k] = true
			}
		}
		for k := range in.Target {
			if _, defined := in.Head.Find(k); !defined {
				in.Differs[k] = true
			}
		}
		if some := Plan(in); !reflect.DeepEqual(all, some) {
			t.Fatalf("the plan of what differs is %+v, of all %+v", some, all)
		}
	})
}

// converged: carried out, with every set approved and everything readable, the
// target becomes the head; a second plan has nothing to do.
func converged(in Input, plan func(Input) schema.Plan) error {
	in.Complete, in.Frozen, in.Adoptable = true, nil, nil
	in.Readable = map[string]bool{"mem:dc1": true, "mem:dc2": true, "mem:edge": true}
	in.Tombstones, in.Observed = map[schema.Ref]bool{}, map[schema.Ref]bool{}
	for _, e := range in.Target {
		o, _ := in.Bodies(e.Body)
		for _, r := range o.From {
			in.Tombstones[r] = true
		}
	}
	// Policy refuses a head whose routes name undefined groups.
	for k, w := range in.Head.All() {
		for _, g := range w.Object.Serves {
			if !slices.ContainsFunc(sortedKeysOf(in.Head), func(j schema.Key) bool { return j.Kind == "mem.job" && in.Head.Get(j).Object.Group == g }) {
				in.Head = in.Head.Without(k)
			}
		}
	}
	for range 4 {
		p := plan(in)
		in.Target = apply(in.Target, items(p)...)
		for _, a := range p.Awaits {
			in.Approved = append(in.Approved, a.Items)
		}
	}
	if p := plan(in); !p.Empty() || len(p.Awaits) > 0 || len(p.Notes) > 0 {
		return fmt.Errorf("not quiet after convergence: %+v", p)
	}
	for k, w := range in.Head.All() {
		if in.Target[k].Digest != w.Entry.Digest {
			return fmt.Errorf("%s did not converge", k)
		}
	}
	if len(in.Target) != in.Head.Len() {
		return fmt.Errorf("%d objects stand, %d are defined", len(in.Target), in.Head.Len())
	}
	return nil
}

func sortedKeysOf(m schema.Head) []schema.Key { return slices.SortedFunc(m.Keys(), schema.Key.Compare) }

// orderFree: maps are iterated in random order by Go, and neither that nor the
// order of apps and approvals shows.
func orderFree(in Input, plan func(Input) schema.Plan) error {
	p := plan(in)
	want := string(schema.MustCanonical(p))
	for _, a := range p.Awaits {
		in.Approved = append(in.Approved, a.Items)
	}
	approved := string(schema.MustCanonical(plan(in)))
	slices.Reverse(in.Approved)
	for k, w := range in.Head.All() {
		w.Object.Serves = slices.Clone(w.Object.Serves)
		slices.Reverse(w.Object.Serves)
		in.Head = in.Head.With(k, w)
	}
	if got := string(schema.MustCanonical(plan(in))); got != approved {
		return fmt.Errorf("order shows:\n%s\n%s", got, approved)
	}
	in.Approved = nil
	if got := string(schema.MustCanonical(plan(in))); got != want {
		return fmt.Errorf("order shows:\n%s\n%s", got, want)
	}
	return nil
}

// subsets: nothing is done before its approval, and an approval of a set holds
// for that set and for each of its subsets.
func subsets(in Input, plan func(Input) schema.Plan) error {
	in.NotFastForward, in.Forced = "1111..2222", everything(in)
	p := plan(in)
	if !p.Empty() {
		return errors.New("a move that is no fast-forward did something before its approval")
	}
	if len(p.Awaits) == 0 {
		return nil
	}
	in.Approved = [][]string{append([]string{"create mem.job:dc9:other sha256:00"}, p.Awaits[0].Items...)}
	p = plan(in)
	if len(p.Awaits) > 0 {
		return fmt.Errorf("approved, but awaits: %+v", p.Awaits)
	}
	for i, part := range p.Partitions { // half of it is done; the rest is a subset
		if i%2 == in.Head.Len()%2 {
			in.Target = apply(in.Target, part.Items...)
		}
	}
	if p := plan(in); len(p.Awaits) > 0 {
		return fmt.Errorf("a subset of the approved set awaits: %+v", p.Awaits)
	}
	return nil
}

// Each guard is needed: without it, some input breaks the promise that it
// keeps, and every promise has a guard.
func TestGuardsBite(t *testing.T) {
	kept := map[string]bool{}
	for _, c := range []struct {
		guard, promise string
		off            func(*guards)
	}{
		{"equal", "ownership", func(g *guards) { g.equal = false }},
		{"complete", "partial reads", func(g *guards) { g.complete = false }},
		{"readable", "partial reads", func(g *guards) { g.readable = false }},
		{"frozen", "partial reads", func(g *guards) { g.frozen = false }},
		{"observe", "partial reads", func(g *guards) { g.observe = false }},
		{"tombstone", "partial reads", func(g *guards) { g.tombstone = false }},
		{"adoptable", "adoption", func(g *guards) { g.adoptable = false }},
		{"cap", "deletions", func(g *guards) { g.cap = false }},
		{"hour", "deletions", func(g *guards) { g.hour = false }},
		{"blast", "blast", func(g *guards) { g.blast = false }},
		{"order", "waves", func(g *guards) { g.order = false }},
		{"dangling", "waves", func(g *guards) { g.dangling = false }},
		{"superseded", "waves", func(g *guards) { g.superseded = false }},
		{"needs", "waves", func(g *guards) { g.needs = false }},
		{"notes", "explained", func(g *guards) { g.notes = false }},
		{"approvals", "converged", func(g *guards) { g.approvals = false }},
		{"sorted", "order-free", func(g *guards) { g.sorted, g.order = false, false }},
		{"approvals", "approvals", func(g *guards) { g.approvals = false }},
	} {
		kept[c.promise] = true
		t.Run(c.guard+"/"+c.promise, func(t *testing.T) {
			g := allGuards
			c.off(&g)
			gen := inputs()
			i := slices.IndexFunc(promises, func(p promise) bool { return p.name == c.promise })
			for seed := range 3000 {
				in := gen.Example(seed)
				if err := promises[i].keeps(in, func(in Input) schema.Plan { return plan(in, g) }); err != nil {
					t.Logf("without the guard %q: %s: %v", c.guard, c.promise, err)
					return
				}
			}
			t.Errorf("3,000 inputs kept %q without the guard %q", c.promise, c.guard)
		})
	}
	for _, p := range promises {
		if !kept[p.name] {
			t.Errorf("no guard is known to keep %q", p.name)
		}
	}
}
