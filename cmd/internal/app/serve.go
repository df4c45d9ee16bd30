package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/cmd/internal/config"
	"locktide.dev/cmd/internal/httpapi"
	"locktide.dev/cmd/internal/telemetry"
	"locktide.dev/drivers"
	"locktide.dev/policy"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/footprint"
	"locktide.dev/reconciler/gate"
	"locktide.dev/reconciler/gate/accesslog"
	"locktide.dev/reconciler/gitsource"
	"locktide.dev/reconciler/ledger"
	"locktide.dev/render"
	"locktide.dev/render/cache"
	"locktide.dev/schema"
)

// Serve implements cli.Engine.
func (e *engine) Serve(ctx context.Context, path string, logTo io.Writer) (err error) {
	cfg, err := readConfig(path)
	if err != nil {
		return err
	}
	footprint.Bound(ctx)
	log := newLog(logTo, slog.LevelInfo)
	source, err := gitsource.New(gitConfig(cfg.Git))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	b, store, err := open(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	loop := e.loopConfig(cfg, b)
	loop.Source, loop.Store = source, store
	r := e.renderer(render.OnError(cfg.OnError))
	if file := cfg.Journal.File; file != "" {
		r.store = cache.New(filepath.Join(filepath.Dir(file), "render.cache"), e.program(), func(err error) { log.Warn(err.Error()) })
	}
	loop.Renderer = r
	loop.Poll = time.Duration(cfg.Git.Poll)
	doctor := func(ctx context.Context) []schema.Diagnosis {
		return slices.Concat(tokenChecks(cfg), backendChecks(ctx, cfg), connectionChecks(ctx, cfg))
	}
	return runDaemon(ctx, loop, daemon{listen: cfg.Listen, tokenFile: cfg.TokenFile, people: people(cfg), git: cfg.Git, log: log, version: e.version, doctor: doctor})
}

// program identifies this build: another may evaluate the same files otherwise.
func (e *engine) program() string {
	info, err := os.Stat(selfPath())
	if err != nil {
		return e.version
	}
	return fmt.Sprintf("%s %d %d", e.version, info.Size(), info.ModTime().UnixNano())
}

// loopConfig is what configuration says to the loop; source and store are missing.
func (e *engine) loopConfig(cfg config.Config, b *backends) reconciler.Config {
	rules := policy.Config{RawExec: cfg.Policy.RawExec, Severity: map[string]schema.Severity{}, Serves: map[string][]string{},
		Via: drivers.Serving(b.drivers), Elsewhere: cfg.Elsewhere}
	for code, s := range cfg.Policy.Severity {
		rules.Severity[code] = schema.Severity(s)
	}
	for name, proxy := range cfg.Nginx {
		rules.Serves[name] = proxy.Datacenters
	}
	windows := map[string]schema.Window{}
	if w, err := cfg.Policy.Backup(); err == nil && w != nil { // the configuration was checked
		windows["backup"] = *w
	}
	return reconciler.Config{
		Windows: windows,
		Owner:   cfg.Owner, Drivers: b.drivers, Lease: b.lease,
		Renderer: e.renderer(render.OnError(cfg.OnError)),
		Policy:   rules,
		Limits: ledger.Limits{Fleet: cfg.Limits.Rollouts, Datacenter: cfg.Limits.PerDatacenter, SlowStart: cfg.Limits.SlowStart,
			BrakeMin: cfg.Limits.CommitBrakeFailures, BrakeShare: cfg.Limits.CommitBrakePercent,
			Deletions: schema.Cap{Most: cfg.Limits.DeletionsPerHour, Percent: cfg.Limits.DeletionsPercent}, DatacenterDeletions: cfg.Limits.DatacenterDeletions,
			Turnovers: cfg.Limits.Turnovers, DatacenterMembers: cfg.Limits.DatacenterMembers, KindMembers: cfg.Limits.KindMembers},
		Gates:        gates(cfg),
		SecondPerson: cfg.SecondPerson, Named: len(cfg.People) > 0,
		Version: e.version, Observe: cfg.Mode == "observe", BrakeFile: cfg.BrakeFile,
	}
}

// gates gives what answers gates: Prometheus and the proxies' access logs.
func gates(cfg config.Config) *gate.Evaluator {
	var c gate.Config
	for _, name := range names(cfg.Prometheus) {
		p := cfg.Prometheus[name]
		c.Prometheus = append(c.Prometheus, gate.Prometheus{Replicas: p.Replicas, Datacenters: p.Datacenters, TokenFile: p.TokenFile})
	}
	logs := slices.Clone(cfg.AccessLogs)
	for _, name := range names(cfg.Nginx) {
		if n := cfg.Nginx[name]; !n.External {
			logs = append(logs, filepath.Join(n.Dir, "access.log"))
		}
	}
	if len(logs) > 0 {
		c.Log = accesslog.New(logs)
	}
	return gate.New(c)
}

// people gives those with tokens of their own.
func people(cfg config.Config) []httpapi.Person {
	var out []httpapi.Person
	for _, name := range names(cfg.People) {
		out = append(out, httpapi.Person{Name: name, Roles: cfg.People[name].Roles, Emails: cfg.People[name].Emails, Teams: cfg.People[name].Teams,
			TokenFile: cfg.People[name].TokenFile})
	}
	return out
}

// daemon is what the process around a loop needs to know.
type daemon struct {
	listen, tokenFile, version string

	people []httpapi.Person // with tokens of their own
	git    config.Git       // whose forge may send webhooks
	log    *slog.Logger
	doctor func(context.Context) []schema.Diagnosis // of its surroundings; may be nil
	ready  func(*reconciler.Loop, string)           // told once the API answers; may be nil
}

// runDaemon runs the loop and its API until ctx ends or one of them fails.
func runDaemon(ctx context.Context, cfg reconciler.Config, d daemon) error {
	// On one core, too, the kernel lets a reader of the API in while the loop works.
	if runtime.GOMAXPROCS(0) == 1 {
		runtime.GOMAXPROCS(2)
	}
	log := d.log
	tel := telemetry.New(log, d.version)
	cfg.Observer = tel
	loop, err := reconciler.New(cfg)
	if err != nil {
		return err
	}
	if err := tel.Watch(loop.Report); err != nil {
		return fmt.Errorf("cannot register the metrics: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.listen)
	if err != nil {
		return cli.Fail("stop what listens there, or choose another address with listen", "cannot listen on %s: %v", d.listen, err)
	}
	server := httpapi.New(httpapi.Options{Fleet: loop, Metrics: tel.Handler(), TokenFile: d.tokenFile, People: d.people, Webhook: &httpapi.Webhook{SecretFile: d.git.WebhookSecret, URL: d.git.URL, Branch: d.git.Branch, Fetch: loop.Fetch}, ReadToken: !httpapi.Loopback(d.listen), Doctor: d.doctor,
		Denied: func(who, what string) {
			tel.Event(reconciler.Event{Kind: "denied", HistoryEntry: schema.HistoryEntry{At: time.Now(), Writer: who, What: what}, Error: "the API token is missing or wrong"})
		}})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	served := make(chan error, 1)
	go func() {
		err := server.Serve(listener)
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		cancel(err)
		served <- err
	}()
	log.Info("locktide starts", "version", d.version, "owner", cfg.Owner, "api", listener.Addr().String())
	if d.ready != nil {
		d.ready(loop, listener.Addr().String())
	}
	err = loop.Run(ctx)
	stop, done := context.WithTimeout(context.Background(), 2*time.Second)
	defer done()
	if e := server.Shutdown(stop); e != nil {
		err = errors.Join(err, server.Close())
	}
	log.Info("locktide ends")
	return errors.Join(err, <-served)
}
