package policy

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"locktide.dev/schema"
)

// Session judges commit after commit and judges anew what each touches; what
// it gives is what judging the whole would give. It is for one goroutine.
type Session struct {
	cfg   Config
	rules []*rule
	view  *view // nil: nothing was judged yet
	built map[*rule]*verdicts
	own   map[*Rule]*judged
}

// NewSession gives a session that has judged nothing.
func NewSession(cfg Config) *Session {
	if cfg.Deadline == 0 {
		cfg.Deadline = 5 * time.Second
	}
	return &Session{cfg: cfg, rules: builtin(cfg)}
}

// verdicts is what a built-in rule found, by key.
type verdicts struct {
	found map[string][]found
	keys  map[schema.Ref][]string // of what lies under keys, for rules that relate
	under map[string]map[schema.Ref]bool
}

// found is a finding whose places are not filled in yet: they move with lines
// that have nothing to do with it.
type found struct {
	schema.Finding
	related []schema.Ref
}

// Evaluate gives the findings of the built-in rules and of the users' own with
// positions, those that an exception sets aside marked, sorted. A rule that
// panics or is not done in time is a Deny finding: what was not judged does
// not pass.
func (s *Session) Evaluate(ctx context.Context, own []*Rule, in Input) []schema.Finding {
	if in.Fleet == nil {
		in.Fleet = &schema.Fleet{}
	}
	t := s.advance(in)
	all := s.judgedBefore(in)
	for _, r := range s.rules {
		for _, fs := range s.built[r].found {
			for _, f := range fs {
				if !r.teams || !all.has(f) {
					all = append(all, f)
				}
			}
		}
	}
	all = append(all, s.judgeOwn(ctx, own, in, t)...)
	return s.settle(all, own, in)
}

// advance judges by the built-in rules what in touches.
func (s *Session) advance(in Input) touched {
	if s.view == nil || !reflect.DeepEqual(s.view.teams, in.Fleet.Teams) {
		s.view, s.built, s.own = newView(in.Fleet.Teams), map[*rule]*verdicts{}, map[*Rule]*judged{}
		for _, r := range s.rules {
			s.built[r] = &verdicts{found: map[string][]found{}, keys: map[schema.Ref][]string{}, under: map[string]map[schema.Ref]bool{}}
		}
	}
	t := s.view.advance(in)
	for _, r := range s.rules {
		s.built[r].judge(r, s.view, t)
	}
	s.view.judged()
	return t
}

// judge brings the findings of r up to date.
func (s *verdicts) judge(r *rule, v *view, t touched) {
	keys := map[string]bool{}
	switch {
	case r.always:
		keys[""] = true
	case r.key == nil:
		for name := range t[r.kind] {
			keys[name] = true
		}
	default:
		for name := range t[r.kind] {
			s.move(r, v, name, keys)
		}
	}
	for key := range keys {
		delete(s.found, key)
		names := []string{key}
		if r.key != nil {
			names = s.names(key)
		}
		if len(names) == 0 || r.key == nil && !r.always && !v.defined(r.kind, key) {
			continue
		}
		if fs := check(r, v, key, names); len(fs) > 0 {
			s.found[key] = fs
		}
	}
}

// move puts an element under its keys of now, and touches these and those of before.
func (s *verdicts) move(r *rule, v *view, name string, keys map[string]bool) {
	ref := schema.NewRef(r.kind, name)
	for _, key := range s.keys[ref] {
		keys[key] = true
		delete(s.under[key], ref)
		if len(s.under[key]) == 0 {
			delete(s.under, key)
		}
	}
	delete(s.keys, ref)
	if !v.defined(r.kind, name) {
		return
	}
	for _, key := range r.key(v, name) {
		keys[key] = true
		if s.under[key] == nil {
			s.under[key] = map[schema.Ref]bool{}
		}
		s.under[key][ref] = true
		s.keys[ref] = append(s.keys[ref], key)
	}
}

// names gives the elements under a key, sorted.
func (s *verdicts) names(key string) []string {
	var out []string
	for ref := range s.under[key] {
		_, name := ref.Split()
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// defined says whether there is such an element.
func (v *view) defined(kind, name string) bool {
	switch kind {
	case "groups":
		return v.groups[name] != nil
	case "defaults":
		_, ok := v.Fleet.Positions[schema.NewRef(kind, name)]
		return ok
	}
	return v.Fleet.Defines(schema.NewRef(kind, name))
}

// check runs a built-in rule over what lies under one key.
func check(r *rule, v *view, key string, names []string) (out []found) {
	defer func() {
		if p := recover(); p != nil {
			out = []found{{Finding: failed(r.code, fmt.Sprintf("it panicked: %v", p))}}
		}
	}()
	r.check(v, key, names, func(f schema.Finding, related ...schema.Ref) {
		f.Code = r.code
		if f.Ref == "" && !r.always {
			f.Ref = schema.NewRef(r.kind, names[0])
		}
		if r.severity != "" {
			f.Severity = r.severity
		}
		out = append(out, found{f, related})
	})
	return out
}

func failed(code, why string) schema.Finding {
	return schema.Finding{Code: CodeRuleFailed, Severity: schema.Deny,
		Message: fmt.Sprintf("could not judge by rule %s: %s", code, why), Next: "repair the rule or switch it off"}
}

type allFound []found

// has says whether the same was found already, if in other words.
func (fs allFound) has(f found) bool {
	return slices.ContainsFunc(fs, func(have found) bool {
		return have.Code == f.Code && have.Ref == f.Ref && have.Field == f.Field && have.Severity == f.Severity
	})
}

// judgedBefore gives what the rules about teams find by the teams of the
// commit before, if it had any and this one changes them: a commit neither
// grants itself rights nor outlives their end.
func (s *Session) judgedBefore(in Input) allFound {
	if in.Previous == nil || len(in.Previous.Teams) == 0 || reflect.DeepEqual(in.Previous.Teams, in.Fleet.Teams) {
		return nil
	}
	fleet := *in.Fleet
	fleet.Teams = in.Previous.Teams
	in.Fleet = &fleet
	before := NewSession(s.cfg)
	before.rules = slices.DeleteFunc(before.rules, func(r *rule) bool { return !r.teams })
	before.advance(in)
	var out allFound
	for _, r := range before.rules {
		for _, key := range slices.Sorted(maps.Keys(before.built[r].found)) {
			out = append(out, before.built[r].found[key]...)
		}
	}
	return out
}

// settle fills in places, exceptions and what NextChange comes to.
func (s *Session) settle(all []found, own []*Rule, in Input) []schema.Finding {
	by := map[string]string{}
	for _, r := range own {
		by[r.Code] = r.By
	}
	exceptions, out := readExceptions(s.codes(own), in)
	idle := map[string]bool{} // exceptions that cover nothing
	if s.cfg.Advice {
		idle = exceptions.names()
	}
	for _, f := range all {
		for _, ref := range f.related {
			if at, ok := in.Fleet.Positions[ref]; ok {
				f.Related = append(slices.Clone(f.Related), at)
			}
		}
		if f.Severity == NextChange {
			f.Finding = onNextChange(f.Finding, by[f.Code], in)
		}
		f.Excepted = exceptions.covers(f.Finding)
		delete(idle, f.Excepted)
		out = append(out, f.Finding)
	}
	for _, name := range sortedKeys(idle) {
		out = append(out, schema.Finding{Code: CodeExceptionUnused, Severity: schema.Warn, Ref: schema.NewRef("exceptions", name),
			Message: fmt.Sprintf("the exception from %s covers nothing", in.Fleet.Exceptions[name].Rule), Next: "delete it"})
	}
	for i, f := range out {
		if f.At.File == "" {
			out[i].At = in.Fleet.Positions[f.Ref]
		}
	}
	order := func(a, b schema.Finding) int {
		return cmp.Or(cmp.Compare(a.Ref, b.Ref), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message), cmp.Compare(a.Severity, b.Severity))
	}
	slices.SortFunc(out, order)
	return slices.CompactFunc(out, func(a, b schema.Finding) bool { return order(a, b) == 0 && a.At == b.At })
}

// onNextChange warns of what stays as it was, until a date.
func onNextChange(f schema.Finding, by string, in Input) schema.Finding {
	over := false
	if last, err := time.Parse(time.DateOnly, by); err == nil && !in.Today.IsZero() {
		over = !in.Today.Before(last)
	}
	switch {
	case over:
		f.Severity = schema.Deny
		f.Message += " (time for it was until " + by + ")"
	case in.unchanged(f.Ref):
		f.Severity = schema.Warn
		f.Message += " (its next change must put that right"
		if by != "" {
			f.Message += ", on " + by + " at the latest"
		}
		f.Message += ")"
	default:
		f.Severity = schema.Deny
		f.Message += " (it is changed: the change must put that right)"
	}
	return f
}

// codes gives the rules that exceptions may name.
func (s *Session) codes(own []*Rule) map[string]bool {
	known := map[string]bool{}
	for _, code := range Codes() {
		known[code] = true
	}
	for _, r := range own {
		known[r.Code] = true
	}
	return known
}
