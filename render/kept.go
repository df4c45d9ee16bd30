package render

import (
	"bytes"
	"crypto/sha256"
	"reflect"
	"runtime"
	"slices"
	"sync"

	"locktide.dev/render/wire"
	"locktide.dev/schema"
)

// Store keeps what was rendered over restarts. What it gives is checked
// against the tree, so that it may be old, but it must be of this program.
type Store interface {
	Load() Kept
	Add(Kept)
}

// Kept is what a Store keeps: what units define, and what definitions come to
// with their layers.
type Kept struct {
	Units       map[string]KeptUnit // by task
	Definitions map[schema.Ref]KeptDefinition
}

// KeptUnit is what a unit defines. Stamp tells what that was made of.
type KeptUnit struct {
	Task    Task
	Hashes  []string // of the task's files
	Reads   []string // files and folders that it depends on
	Stamp   string
	Library bool
	Roots   []byte    // all that it says, packed; empty if Defs is all
	Defs    []KeptDef // that were checked and are well
}

// KeptDef is a definition before layering.
type KeptDef struct {
	Ref   schema.Ref
	At    schema.Position
	Value []byte // packed
}

// KeptDefinition is what a definition came to. Stamp tells what it was made of.
type KeptDefinition struct {
	Ref     schema.Ref
	Stamp   string
	Outputs []KeptOutput
}

// KeptOutput is one definition after layering.
type KeptOutput struct {
	Ref   schema.Ref
	At    schema.Position
	Unit  string
	Place string   // of a group: its datacenter
	After []string // of a group: cells that go before it
	Value []byte   // packed: of a group its body, empty if it is that of the group before
}

// stampOf stands for a list of texts.
func stampOf(lists ...[]string) string {
	var w wire.Writer
	for _, l := range lists {
		w.Texts(l)
	}
	sum := sha256.Sum256(w.Bytes())
	return string(sum[:16])
}

// keep gives what a store keeps of a unit without an error.
func (u *unit) keep(hashes []string) KeptUnit {
	k := KeptUnit{Task: u.task, Hashes: hashes, Reads: u.answer.Reads, Stamp: u.stamp, Library: u.answer.Library}
	if u.answer.Library || !u.defines.plain() {
		k.Roots = wire.Pack(u.answer.Roots...)
		return k
	}
	for _, d := range u.defines.defs {
		k.Defs = append(k.Defs, KeptDef{d.ref, d.at, d.value.b})
	}
	return k
}

// recalled gives a unit as it was kept.
func recalled(k KeptUnit) *unit {
	u := &unit{task: k.Task, answer: Answer{Reads: k.Reads, Library: k.Library}, roots: k.Roots, stamp: k.Stamp}
	if len(k.Roots) > 0 {
		return u
	}
	u.defines = &contribution{unit: k.Task.Name, file: k.Task.Files[0], remove: map[schema.Ref]schema.Position{}}
	for _, d := range k.Defs {
		u.defines.named = append(u.defines.named, d.Ref)
		u.defines.defs = append(u.defines.defs, definition{d.Ref, d.At, &value{d.Value}, k.Task.Name, k.Task.Files[0]})
	}
	return u
}

// memory is what a store gave, until the first tree is rendered.
type memory struct {
	units       map[string]KeptUnit
	packages    map[string][2]string // of files: their hash and package
	definitions map[schema.Ref]*recollection
	decoded     sync.WaitGroup
}

// recollection is a kept definition; without outputs once it turned out to be unreadable.
type recollection struct {
	stamp   string
	outputs []output
}

// remember begins to read what the store keeps, if that is still to be done;
// the result waits for it.
func (s *Session) remember() func() *memory {
	if s.store == nil || s.state.listing != nil {
		return func() *memory { return nil }
	}
	read := make(chan *memory, 1)
	go func() { read <- recollect(s.store.Load()) }()
	return func() *memory { return <-read }
}

// recollect makes a memory of what a store keeps. The definitions are decoded meanwhile, on
// all processors: they are most of the work.
func recollect(k Kept) *memory {
	m := &memory{units: k.Units, packages: make(map[string][2]string, len(k.Units)), definitions: make(map[schema.Ref]*recollection, len(k.Definitions))}
	type task struct {
		from KeptDefinition
		to   *recollection
	}
	tasks := make([]task, 0, len(k.Definitions))
	for ref, d := range k.Definitions {
		to := &recollection{stamp: d.Stamp}
		m.definitions[ref] = to
		tasks = append(tasks, task{d, to})
	}
	for part := range slices.Chunk(tasks, 1+len(tasks)/runtime.GOMAXPROCS(0)) {
		m.decoded.Go(func() {
			for _, t := range part {
				t.to.outputs = t.from.outputs()
			}
		})
	}
	for _, u := range k.Units {
		for i, name := range u.Task.Files {
			m.packages[name] = [2]string{u.Hashes[i], u.Task.Package}
		}
	}
	return m
}

// vocabulary is what definitions are decoded to, by kind; groups are their bodies.
var vocabulary = map[string]reflect.Type{
	"hosts": reflect.TypeFor[schema.Host](), "pools": reflect.TypeFor[schema.Pool](), "apps": reflect.TypeFor[schema.App](), "groups": reflect.TypeFor[schema.Body](),
	"routes": reflect.TypeFor[schema.Route](), "consul": reflect.TypeFor[schema.Consul](), "stages": reflect.TypeFor[schema.Stage](), "teams": reflect.TypeFor[schema.Team](), "exceptions": reflect.TypeFor[schema.Exception](),
}

// outputs decodes what is kept of a definition; nothing if it cannot be read.
func (k KeptDefinition) outputs() []output {
	var v any
	out := make([]output, len(k.Outputs))
	for i, o := range k.Outputs {
		kind, name := o.Ref.Split()
		if t := vocabulary[kind]; kind != "groups" || len(o.Value) > 0 {
			if t == nil {
				return nil
			}
			into, r := reflect.New(t), wire.NewReader(o.Value)
			if r.Value(into.Interface()); r.End() != nil {
				return nil
			}
			v = into.Elem().Interface()
		}
		out[i] = output{ref: o.Ref, at: o.At, unit: o.Unit, value: v}
		if body, ok := v.(schema.Body); ok {
			app, stage, _ := cutGroup(name)
			out[i].value = schema.Group{App: app, Stage: stage, Datacenter: o.Place, After: o.After, Body: body}
		}
	}
	return out
}

// keep gives what a store keeps of a definition; not ok of one with an error.
func (r *resolved) keep(ref schema.Ref, stamp string) (KeptDefinition, bool) {
	k := KeptDefinition{Ref: ref, Stamp: stamp}
	if stamp == "" || len(r.found) > 0 {
		return k, false
	}
	var last []byte
	for _, o := range r.outputs {
		out, v := KeptOutput{Ref: o.ref, At: o.at, Unit: o.unit}, o.value
		g, group := v.(schema.Group)
		if group {
			out.Place, out.After, v = g.Datacenter, g.After, g.Body
		}
		if out.Value = wire.PackValue(v); group {
			if bytes.Equal(out.Value, last) {
				out.Value = nil
			} else {
				last = out.Value
			}
		}
		k.Outputs = append(k.Outputs, out)
	}
	return k, true
}
