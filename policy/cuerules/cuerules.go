// Package cuerules runs the rules that users keep as CUE in the policy/
// folder of their definitions repository:
//
//	rules: "web-needs-two": {
//		severity: "deny"                  // or "warn"; deny when left out
//		for:      "groups"                // groups, apps, routes, hosts or objects
//		when: {stage: "prod", tier: "access"}
//		must: count: >=2
//		message: "public groups run at least twice"
//	}
//
// Files see no network, registry or environment; they may import CUE's own
// packages only.
package cuerules

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/cuecontext"
	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"

	"locktide.dev/policy"
	"locktide.dev/schema"
)

// Folder is where rules lie in a definitions repository.
const Folder = "policy"

// CodeInvalid is the code of findings about rule files.
const CodeInvalid = "policy-invalid"

const (
	maxFile   = 1 << 20 // bytes of one rule file
	loadLimit = 10 * time.Second
)

// Load reads every .cue file of fsys (the policy folder) and gives the rules
// that they declare, in order of their codes. Findings name what could not be
// read with line and file, as it is called in fsys; the other rules are given
// all the same.
func Load(fsys fs.FS) ([]*policy.Rule, []schema.Finding) {
	type result struct {
		rules []*policy.Rule
		bad   []schema.Finding
	}
	done := make(chan result, 1)
	go func() {
		l := &loader{ctx: cuecontext.New(), lock: &sync.Mutex{}, codes: map[string]schema.Position{}}
		for _, code := range policy.Codes() {
			l.codes[code] = schema.Position{}
		}
		l.all(fsys)
		slices.SortFunc(l.rules, func(a, b *policy.Rule) int { return strings.Compare(a.Code, b.Code) })
		done <- result{l.rules, l.bad}
	}()
	select {
	case r := <-done:
		return r.rules, r.bad
	case <-time.After(loadLimit):
		return nil, []schema.Finding{invalid(schema.Position{}, fmt.Sprintf("could not evaluate the rules within %s", loadLimit))}
	}
}

type loader struct {
	ctx   *cue.Context
	lock  *sync.Mutex // one evaluation at a time in ctx
	rules []*policy.Rule
	codes map[string]schema.Position
	bad   []schema.Finding
}

func (l *loader) all(fsys fs.FS) {
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".cue" {
			return err
		}
		l.file(fsys, name)
		return nil
	})
	if err != nil {
		l.bad = append(l.bad, invalid(schema.Position{}, "could not list the folder: "+err.Error()))
	}
}

func (l *loader) file(fsys fs.FS, file string) {
	defer func() {
		if p := recover(); p != nil {
			l.bad = append(l.bad, invalid(schema.Position{File: file}, fmt.Sprintf("CUE could not evaluate the file: %v", p)))
		}
	}()
	info, err := fs.Stat(fsys, file)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxFile) {
		err = fmt.Errorf("want a regular file of at most %d bytes", maxFile)
	}
	var src []byte
	if err == nil {
		src, err = fs.ReadFile(fsys, file)
	}
	if err != nil {
		l.bad = append(l.bad, invalid(schema.Position{File: file}, "could not read the file: "+err.Error()))
		return
	}
	parsed, err := parser.ParseFile(file, src)
	if err != nil {
		l.cueErrors(file, err)
		return
	}
	for spec := range parsed.ImportSpecs() {
		if p := strings.Trim(spec.Path.Value, `"`); strings.Contains(strings.Split(p, "/")[0], ".") {
			l.bad = append(l.bad, invalid(position(file, spec), "imports "+p+": rules may import CUE's own packages only"))
			return
		}
	}
	v := l.ctx.BuildFile(parsed)
	if err := v.Err(); err != nil {
		l.cueErrors(file, err)
		return
	}
	fields, err := v.Fields()
	if err != nil {
		l.cueErrors(file, err)
		return
	}
	for fields.Next() {
		if at := fields.Selector().Unquoted(); at != "rules" {
			l.bad = append(l.bad, invalid(placeOf(file, fields.Value()), fmt.Sprintf("unknown field %q: want rules", at)))
		}
	}
	rules, err := v.LookupPath(cue.ParsePath("rules")).Fields()
	if err != nil {
		return
	}
	for rules.Next() {
		l.rule(file, rules.Selector().Unquoted(), rules.Value())
	}
}

// rule reads one rule.
func (l *loader) rule(file, code string, v cue.Value) {
	at := placeOf(file, v)
	bad := func(format string, args ...any) {
		l.bad = append(l.bad, invalid(at, fmt.Sprintf("rule %q: ", code)+fmt.Sprintf(format, args...)))
	}
	if other, taken := l.codes[code]; taken {
		if other.File == "" {
			bad("a built-in rule has this code")
		} else {
			bad("it is declared at %s already", other)
		}
		return
	}
	l.codes[code] = at
	inRepo := at
	inRepo.File = path.Join(Folder, file)
	demand := &rule{ctx: l.ctx, lock: l.lock}
	r := &policy.Rule{Code: code, At: inRepo, Severity: schema.Deny, Judge: demand.faults}
	fields, err := v.Fields()
	if err != nil {
		l.cueErrors(file, err)
		return
	}
	for fields.Next() {
		value := fields.Value()
		switch name := fields.Selector().Unquoted(); name {
		case "must":
			demand.must = value
		case "when":
			demand.when = value
		case "severity", "for", "message", "by":
			s, err := value.String()
			if err != nil {
				bad("%s: want a string", name)
				return
			}
			switch name {
			case "severity":
				r.Severity = schema.Severity(s)
			case "for":
				r.Kind = s
			case "by":
				r.By = s
			default:
				demand.message = s
			}
		default:
			bad("unknown field %q: want severity, by, for, when, must, message", name)
			return
		}
	}
	problem := r.Check()
	switch {
	case problem != "":
		bad("%s", problem)
	case !demand.must.Exists():
		bad("must is missing: say what has to hold")
	case demand.message == "":
		bad("message is missing: say it to the person who gets it")
	default:
		for _, part := range []cue.Value{demand.must, demand.when} {
			if part.Exists() && part.IncompleteKind() != cue.StructKind {
				bad("when and must are structs of constraints")
				return
			}
			if part.Exists() && part.Validate() != nil {
				l.cueErrors(file, part.Validate())
				return
			}
		}
		l.rules = append(l.rules, r)
	}
}

func (l *loader) cueErrors(file string, err error) {
	for _, e := range cueerrors.Errors(err) {
		at := schema.Position{File: file}
		if ps := cueerrors.Positions(e); len(ps) > 0 {
			at.Line, at.Column = ps[0].Line(), ps[0].Column()
		}
		l.bad = append(l.bad, invalid(at, e.Error()))
	}
}

func invalid(at schema.Position, message string) schema.Finding {
	return schema.Finding{Code: CodeInvalid, Severity: schema.Deny, At: at, Message: message, Next: "see docs/policies.md for what a rule looks like"}
}

func placeOf(file string, v cue.Value) schema.Position {
	p := v.Pos()
	if !p.IsValid() {
		return schema.Position{File: file}
	}
	return schema.Position{File: file, Line: p.Line(), Column: p.Column()}
}

func position(file string, n ast.Node) schema.Position {
	p := n.Pos()
	return schema.Position{File: file, Line: p.Line(), Column: p.Column()}
}
