package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"locktide.dev/policy"
	"locktide.dev/policy/cuerules"
	"locktide.dev/reconciler"
	"locktide.dev/render"
	"locktide.dev/schema"
)

// renderer gives the loop what a tree of files means: definitions, and the
// users' own rules in its policy folder.
type renderer struct {
	onError   render.OnError
	evaluator render.Evaluator // nil: in this process
	store     render.Store     // of what was evaluated; nil: none
	session   *render.Session  // made by the first render
	last      *render.Result   // newest whole render: what freeze falls back on

	rules  []policy.Rule // of the folder with this digest, so that a rule that did not change stays the same value
	broken []schema.Finding
	folder string
}

// renderer gives a renderer that evaluates in child processes of this program.
func (e *engine) renderer(onError render.OnError) *renderer {
	return &renderer{onError: onError, evaluator: e.evaluator}
}

// Render implements reconciler.Renderer. It is called by one goroutine.
func (r *renderer) Render(ctx context.Context, tree fs.FS) (reconciler.Rendered, error) {
	var err error
	if r.session == nil {
		if r.session, err = render.NewSession(r.evaluator, r.store); err != nil {
			return reconciler.Rendered{}, err
		}
	}
	res, err := r.session.Render(ctx, tree, render.Options{OnError: r.onError, Previous: r.last})
	if err != nil {
		return reconciler.Rendered{}, fmt.Errorf("cannot render: %w", err)
	}
	out := reconciler.Rendered{Fleet: res.Fleet, Findings: res.Findings, Frozen: res.Frozen, Changed: res.Changed, Refused: !res.Usable(r.onError),
		Place: res.Provenance.Place}
	if res.Usable(r.onError) {
		r.last = &res
	}
	info, err := fs.Stat(tree, "policy")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return out, nil
	case err != nil:
		return out, fmt.Errorf("cannot read the policy folder: %w", err)
	case !info.IsDir():
		return out, nil
	}
	folder, err := fs.Sub(tree, "policy")
	if err != nil {
		return out, fmt.Errorf("cannot read the policy folder: %w", err)
	}
	digest, err := digestOf(folder)
	if err != nil {
		return out, fmt.Errorf("cannot read the policy folder: %w", err)
	}
	if digest != r.folder {
		r.rules, r.broken = cuerules.Load(folder)
		for i := range r.broken {
			r.broken[i].At = below("policy", r.broken[i].At)
		}
		r.folder = digest
	}
	out.Rules = r.rules
	out.Findings = append(out.Findings, r.broken...)
	return out, nil
}

func below(folder string, p schema.Position) schema.Position {
	if p.File != "" {
		p.File = folder + "/" + p.File
	}
	return p
}
