// Package celrules runs the rules that users keep as CEL expressions in YAML
// (or JSON) files of the policy folder. They are bounded by a cost and can be
// interrupted, and cost microseconds each:
//
//	rules:
//	  web-needs-two:
//	    severity: deny            # warn or next-change; deny when left out
//	    for: groups               # groups, apps, routes, hosts, consul or objects
//	    when: self.stage == "prod" && self.tier == "access"
//	    must: self.count >= 2
//	    message: public groups run at least twice
package celrules

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	"go.yaml.in/yaml/v3"

	"locktide.dev/policy"
	"locktide.dev/schema"
)

const (
	maxCost       = 100_000  // of one expression for one element
	maxExpression = 16 << 10 // bytes
)

// Parse reads one file. Findings name what is wrong with line and column; the
// other rules are given all the same.
func Parse(file string, src []byte) ([]*policy.Rule, []schema.Finding) {
	p := &parser{file: file}
	for docs := yaml.NewDecoder(bytes.NewReader(src)); ; {
		var doc yaml.Node
		switch err := docs.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return p.rules, p.bad
		case err != nil:
			p.bad = append(p.bad, policy.Invalid(p.lineOf(err), strings.TrimPrefix(err.Error(), "yaml: ")))
			return nil, p.bad
		}
		p.document(&doc)
	}
}

// document reads one of a file's documents; an empty one says nothing.
func (p *parser) document(doc *yaml.Node) {
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return
	}
	p.fields(doc.Content[0], func(key string, at, value *yaml.Node) {
		if key != "rules" {
			p.wrong(at, "unknown field %q: want rules", key)
			return
		}
		p.fields(value, p.rule)
	})
}

type parser struct {
	file  string
	rules []*policy.Rule
	bad   []schema.Finding
}

func (p *parser) at(n *yaml.Node) schema.Position {
	return schema.Position{File: p.file, Line: n.Line, Column: n.Column}
}

func (p *parser) wrong(n *yaml.Node, format string, args ...any) {
	p.bad = append(p.bad, policy.Invalid(p.at(n), fmt.Sprintf(format, args...)))
}

// lineOf takes the line from an error of YAML.
func (p *parser) lineOf(err error) schema.Position {
	at := schema.Position{File: p.file}
	_, rest, _ := strings.Cut(err.Error(), "line ")
	_, _ = fmt.Sscanf(rest, "%d", &at.Line) // 0 is unknown
	return at
}

// fields calls do for each field of a mapping.
func (p *parser) fields(n *yaml.Node, do func(key string, at, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		p.wrong(n, "want a mapping")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		do(n.Content[i].Value, n.Content[i], n.Content[i+1])
	}
}

// rule reads one rule.
func (p *parser) rule(code string, at, n *yaml.Node) {
	before := len(p.bad)
	r := &rule{}
	out := &policy.Rule{Code: code, At: p.at(at), Severity: schema.Deny, Judge: r.judge}
	p.fields(n, func(key string, at, value *yaml.Node) {
		if value.Kind != yaml.ScalarNode {
			p.wrong(value, "rule %q: %s: want a text", code, key)
			return
		}
		switch key {
		case "severity":
			out.Severity = schema.Severity(value.Value)
		case "for":
			out.Kind = value.Value
		case "by":
			out.By = value.Value
		case "message":
			r.message = value.Value
		case "when":
			r.when = p.compile(code, value)
		case "must":
			r.must = p.compile(code, value)
		default:
			p.wrong(at, "rule %q: unknown field %q: want severity, by, for, when, must, message", code, key)
		}
	})
	if len(p.bad) > before {
		return
	}
	switch why := out.Check(); {
	case why != "":
		p.wrong(at, "rule %q: %s", code, why)
	case r.must == nil:
		p.wrong(at, "rule %q: must is missing: say what has to hold", code)
	case r.message == "":
		p.wrong(at, "rule %q: message is missing: say it to the person who gets it", code)
	default:
		p.rules = append(p.rules, out)
	}
}

// compile checks an expression and makes a program of it; nil if it is wrong.
func (p *parser) compile(code string, n *yaml.Node) cel.Program {
	if len(n.Value) > maxExpression {
		p.wrong(n, "rule %q: the expression is longer than %d bytes", code, maxExpression)
		return nil
	}
	env, err := environment()
	if err != nil {
		p.wrong(n, "rule %q: %v", code, err)
		return nil
	}
	ast, issues := env.Compile(n.Value)
	if issues != nil && issues.Err() != nil {
		for _, e := range issues.Errors() {
			p.bad = append(p.bad, policy.Invalid(p.inside(n, e.Location.Line(), e.Location.Column()), fmt.Sprintf("rule %q: %s", code, e.Message)))
		}
		return nil
	}
	if t := ast.OutputType(); t != cel.BoolType && t != cel.DynType {
		p.wrong(n, "rule %q: the expression gives %s: want true or false", code, t)
		return nil
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(100), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		p.wrong(n, "rule %q: %v", code, err)
		return nil
	}
	return program
}

func environment() (*cel.Env, error) {
	return cel.NewEnv(cel.Variable("self", cel.DynType), cel.CrossTypeNumericComparisons(true), ext.Strings(), ext.Lists(), ext.Sets())
}

// inside is a place in an expression; lines count from 1, columns from 0.
func (p *parser) inside(n *yaml.Node, line, column int) schema.Position {
	at := p.at(n)
	switch {
	case n.Style == yaml.LiteralStyle || n.Style == yaml.FoldedStyle:
		at.Line, at.Column = at.Line+line, 0 // it begins below its mark, indented
	case line == 1:
		at.Column += column
		if n.Style != 0 { // quoted
			at.Column++
		}
	default:
		at.Line, at.Column = at.Line+line-1, 0
	}
	return at
}

// rule is what one declaration demands.
type rule struct {
	message string
	when    cel.Program // nil: every element
	must    cel.Program
}

// judge gives the elements that fit when and not must.
func (r *rule) judge(ctx context.Context, elements []policy.Element) ([]policy.Fault, error) {
	var out []policy.Fault
	for i, e := range elements {
		self, err := decode(e.Data)
		if err != nil {
			return nil, err
		}
		if r.when != nil {
			applies, _, err := holds(ctx, r.when, self)
			if err != nil {
				return nil, err
			}
			if !applies {
				continue
			}
		}
		ok, unset, err := holds(ctx, r.must, self)
		if err != nil {
			return nil, err
		}
		if !ok {
			f := policy.Fault{Element: i, Message: r.message}
			if unset != "" {
				f.Field, f.Message = unset, r.message+" ("+unset+" is not set)"
			}
			out = append(out, f)
		}
	}
	return out, nil
}

// holds evaluates an expression. One that asks for a field that is not set does
// not hold; unset is its name.
func holds(ctx context.Context, p cel.Program, self any) (ok bool, unset string, err error) {
	v, _, err := p.ContextEval(ctx, map[string]any{"self": self})
	if err != nil {
		if _, key, missing := strings.Cut(err.Error(), "no such key: "); missing {
			return false, strings.TrimSpace(key), nil
		}
		return false, "", fmt.Errorf("the expression cannot be evaluated: %w", err)
	}
	ok, isBool := v.Value().(bool)
	if !isBool {
		return false, "", fmt.Errorf("the expression gives %v: want true or false", v.Value())
	}
	return ok, "", nil
}

// decode reads an element with whole numbers as such.
func decode(data json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("cannot read an element: %w", err)
	}
	return numbers(v), nil
}

func numbers(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k, item := range x {
			x[k] = numbers(item)
		}
	case []any:
		for i, item := range x {
			x[i] = numbers(item)
		}
	case json.Number:
		if n, err := x.Int64(); err == nil {
			return n
		}
		f, err := x.Float64()
		if err != nil {
			return x.String()
		}
		return f
	}
	return v
}
