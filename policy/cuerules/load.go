package cuerules

import (
	"fmt"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"

	"locktide.dev/policy"
	"locktide.dev/schema"
)

// loader reads files.
type loader struct {
	ctx   *cue.Context
	rules []*rule
	codes map[string]schema.Position
	bad   []schema.Finding
}

func (l *loader) file(file, src string) {
	defer func() {
		if p := recover(); p != nil {
			l.bad = append(l.bad, policy.Invalid(schema.Position{File: file}, fmt.Sprintf("CUE could not evaluate the file: %v", p)))
		}
	}()
	parsed, err := parser.ParseFile(file, src)
	if err != nil {
		l.cueErrors(file, err)
		return
	}
	for spec := range parsed.ImportSpecs() {
		if p := strings.Trim(spec.Path.Value, `"`); strings.Contains(strings.Split(p, "/")[0], ".") {
			l.bad = append(l.bad, policy.Invalid(position(file, spec), "imports "+p+": rules may import CUE's own packages only"))
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
			l.bad = append(l.bad, policy.Invalid(placeOf(file, fields.Value()), fmt.Sprintf("unknown field %q: want rules", at)))
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
		l.bad = append(l.bad, policy.Invalid(at, fmt.Sprintf("rule %q: ", code)+fmt.Sprintf(format, args...)))
	}
	if other, taken := l.codes[code]; taken {
		bad("it is declared at %s already", other)
		return
	}
	l.codes[code] = at
	r := &rule{declared: declared{Code: code, At: at, Severity: schema.Deny}, ctx: l.ctx}
	fields, err := v.Fields()
	if err != nil {
		l.cueErrors(file, err)
		return
	}
	for fields.Next() {
		value := fields.Value()
		switch name := fields.Selector().Unquoted(); name {
		case "must":
			r.must = value
		case "when":
			r.when = value
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
				r.message = s
			}
		default:
			bad("unknown field %q: want severity, by, for, when, must, message", name)
			return
		}
	}
	problem := (&policy.Rule{Severity: r.Severity, By: r.By, Kind: r.Kind}).Check()
	switch {
	case problem != "":
		bad("%s", problem)
	case !r.must.Exists():
		bad("must is missing: say what has to hold")
	case r.message == "":
		bad("message is missing: say it to the person who gets it")
	default:
		for _, part := range []cue.Value{r.must, r.when} {
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
		l.bad = append(l.bad, policy.Invalid(at, e.Error()))
	}
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
