package policy

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"

	"locktide.dev/schema"
)

// judged is what a rule of the users' own found, by element.
type judged struct {
	found map[string]schema.Finding
	whole bool // every element was judged; else all are to be judged again
}

// judgeOwn judges by the users' rules what is touched, and everything by rules
// that are new.
func (s *Session) judgeOwn(ctx context.Context, own []*Rule, in Input, t touched) (out []found) {
	before := s.own
	s.own = map[*Rule]*judged{}
	made := elements{in: in, whole: map[string][]Element{}}
	for _, r := range own {
		j, list := before[r], []Element(nil)
		if j == nil || !j.whole {
			j, list = &judged{found: map[string]schema.Finding{}}, made.all(r.Kind)
		} else {
			for name := range t[r.Kind] {
				delete(j.found, name)
			}
			list = made.of(r.Kind, t[r.Kind])
		}
		s.own[r] = j
		faults, err := s.ask(ctx, r, list)
		j.whole = err == nil
		if err != nil {
			f := failed(r.Code, err.Error())
			f.At = r.At
			out = append(out, found{Finding: f})
		}
		for _, f := range faults {
			e := list[f.Element]
			j.found[e.name] = schema.Finding{Code: r.Code, Severity: r.Severity, Ref: e.ref, Field: f.Field, Message: f.Message, Related: []schema.Position{r.At}}
		}
		for _, f := range j.found {
			out = append(out, found{Finding: f})
		}
	}
	return out
}

// ask lets a rule judge until its deadline. One that cannot be interrupted is
// left to end by itself.
func (s *Session) ask(ctx context.Context, r *Rule, list []Element) ([]Fault, error) {
	if len(list) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Deadline)
	defer cancel()
	type answer struct {
		faults []Fault
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- answer{nil, fmt.Errorf("it panicked: %v", p)}
			}
		}()
		faults, err := r.Judge(ctx, list)
		for _, f := range faults {
			if f.Element < 0 || f.Element >= len(list) {
				faults, err = nil, fmt.Errorf("it names element %d of %d", f.Element, len(list))
				break
			}
		}
		done <- answer{faults, err}
	}()
	select {
	case a := <-done:
		if a.err == nil || ctx.Err() == nil {
			return a.faults, a.err
		}
	case <-ctx.Done():
	}
	return nil, fmt.Errorf("it took longer than %s", s.cfg.Deadline)
}

// elements makes what rules range over.
type elements struct {
	in    Input
	whole map[string][]Element // kinds of which all were asked for
}

func (e elements) all(kind string) []Element {
	if _, ok := e.whole[kind]; !ok {
		e.whole[kind] = e.of(kind, e.names(kind))
	}
	return e.whole[kind]
}

func (e elements) names(kind string) map[string]bool {
	switch kind {
	case "groups":
		return set(e.in.Fleet.Groups.Keys())
	case "apps":
		return set(maps.Keys(e.in.Fleet.Apps))
	case "routes":
		return set(maps.Keys(e.in.Fleet.Routes))
	case "hosts":
		return set(maps.Keys(e.in.Fleet.Hosts))
	case "consul":
		return set(maps.Keys(e.in.Fleet.Consul))
	}
	out := make(map[string]bool, e.in.Objects.Len())
	for k := range e.in.Objects.Keys() {
		out[k.String()] = true
	}
	return out
}

func set(names iter.Seq[string]) map[string]bool {
	out := map[string]bool{}
	for name := range names {
		out[name] = true
	}
	return out
}

// object gives an object by its key as text.
func (e elements) object(name string) (schema.Object, bool) {
	k, err := schema.ParseKey(name)
	if err != nil {
		return schema.Object{}, false
	}
	w, ok := e.in.Objects.Find(k)
	return w.Object, ok
}

// of gives the elements of a kind among names, sorted.
func (e elements) of(kind string, names map[string]bool) []Element {
	var out []Element
	for _, name := range sortedKeys(names) {
		if kind == "objects" {
			o, ok := e.object(name)
			if !ok {
				continue
			}
			ref := schema.NewRef("groups", o.Group)
			if o.Group == "" && len(o.From) > 0 {
				ref = o.From[0]
			}
			out = append(out, Element{schema.MustCanonical(o), name, ref})
			continue
		}
		ref := schema.NewRef(kind, name)
		value, ok := e.in.Fleet.Definition(ref)
		if !ok {
			continue
		}
		if g, ok := value.(schema.Group); ok {
			g.Tier = cmp.Or(g.Tier, e.in.Fleet.Apps[g.App].Tier)
			value = g
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(schema.MustCanonical(value), &m); err != nil {
			continue // definitions are objects
		}
		m["name"] = schema.MustCanonical(name)
		out = append(out, Element{schema.MustCanonical(m), name, ref})
	}
	return out
}
