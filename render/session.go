package render

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"locktide.dev/render/cuelang"
	"locktide.dev/render/source"
	"locktide.dev/render/wire"
	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
	"locktide.dev/schema/persistent"
	"locktide.dev/schema/tree"
)

// Session renders one tree after another and pays for what changed: units
// whose files are the same are not evaluated again, and definitions that they
// and their layers leave the same are not resolved again. It is for one
// goroutine.
type Session struct {
	types *cueschema.Schema
	eval  Evaluator
	store Store
	state state
}

// state is what a session knows of the newest tree that it rendered.
type state struct {
	listing  *source.Listing
	packages map[string]string // of .cue files
	units    map[string]*unit  // by name
	readers  map[string][]string
	resolved persistent.Map[schema.Ref, *resolved]
	layers   *layers
	found    []schema.Finding // about the tree itself
	result   Result
	flat     map[string]map[string]definition
	named    map[schema.Ref]bool
	shared   map[schema.Ref]bool // defined by several units
	refers   map[schema.Ref]bool // points at something that is missing

	evaluated int      // units
	touched   []string // units that are not as they were
	memory    *memory  // of the first render of a session with a store
	keep      *Kept    // what the store, if there is one, does not have yet
}

// unit is what fails or holds as a whole: a CUE package or a file.
type unit struct {
	task    Task
	answer  Answer // without its roots
	roots   []byte // packed, if what it defines depends on others
	defines *contribution
	library bool   // imported by others and defines nothing itself
	stamp   string // of all that it was made of; empty if it has an error
}

// NewSession gives a session that evaluates with e (nil evaluates here) and
// keeps what it evaluated in store, if that is not nil.
func NewSession(e Evaluator, store Store) (*Session, error) {
	types, err := cueschema.Load()
	if err != nil {
		return nil, err
	}
	if e == nil {
		e = Local{}
	}
	return &Session{types: types, eval: e, store: store}, nil
}

// scan brings the list of units up to a tree: next gets the units that stay as
// they are, the result says which must be evaluated.
func (s *Session) scan(fsys fs.FS, next *state, remembered func() *memory) ([]Task, error) {
	listing, err := source.List(fsys, s.state.listing)
	if err != nil {
		return nil, err
	}
	changed := listing.Since(s.state.listing)
	*next = state{memory: remembered(), keep: next.keep, listing: listing, packages: s.state.packages, units: maps.Clone(s.state.units)}
	if next.units == nil {
		next.packages, next.units = map[string]string{}, map[string]*unit{}
	}
	folders, touched := map[string]bool{}, map[string]bool{}
	own := false // next's packages are not those of before
	for _, name := range changed {
		for _, reader := range s.state.readers[name] {
			touched[reader] = true
		}
		if path.Ext(name) == ".cue" {
			dir := path.Dir(name)
			before, known := s.state.packages[name]
			now, exists := "", listing.Hash(name) != ""
			if exists {
				now = next.packageOf(fsys, name)
			}
			if known != exists || now != before {
				if !own {
					next.packages, own = maps.Clone(next.packages), true
				}
				if next.packages[name] = now; !exists {
					delete(next.packages, name)
				}
				for _, reader := range s.state.readers[path.Join(dir, "*.cue")] {
					touched[reader] = true
				}
			}
			folders[dir] = folders[dir] || source.Defines(name)
		}
	}
	var tasks []Task
	add := func(t Task) {
		if old := next.units[t.Name]; old == nil || touched[t.Name] || !slices.Equal(old.task.Files, t.Files) || intersect(t.Files, changed) {
			tasks = append(tasks, t)
		}
	}
	for _, name := range changed {
		if source.Defines(name) && path.Ext(name) != ".cue" {
			if listing.Hash(name) == "" {
				delete(next.units, name)
			} else {
				add(Task{Name: name, Files: []string{name}})
				delete(touched, name)
			}
		}
	}
	for dir := range folders {
		if folders[dir] {
			want := cueTasks(listing.In(dir, ".cue"), next.packages)
			for name, u := range next.units {
				if u.task.dir() == dir && u.task.cue() && want[name].Name == "" {
					delete(next.units, name)
				}
			}
			for name, t := range want {
				add(t)
				delete(touched, name)
			}
		}
	}
	for name := range touched {
		if u := next.units[name]; u != nil {
			tasks = append(tasks, u.task)
		}
	}
	slices.SortFunc(tasks, func(a, b Task) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(tasks, func(a, b Task) bool { return a.Name == b.Name }), nil
}

// packageOf gives the package of a .cue file.
func (st *state) packageOf(fsys fs.FS, name string) string {
	if st.memory != nil {
		if known, ok := st.memory.packages[name]; ok && known[0] == st.listing.Hash(name) {
			return known[1]
		}
	}
	return cuelang.PackageOf(fsys, name)
}

// cueTasks gives the tasks that the .cue files of one folder make, by name.
func cueTasks(files []string, packages map[string]string) map[string]Task {
	out := map[string]Task{}
	for pkg, files := range cuelang.Group(files, func(name string) string { return packages[name] }) {
		if pkg != "" {
			t := Task{Name: cuelang.Label(path.Dir(files[0]), pkg), Package: pkg, Files: files}
			out[t.Name] = t
			continue
		}
		for _, name := range files {
			out[name] = Task{Name: name, Files: []string{name}}
		}
	}
	return out
}

func intersect(a, b []string) bool {
	for _, x := range a {
		if _, ok := slices.BinarySearch(b, x); ok {
			return true
		}
	}
	return false
}

// evaluate runs the tasks and puts their units into next.
func (s *Session) evaluate(ctx context.Context, fsys fs.FS, tasks []Task, next *state) error {
	fresh := map[string]bool{} // units that may say something else
	if next.memory != nil {
		for _, t := range tasks {
			fresh[t.Name] = true
		}
		tasks = next.recall(tasks)
	}
	next.evaluated = len(tasks)
	answers, err := s.eval.Evaluate(ctx, fsys, tasks)
	if err != nil {
		return err
	}
	if len(answers) != len(tasks) {
		return fmt.Errorf("the evaluator gave %d answers to %d tasks", len(answers), len(tasks))
	}
	for i, t := range tasks {
		fresh[t.Name] = true
		next.units[t.Name] = &unit{task: t, answer: answers[i]}
	}
	same := len(next.units) == len(s.state.units)
	for name := range fresh {
		same = same && s.state.units[name] != nil && slices.Equal(s.state.units[name].answer.Reads, next.units[name].answer.Reads)
	}
	if next.readers = s.state.readers; !same {
		next.readers = map[string][]string{}
		for name, u := range next.units {
			fresh[name] = true
			for _, p := range u.answer.Reads {
				next.readers[p] = append(next.readers[p], name)
			}
		}
	}
	for name := range fresh {
		u := next.units[name]
		library := u.answer.Library && imported(name, u, next.readers)
		if u.defines == nil || library != u.library {
			u = &unit{task: u.task, answer: u.answer, roots: u.roots, stamp: u.stamp, library: library}
			u.defines = contribute(s.types, u)
			next.units[name] = u
		}
		if s.state.units[name] != u {
			next.touched = append(next.touched, name)
		}
	}
	for _, t := range tasks {
		u := next.units[t.Name]
		if next.keep != nil && len(u.answer.Found) == 0 {
			u.stamp = next.stamp(t, u.answer.Reads)
			next.keep.Units[t.Name] = u.keep(next.made(t.Files))
		}
		if u.answer.Library {
			u.roots = wire.Pack(u.answer.Roots...)
		}
		u.answer.Roots = nil
	}
	return nil
}

// recall takes the tasks whose units are kept and still hold.
func (st *state) recall(tasks []Task) (rest []Task) {
	for _, t := range tasks {
		k, ok := st.memory.units[t.Name]
		if !ok || k.Task.Package != t.Package || !slices.Equal(k.Task.Files, t.Files) || k.Stamp != st.stamp(t, k.Reads) {
			rest = append(rest, t)
			continue
		}
		st.units[t.Name] = recalled(k)
	}
	return rest
}

// stamp tells what a unit is made of: the same only for the same files, with
// the same content.
func (st *state) stamp(t Task, reads []string) string {
	return stampOf([]string{t.Name, t.Package}, t.Files, reads, st.made(reads))
}

// made gives the hashes of what an answer depends on.
func (st *state) made(reads []string) []string {
	out := make([]string, len(reads))
	for i, p := range reads {
		if path.Base(p) != "*.cue" {
			out[i] = st.listing.Hash(p)
			continue
		}
		for _, name := range st.listing.In(path.Dir(p), ".cue") {
			out[i] += path.Base(name) + ":" + st.packages[name] + " "
		}
	}
	return out
}

// imported says whether another unit reads the unit's files.
func imported(name string, u *unit, readers map[string][]string) bool {
	return slices.ContainsFunc(readers[u.task.Files[0]], func(reader string) bool { return reader != name })
}

// says gives the values of a unit.
func (u *unit) says() []*tree.Node {
	switch {
	case u.library:
		return nil
	case u.roots != nil:
		return unpack(u.roots)
	}
	return u.answer.Roots
}

func (u *unit) found() []schema.Finding {
	if u.library {
		return nil
	}
	return u.answer.Found
}
