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
	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
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

// Store keeps answers over restarts. What it gives is checked against the
// tree, so that it may be old, but it must be of this program.
type Store interface {
	Load() map[string]Kept // by task
	Add([]Kept)
}

// Kept is an answer with what it was made of.
type Kept struct {
	Task   Task
	Answer Answer
	Made   []string // of Answer.Reads: hashes, in the same order
}

// state is what a session knows of the newest tree that it rendered.
type state struct {
	listing  *source.Listing
	packages map[string]string // of .cue files
	units    map[string]*unit  // by name
	readers  map[string][]string
	resolved map[schema.Ref]*resolved
	layers   *layers
	found    []schema.Finding // about the tree itself
	result   Result
	flat     map[string]map[string]definition
	named    map[schema.Ref]bool
	shared   map[schema.Ref]bool // defined by several units
	refers   map[schema.Ref]bool // points at something that is missing

	evaluated int      // units
	touched   []string // units that are not as they were
}

// unit is what fails or holds as a whole: a CUE package or a file.
type unit struct {
	task    Task
	answer  Answer
	defines *contribution
	library bool // imported by others and defines nothing itself
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
func (s *Session) scan(fsys fs.FS, next *state) ([]Task, error) {
	listing, err := source.List(fsys, s.state.listing)
	if err != nil {
		return nil, err
	}
	changed := listing.Since(s.state.listing)
	*next = state{listing: listing, packages: maps.Clone(s.state.packages), units: maps.Clone(s.state.units)}
	if next.units == nil {
		next.packages, next.units = map[string]string{}, map[string]*unit{}
	}
	folders, touched := map[string]bool{}, map[string]bool{}
	for _, name := range changed {
		for _, reader := range s.state.readers[name] {
			touched[reader] = true
		}
		if path.Ext(name) == ".cue" {
			dir := path.Dir(name)
			before, known := s.state.packages[name]
			now, exists := "", listing.Hash(name) != ""
			if exists {
				now = cuelang.PackageOf(fsys, name)
				next.packages[name] = now
			} else {
				delete(next.packages, name)
			}
			if known != exists || now != before {
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
	if s.store != nil && s.state.listing == nil {
		for _, t := range tasks {
			fresh[t.Name] = true
		}
		tasks = next.recall(s.store.Load(), tasks)
	}
	next.evaluated = len(tasks)
	answers, err := s.eval.Evaluate(ctx, fsys, tasks)
	if err != nil {
		return err
	}
	if len(answers) != len(tasks) {
		return fmt.Errorf("the evaluator gave %d answers to %d tasks", len(answers), len(tasks))
	}
	var keep []Kept
	for i, t := range tasks {
		fresh[t.Name] = true
		next.units[t.Name] = &unit{task: t, answer: answers[i]}
		if len(answers[i].Found) == 0 {
			keep = append(keep, Kept{t, answers[i], next.made(answers[i].Reads)})
		}
	}
	if s.store != nil && len(keep) > 0 {
		s.store.Add(keep)
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
			u = &unit{task: u.task, answer: u.answer, library: library}
			u.defines = contribute(s.types, u)
			next.units[name] = u
			next.touched = append(next.touched, name)
		}
	}
	return nil
}

// recall takes the tasks whose answers are kept and still hold.
func (st *state) recall(kept map[string]Kept, tasks []Task) (rest []Task) {
	for _, t := range tasks {
		k, ok := kept[t.Name]
		if !ok || k.Task.Package != t.Package || !slices.Equal(k.Task.Files, t.Files) || !slices.Equal(st.made(k.Answer.Reads), k.Made) {
			rest = append(rest, t)
			continue
		}
		st.units[t.Name] = &unit{task: t, answer: k.Answer}
	}
	return rest
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

func (u *unit) roots() []*tree.Node {
	if u.library {
		return nil
	}
	return u.answer.Roots
}

func (u *unit) found() []schema.Finding {
	if u.library {
		return nil
	}
	return u.answer.Found
}
