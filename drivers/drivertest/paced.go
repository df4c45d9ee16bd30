package drivertest

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

//go:embed paced/*.txt
var scripts embed.FS

// Backend is a driver with a paced kind, on a backend on which a script can
// lay its hands. Every function works on the one group of the script.
type Backend struct {
	Driver drivers.Driver
	// Compile gives the group's object.
	Compile func(t *testing.T, d Definition) schema.Object
	// Doom makes the member with that index crash, again and again, on that
	// release: now and whenever it is placed anew.
	Doom func(t *testing.T, index int, release string)
	// Scale and Stop are what somebody else does to the object; Scale says
	// whether it was let.
	Scale func(t *testing.T, o schema.Object, n int) bool
	Stop  func(t *testing.T, o schema.Object)
	// Settle lets the backend do what it would still do by itself.
	Settle func(t *testing.T, o schema.Object)
	// Wait bounds how long a reading may take to become as expected; default
	// two minutes.
	Wait time.Duration
}

// Definition is the group as a script wants it.
type Definition struct {
	Release string // "v1"; another one replaces members
	Count   int
	Edit    string // another one changes members in place
	System  bool   // one member on every node
}

// step is a command of a script and the reading that it must lead to.
type step struct {
	line    int
	command []string
	want    []string
}

// PlayPaced plays every script of paced/: the same commands must lead to the
// same observations on every backend, step by step. open gives a fresh
// backend for each.
func PlayPaced(t *testing.T, open func(t *testing.T, script string) Backend) {
	t.Helper()
	files, err := fs.Glob(scripts, "paced/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "paced/"), ".txt")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := scripts.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b := open(t, name)
			if b.Wait == 0 {
				b.Wait = 2 * time.Minute
			}
			p := &player{Backend: b, labels: map[schema.Digest]string{}}
			for _, s := range parseScript(string(text)) {
				p.play(t, file, s)
			}
		})
	}
}

func parseScript(text string) (out []step) {
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "  "):
			last := &out[len(out)-1]
			last.want = append(last.want, strings.TrimSpace(line))
		default:
			out = append(out, step{line: i + 1, command: strings.Fields(line)})
		}
	}
	return out
}

// player is one script under way.
type player struct {
	Backend
	def    Definition
	object schema.Object
	labels map[schema.Digest]string
}

func (p *player) play(t *testing.T, file string, s step) {
	t.Helper()
	effect := p.do(t, s.command)
	want := strings.Join(s.want, "\n")
	deadline := time.Now().Add(p.Wait)
	for calm := false; ; {
		if p.object.Paced != nil { // otherwise nothing was written yet
			p.Settle(t, p.object)
		}
		got := strings.Join(append(slices.Clone(effect), p.read(t)...), "\n")
		if got == want && calm {
			return
		}
		// Only what stays, once the backend had its way, counts.
		if calm = got == want; !calm && time.Now().After(deadline) {
			t.Errorf("%s:%d: %s leads to\n%s\nwant\n%s", file, s.line, strings.Join(s.command, " "), indent(got), indent(want))
			return
		}
	}
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// do carries out one command and says what it gave, when that matters.
func (p *player) do(t *testing.T, words []string) []string {
	t.Helper()
	args := words[1:]
	switch words[0] {
	case "stage", "park", "update":
		a := schema.Action{Verb: schema.Verb(words[0]), Parallel: 1}
		p.define(t, args, &a)
		return p.act(t, a)
	case "approve", "move":
		return p.act(t, schema.Action{Verb: schema.Verb(words[0]), Members: p.pick(t, args)})
	case "delete":
		return p.act(t, schema.Action{Verb: schema.VerbDelete})
	case "doom":
		for _, arg := range args {
			index, release := split(t, arg)
			p.Doom(t, index, release)
		}
	case "scale":
		if !p.Scale(t, p.object, number(t, args[0])) {
			return []string{"refused"}
		}
	case "stop":
		p.Stop(t, p.object)
	default:
		t.Fatalf("unknown command %q", words[0])
	}
	return nil
}

func (p *player) define(t *testing.T, args []string, a *schema.Action) {
	t.Helper()
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "count":
			p.def.Count = number(t, value)
		case "edit":
			p.def.Edit = value
		case "parallel":
			a.Parallel = number(t, value)
		case "canary":
			a.Canary = number(t, value)
		case "system":
			p.def.System = true
		default:
			p.def.Release = name
		}
	}
	p.object = p.Compile(t, p.def)
	p.labels[p.object.Release] = p.def.Release
}

func (p *player) act(t *testing.T, a schema.Action) []string {
	t.Helper()
	_, entry, _ := p.object.Seal()
	a.Rollout, a.Key, a.To, a.Object = "script", p.object.Key, entry, &p.object
	live := p.observe(t)
	a.If = live.Objects[0].Version
	if live.Objects[0].State == schema.StateAbsent {
		a.If = ""
	}
	out := p.Driver.Apply(t.Context(), []schema.Action{a.Sealed()})
	switch {
	case len(out) != 1:
		t.Fatalf("%d outcomes of one action", len(out))
	case out[0].Failure != nil:
		return []string{string(out[0].Failure.Kind)}
	case out[0].Receipt != nil && len(a.Members) == 0 && out[0].Receipt.Version == a.If:
		return []string{"nothing written"}
	}
	return nil
}

// pick names members: "2/v1" by index and release, "v1" all running ones of
// that release that are not approved yet.
func (p *player) pick(t *testing.T, args []string) (ids []string) {
	t.Helper()
	deadline := time.Now().Add(p.Wait)
	for _, arg := range args {
		for found := false; !found; {
			for _, m := range p.observe(t).Members {
				match := p.labels[m.Release] == arg && m.Running && m.Approved == nil
				if strings.Contains(arg, "/") {
					index, release := split(t, arg)
					match = !found && m.Index == index && p.labels[m.Release] == release
				}
				if match && m.Key == p.object.Key {
					ids, found = append(ids, m.ID), true
				}
			}
			if !found && time.Now().After(deadline) {
				t.Fatalf("no member is %s", arg)
			}
		}
	}
	return ids
}

func (p *player) observe(t *testing.T) schema.Live {
	t.Helper()
	deadline := time.Now().Add(p.Wait)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		live, err := p.Driver.Observe(ctx, drivers.Query{Want: []drivers.Want{{Object: p.object}}, Members: true})
		cancel()
		if err == nil && live.Complete && len(live.Objects) == 1 {
			return live
		}
		if time.Now().After(deadline) {
			t.Fatalf("cannot observe: %v", errors.Join(err, errors.New(live.Missing)))
		}
	}
}

// read gives what the engine sees, without identities and times.
func (p *player) read(t *testing.T) []string {
	t.Helper()
	live := p.observe(t)
	o := live.Objects[0]
	out := []string{fmt.Sprintf("%s count=%d", o.State, o.Count)}
	if g := o.Progress; g != nil && o.State != schema.StateAbsent {
		line := g.Status
		if g.Parked {
			line += " parked"
		} else {
			line += fmt.Sprintf(" parallel=%d canary=%d", g.Parallel, g.Canary)
		}
		out = append(out, fmt.Sprintf("%s desired=%d %s", line, g.Desired, p.label(g.Release)))
	}
	type row struct {
		index int
		text  string
	}
	var rows []row
	for _, m := range live.Members {
		if m.Key != o.Key {
			continue
		}
		line := fmt.Sprintf("%d/%s", m.Index, p.label(m.Release))
		for _, word := range []struct {
			is   bool
			text string
		}{{m.Running, "running"}, {m.Pending, "pending"}, {m.Failed, "failed"}, {m.Approved != nil && *m.Approved, "approved"},
			{m.Approved != nil && !*m.Approved, "rejected"}, {!m.Current, "old"}} {
			if word.is {
				line += " " + word.text
			}
		}
		rows = append(rows, row{m.Index, line})
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.text, b.text)) })
	for _, r := range rows {
		out = append(out, r.text)
	}
	return out
}

func (p *player) label(release schema.Digest) string {
	if name, ok := p.labels[release]; ok {
		return name
	}
	return "?"
}

func split(t *testing.T, arg string) (index int, release string) {
	t.Helper()
	i, release, ok := strings.Cut(arg, "/")
	if !ok {
		t.Fatalf("member %q: want index/release", arg)
	}
	return number(t, i), release
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%q is no number", text)
	}
	return n
}
