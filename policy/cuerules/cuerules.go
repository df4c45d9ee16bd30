// Package cuerules runs the rules that users keep as CUE in the policy/
// folder of their definitions repository:
//
//	rules: "web-needs-two": {
//		severity: "deny"                  // warn or next-change; deny when left out
//		for:      "groups"                // groups, apps, routes, hosts, consul or objects
//		when: {stage: "prod", tier: "access"}
//		must: count: >=2
//		message: "public groups run at least twice"
//	}
//
// Files see no network, registry or environment; they may import CUE's own
// packages only. CUE can neither be interrupted nor bounded: all that is
// evaluated is asked of a Server, which may live in another process.
package cuerules

import (
	"context"
	"encoding/json"
	"fmt"

	"locktide.dev/policy"
	"locktide.dev/schema"
)

// Ask brings a question to a Server and its answer back.
type Ask func(ctx context.Context, question []byte) (answer []byte, err error)

// Here is a Server in this process.
func Here() Ask {
	var s Server
	return func(_ context.Context, question []byte) ([]byte, error) { return s.Answer(question) }
}

// question asks for the rules that files declare or, with Code, what one finds.
type question struct {
	Files    map[string]string `json:"files"`
	Code     string            `json:"code,omitempty"`
	Elements []json.RawMessage `json:"elements,omitempty"`
}

type answer struct {
	Rules  []declared       `json:"rules,omitempty"`
	Bad    []schema.Finding `json:"bad,omitempty"`
	Faults []policy.Fault   `json:"faults,omitempty"`
}

// declared is a rule as its file says.
type declared struct {
	Code     string          `json:"code"`
	At       schema.Position `json:"at"`
	Kind     string          `json:"kind"`
	Severity schema.Severity `json:"severity"`
	By       string          `json:"by,omitempty"`
}

// batch is how many elements one question has at most.
const batch = 1000

// Load gives the rules that files declare, in order of their codes. Findings
// name what could not be read with file and line; the other rules are given
// all the same. A nil ask is Here().
func Load(ctx context.Context, files map[string]string, ask Ask) ([]*policy.Rule, []schema.Finding) {
	if len(files) == 0 {
		return nil, nil
	}
	if ask == nil {
		ask = Here()
	}
	a, err := put(ctx, ask, question{Files: files})
	if err != nil {
		return nil, []schema.Finding{policy.Invalid(schema.Position{}, "could not evaluate the rules: "+err.Error())}
	}
	var out []*policy.Rule
	for _, d := range a.Rules {
		out = append(out, &policy.Rule{Code: d.Code, At: d.At, Kind: d.Kind, Severity: d.Severity, By: d.By,
			Judge: func(ctx context.Context, elements []policy.Element) ([]policy.Fault, error) {
				return judge(ctx, ask, question{Files: files, Code: d.Code}, elements)
			}})
	}
	return out, a.Bad
}

func judge(ctx context.Context, ask Ask, q question, elements []policy.Element) ([]policy.Fault, error) {
	var out []policy.Fault
	for from := 0; from < len(elements); from += batch {
		q.Elements = nil
		for _, e := range elements[from:min(from+batch, len(elements))] {
			q.Elements = append(q.Elements, e.Data)
		}
		a, err := put(ctx, ask, q)
		if err != nil {
			return nil, err
		}
		for _, f := range a.Faults {
			f.Element += from
			out = append(out, f)
		}
	}
	return out, nil
}

func put(ctx context.Context, ask Ask, q question) (a answer, err error) {
	if err := ctx.Err(); err != nil {
		return a, err
	}
	b, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	if b, err = ask(ctx, b); err != nil {
		return a, err
	}
	if err = json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("cannot read the answer of the evaluator of rules: %w", err)
	}
	return a, nil
}
