package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"locktide.dev/policy"
	"locktide.dev/policy/cuerules"
	"locktide.dev/policy/rulefiles"
	"locktide.dev/reconciler"
	"locktide.dev/render"
	"locktide.dev/schema"
)

// renderer gives the loop what a tree of files means: definitions, and the
// users' own rules in its policy folder.
type renderer struct {
	onError   render.OnError
	evaluator render.Evaluator              // nil: in this process
	ask       cuerules.Ask                  // judges by rules in CUE
	store     render.Store                  // of what was evaluated; nil: none
	session   *render.Session               // made by the first render
	last      atomic.Pointer[render.Result] // in force: what freeze falls back on

	rules  []*policy.Rule // of the folder with this digest, so that a rule that did not change stays the same value
	broken []schema.Finding
	folder string
}

// renderer gives a renderer that evaluates in child processes of this program.
func (e *engine) renderer(onError render.OnError) *renderer {
	return &renderer{onError: onError, evaluator: e.evaluator, ask: e.ask}
}

// Render implements reconciler.Renderer. It is called by one goroutine.
func (r *renderer) Render(ctx context.Context, tree fs.FS) (reconciler.Rendered, error) {
	var err error
	if r.session == nil {
		if r.session, err = render.NewSession(r.evaluator, r.store); err != nil {
			return reconciler.Rendered{}, err
		}
	}
	last := r.last.Load()
	onError := r.onError
	if onError == "" { // one team's error does not stop another's work
		onError = render.Refuse
		if last != nil && len(last.Fleet.Teams) > 0 {
			onError = render.Freeze
		}
	}
	res, err := r.session.Render(ctx, tree, render.Options{OnError: onError, Previous: last})
	if err != nil {
		return reconciler.Rendered{}, fmt.Errorf("cannot render: %w", err)
	}
	out := r.rendered(res, onError)
	digest := ""
	if info, err := fs.Stat(tree, rulefiles.Folder); err == nil && info.IsDir() {
		folder, err := fs.Sub(tree, rulefiles.Folder)
		if err == nil {
			digest, err = digestOf(folder)
		}
		if err != nil {
			return out, fmt.Errorf("cannot read the policy folder: %w", err)
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, fmt.Errorf("cannot read the policy folder: %w", err)
	}
	if digest != r.folder {
		r.rules, r.broken, r.folder = nil, nil, digest
		if digest != "" {
			r.rules, r.broken = rulefiles.Load(ctx, tree, r.ask)
		}
	}
	out.Rules = r.rules
	out.Findings = append(out.Findings, r.broken...)
	out.Refused = out.Refused || schema.AnyDenied(r.broken) // rules are everybody's
	return r.freezable(out, res, onError, last), nil
}

// Recall implements reconciler.Recaller.
func (r *renderer) Recall(f schema.Fleet) { r.last.CompareAndSwap(nil, render.Recalled(f)) }

// rendered is a result as the loop takes it.
func (r *renderer) rendered(res render.Result, onError render.OnError) reconciler.Rendered {
	return reconciler.Rendered{Fleet: res.Fleet, Findings: res.Findings, Frozen: res.Frozen, Partial: !res.Complete, Changed: res.Changed,
		Refused: !res.Usable(onError), Place: res.Provenance.Place, Accept: func() { r.last.Store(&res) }}
}

// freezable lets the loop freeze what policies deny at what is in last.
func (r *renderer) freezable(out reconciler.Rendered, res render.Result, onError render.OnError, last *render.Result) reconciler.Rendered {
	if onError != render.Freeze {
		return out
	}
	rules := out.Rules
	out.Without = func(refs []schema.Ref) (reconciler.Rendered, bool) {
		rest, ok := res.Without(refs, last)
		next := r.rendered(rest, onError)
		next.Rules = rules
		return r.freezable(next, rest, onError, last), ok
	}
	return out
}
