package app

import (
	"context"
	"errors"
	"os"
	"time"

	"locktide.dev/reconciler"
	"locktide.dev/reconciler/forecast"
	"locktide.dev/reconciler/gitsource"
	"locktide.dev/schema"
)

// WhatIf implements cli.Engine: it plans as Plan does, and forecasts the
// plan's rollouts on a copy in memory.
func (e *engine) WhatIf(ctx context.Context, rev, path string, start time.Duration) (f schema.Forecast, err error) {
	c, cfg, err := e.observing(ctx, path)
	if err != nil {
		return f, err
	}
	if info, err := os.Stat(rev); err == nil && info.IsDir() {
		c.Source = folderSource{rev}
	} else {
		source, err := gitsource.New(once(gitConfig(cfg.Git)))
		if err != nil {
			return f, err
		}
		defer func() { err = errors.Join(err, source.Close()) }()
		revision, err := source.At(ctx, rev)
		if err != nil {
			return f, err
		}
		c.Source = fixed{revision}
	}
	err = planOnce(ctx, c, func(l *reconciler.Loop) error {
		r := l.Report()
		f, err = forecast.Make(ctx, forecast.Input{Plan: l.Plan(), Bodies: l.Body, Groups: r.Groups, Limits: c.Limits, Start: start, At: r.At})
		return err
	})
	return f, err
}
