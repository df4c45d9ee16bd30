// Package importer writes definitions of what runs: every driver says what is
// there (drivers.Exporter), and this package chooses names and files.
package importer

import (
	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// Options say how definitions are named.
type Options struct {
	Stage    string // of all groups
	Date     string // of the import, YYYY-MM-DD
	Selected func(name string) bool
	Typed    bool                  // write jobs as fields where they come to the same
	Raw      map[schema.Ref]string // groups that are written as raw jobs all the same, and why
	Stages   map[string]schema.Stage
	Taken    map[schema.Ref]bool   // apps, hosts, routes and consul definitions that are defined already
	Objects  map[schema.Key]string // that are defined already, with the group of each that has one
	Places   map[Place]bool        // that routes serve already
}

func (o Options) selected(x drivers.Exported) bool { return x.Asked || o.Selected(x.Name) }

func (o Options) defines(k schema.Key) bool {
	_, ok := o.Objects[k]
	return ok
}

// Item is one object that was looked at.
type Item struct {
	Key     schema.Key
	Ref     schema.Ref // the definition
	File    string
	Needs   []schema.Ref // definitions that this one refers to
	Secrets []string     // fields whose values look like secrets
	Notes   []string
	At      string // FILE:LINE where the backend's configuration says it
	Why     string // it is not defined
}

// Result is what an import writes: files by path, and what became of each
// object, in the order in which the drivers export.
type Result struct {
	Files   map[string][]byte
	Defined []Item
	Refused []Item
}

// Define gives the definitions of what the drivers export.
func Define(exported []drivers.Exported, o Options) Result {
	out := Result{Files: map[string][]byte{}}
	out.jobs(exported, o)
	out.hosts(exported, o)
	out.stray(exported, o)
	out.consul(exported, o)
	out.routes(exported, o)
	return out
}

func (r *Result) refuse(x drivers.Exported, why string) {
	r.Refused = append(r.Refused, Item{Key: x.Key, At: x.At, Why: why})
}

// Without takes definitions out of a result, each with why; with one, the
// others of its file, and what refers to it.
func (r Result) Without(why map[schema.Ref]string) Result {
	gone := map[schema.Ref]string{}
	for ref, text := range why {
		gone[ref] = text
	}
	files := map[string]schema.Ref{} // that go -> a definition because of which
	for again := true; again; {
		again = false
		for _, item := range r.Defined {
			_, out := gone[item.Ref]
			because, fileGone := files[item.File]
			switch {
			case out && !fileGone:
				files[item.File], again = item.Ref, true
			case !out && fileGone:
				gone[item.Ref], again = "it shares its file with "+string(because)+", which is not imported", true
			case !out:
				for _, need := range item.Needs {
					if _, lacks := gone[need]; lacks {
						gone[item.Ref], again = "it refers to "+string(need)+", which is not imported", true
					}
				}
			}
		}
	}
	out := Result{Files: r.Files, Refused: r.Refused}
	for _, item := range r.Defined {
		if text, bad := gone[item.Ref]; bad {
			out.Refused = append(out.Refused, Item{Key: item.Key, At: item.At, Why: text})
		} else {
			out.Defined = append(out.Defined, item)
		}
	}
	for file := range files {
		delete(out.Files, file)
	}
	return out
}
