package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sort"
	"time"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/cmd/internal/config"
	"locktide.dev/cmd/internal/telemetry"
	"locktide.dev/policy"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/compiler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/reconciler/planner"
	"locktide.dev/render"
	"locktide.dev/schema"
)

// Render implements cli.Engine: definitions, judged by the built-in rules and
// the users' own, and compiled when a configuration names backends.
func (e *engine) Render(ctx context.Context, folder, path string) (cli.Rendered, error) {
	return e.judgedFolder(ctx, folder, path, false)
}

// Vet implements cli.Engine.
func (e *engine) Vet(ctx context.Context, folder, path string) ([]schema.Finding, error) {
	r, err := e.judgedFolder(ctx, folder, path, true)
	return r.Findings, err
}

func (e *engine) judgedFolder(ctx context.Context, folder, path string, advice bool) (cli.Rendered, error) {
	tree, err := openFolder(folder)
	if err != nil {
		return cli.Rendered{}, err
	}
	return e.judged(ctx, tree, path, advice)
}

// openFolder gives a folder of definitions.
func openFolder(name string) (fs.FS, error) {
	if info, err := os.Stat(name); err != nil || !info.IsDir() {
		return nil, cli.Fail("`locktide init "+name+"` writes a starter fleet", "there is no folder %s", name)
	}
	return os.DirFS(name), nil
}

// judged renders definitions and judges them, with advice if that is asked for.
func (e *engine) judged(ctx context.Context, tree fs.FS, path string, advice bool) (cli.Rendered, error) {
	r := e.renderer(render.Refuse)
	means, err := r.Render(ctx, tree)
	if err != nil {
		return cli.Rendered{}, err
	}
	out := cli.Rendered{Fleet: &means.Fleet, Findings: means.Findings, Frozen: means.Frozen, Layers: map[string]string{}}
	if schema.AnyDenied(means.Findings) {
		return out, nil
	}
	rules, head := policy.Config{}, schema.Head{}
	if path != "" {
		cfg, err := readConfig(path)
		if err != nil {
			return out, err
		}
		b, err := inspect(ctx, cfg)
		if err != nil {
			return out, err
		}
		rules = e.loopConfig(cfg, b).Policy
		compiled := compiler.New(b.drivers).Compile(&means.Fleet)
		head = compiled.Head
		for _, k := range slices.SortedFunc(head.Keys(), schema.Key.Compare) {
			out.Objects = append(out.Objects, head.Get(k).Object)
		}
		means.Place(compiled.Findings)
		out.Findings = append(out.Findings, compiled.Findings...)
	}
	rules.Advice = advice
	judged := policy.Evaluate(ctx, rules, means.Rules,
		policy.Input{Fleet: &means.Fleet, Objects: head, Today: time.Now()})
	means.Place(judged)
	out.Findings = append(out.Findings, judged...)
	means.Accept()
	if last := r.last.Load(); last != nil {
		for _, ref := range refs(&means.Fleet) {
			for _, leaf := range last.Provenance.Explain(ref) {
				from := fmt.Sprintf("%s = %s", leaf.Layer, leaf.Value)
				if leaf.At.File != "" {
					from += " (" + leaf.At.String() + ")"
				}
				out.Layers[string(ref)+" "+leaf.Path] = from
			}
		}
	}
	return out, nil
}

// refs lists what a fleet defines, sorted.
func refs(f *schema.Fleet) []schema.Ref {
	var out []schema.Ref
	add := func(kind string, names []string) {
		for _, n := range names {
			out = append(out, schema.NewRef(kind, n))
		}
	}
	add("hosts", names(f.Hosts))
	add("pools", names(f.Pools))
	add("apps", names(f.Apps))
	add("groups", slices.Collect(f.Groups.Keys()))
	add("routes", names(f.Routes))
	add("consul", names(f.Consul))
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// Plan implements cli.Engine: a loop that only observes reads the backends,
// rebuilds what is ours from the marks there, and plans.
func (e *engine) Plan(ctx context.Context, folder, path string) (plan schema.Plan, err error) {
	c, _, err := e.observing(ctx, path)
	if err != nil {
		return plan, err
	}
	if _, err := openFolder(folder); err != nil {
		return plan, err
	}
	c.Source = folderSource{folder}
	err = planOnce(ctx, c, func(l *reconciler.Loop) error {
		plan = l.Plan()
		return nil
	})
	return plan, err
}

// observing gives the configuration of a loop that never writes.
func (e *engine) observing(ctx context.Context, path string) (reconciler.Config, config.Config, error) {
	if path == "" {
		return reconciler.Config{}, config.Config{}, cli.Fail("name the daemon's configuration with --config, or leave the folder out to ask the daemon",
			"a folder alone does not say with which backends to compare")
	}
	cfg, err := readConfig(path)
	if err != nil {
		return reconciler.Config{}, cfg, err
	}
	b, err := inspect(ctx, cfg)
	if err != nil {
		return reconciler.Config{}, cfg, err
	}
	c := e.loopConfig(cfg, b)
	c.Observe, c.Lease, c.Store = true, nil, journal.NewMemory()
	return c, cfg, nil
}

// planOnce runs a loop that only observes until it has planned its source's
// revision, and gives it to done.
func planOnce(ctx context.Context, c reconciler.Config, done func(*reconciler.Loop) error) error {
	loop, err := reconciler.New(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return until(ctx, loop, func(r *schema.Report) (bool, error) {
		if problem := refused(r); problem != nil {
			return false, problem
		}
		if r.Head == "" || r.InForce != r.Head || !allRead(r, len(c.Drivers)) || loop.Plan().Commit != r.InForce {
			return false, nil
		}
		for _, o := range r.Objects { // the plan knows what stands in the place of each
			if o.ReadAt.IsZero() {
				return false, nil
			}
		}
		return true, done(loop)
	})
}

func allRead(r *schema.Report, backends int) bool {
	if len(r.Backends) < backends {
		return false
	}
	for _, b := range r.Backends {
		if b.ReadAt.IsZero() || b.Unlearned != "" {
			return false
		}
	}
	return true
}

// refused gives the error of a report whose definitions cannot be used.
func refused(r *schema.Report) error {
	if r.FetchError != "" {
		return errors.New(r.FetchError)
	}
	if r.Head != "" && r.InForce != r.Head && schema.AnyDenied(r.Findings) {
		for _, f := range r.Findings {
			if f.Severity == schema.Deny && f.Excepted == "" {
				return cli.Fail(f.Next, "%s", f)
			}
		}
	}
	return nil
}

// until runs loop and looks at its report until done says so; then the loop
// is ended. It fails when ctx ends first, with what the fleet waits for.
func until(ctx context.Context, loop *reconciler.Loop, done func(*schema.Report) (bool, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err == nil {
				err = stalled(loop)
			}
			return err
		case <-tick.C:
			ok, err := done(loop.Report())
			if ok || err != nil {
				cancel()
				return errors.Join(err, <-ended)
			}
		}
	}
}

// stalled is the error of a loop that was ended before it was done.
func stalled(loop *reconciler.Loop) error {
	why := loop.Explain("")
	if len(why) == 0 {
		return cli.Fail("run it again; what is done stays done", "ended before everything was as defined")
	}
	return cli.Fail(why[0].Next, "ended before everything was as defined: %s: %s", why[0].Code, why[0].Message)
}

// Apply implements cli.Engine.
func (e *engine) Apply(ctx context.Context, folder, path string, timeout time.Duration, logTo io.Writer) (err error) {
	cfg, err := readConfig(path)
	if err != nil {
		return err
	}
	log := newLog(logTo, slog.LevelInfo)
	b, store, err := open(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	c := e.loopConfig(cfg, b)
	c.Source, c.Store, c.Resume, c.Observer = folderSource{folder}, store, true, telemetry.New(log, e.version)
	loop, err := reconciler.New(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return until(ctx, loop, func(r *schema.Report) (bool, error) {
		if problem := refused(r); problem != nil {
			return false, problem
		}
		for _, a := range r.Awaits {
			return false, cli.Fail("change it in smaller steps, or let the daemon do it and approve it there", "%d changes need an approval (%s): %s", len(a.Items), a.Rule, a.Why)
		}
		for _, p := range r.Partitions {
			if p.Ended() || p.Phase == "braked" {
				return false, cli.Fail("correct the definition and apply again", "%s %s: %s", p.ID, p.Phase, sentence(p.Why))
			}
		}
		return converged(r, len(b.drivers)), nil
	})
}

// converged says whether everything is as the newest commit says, and was read.
func converged(r *schema.Report, backends int) bool {
	if r.Head == "" || r.InForce != r.Head || len(r.Partitions) > 0 || len(r.Awaits) > 0 || !allRead(r, backends) {
		return false
	}
	for _, o := range r.Objects {
		if o.State != schema.StateSame || o.Target != o.Head {
			return false
		}
	}
	for _, g := range r.Groups {
		if len(g.Members) > 0 && g.Serving < g.Desired { // a periodic job has none between its runs
			return false
		}
	}
	return r.Health == "HEALTHY"
}

func sentence(why []schema.Reason) string {
	if len(why) == 0 {
		return "no reason given"
	}
	return why[0].Message
}

// PrintPlan implements cli.Engine.
func (*engine) PrintPlan(w io.Writer, p schema.Plan, color bool) error {
	return planner.Render(w, p, func(schema.Digest) (schema.Object, bool) { return schema.Object{}, false }, color)
}
