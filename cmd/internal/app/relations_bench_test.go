package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/fixtures"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/gitsource"
	"locktide.dev/reconciler/journal"
	"locktide.dev/render"
	"locktide.dev/schema"
)

// placed is a backend on which every group runs already, five members each on
// hosts of its datacenter; what it is told holds at once.
type placed struct {
	mu      sync.Mutex
	objects map[schema.Key]schema.Object
	first   []drivers.Owned
	members []schema.Member
}

func (p *placed) Name() (driver, instance string) { return "placed", "m" }

func (p *placed) Kinds() []drivers.KindSpec {
	return []drivers.KindSpec{{Kind: "placed.job", Layer: schema.LayerInstance, Paced: true, Prune: drivers.PruneCapped}}
}

func (p *placed) Compile(v *schema.View, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	kind, name := ref.Split()
	if kind != "groups" {
		return nil, nil
	}
	g, ok := v.Group(name)
	if !ok {
		return nil, nil
	}
	o, _, _ := schema.Object{Key: schema.Key{Kind: "placed.job", Instance: "m", Name: name}, Spec: schema.MustCanonical(g.Release), Release: schema.DigestOf([]byte(g.Release)),
		Layer: schema.LayerInstance, Apps: []string{g.App}, Group: name, From: []schema.Ref{ref}, Paced: &schema.Paced{Count: g.Count.Number}}.Seal()
	return []schema.Object{o}, nil
}

func (p *placed) receipt(o schema.Object) schema.Receipt {
	return schema.Receipt{Version: schema.Version(o.Digest), Digest: o.Digest}
}

func (p *placed) Observe(_ context.Context, q drivers.Query) (schema.Live, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	live := schema.Live{At: time.Now(), Complete: true, Members: p.members}
	for _, w := range q.Want {
		have := p.objects[w.Object.Key]
		r := p.receipt(have)
		o := schema.LiveObject{Key: w.Object.Key, State: schema.StateDiffers, Version: r.Version, Count: 5}
		if have.Digest == w.Object.Digest {
			o.State, o.Receipt = schema.StateSame, &r
		}
		live.Objects = append(live.Objects, o)
	}
	return live, nil
}

func (p *placed) Apply(_ context.Context, batch []schema.Action) []schema.Outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]schema.Outcome, len(batch))
	for i, a := range batch {
		out[i] = schema.Outcome{ID: a.ID, At: time.Now()}
		if a.Object != nil {
			p.objects[a.Key] = *a.Object
			r := p.receipt(*a.Object)
			out[i].Receipt = &r
		}
	}
	return out
}

// Inventory gives what runs, so that the daemon begins at rest.
func (p *placed) Inventory(context.Context) ([]drivers.Owned, error) { return p.first, nil }

// newPlaced places all groups of a fleet.
func newPlaced(f *schema.Fleet, hosts int) *placed {
	p := &placed{objects: map[schema.Key]schema.Object{}}
	index := schema.NewIndex(f)
	for i, name := range slices.Sorted(f.Groups.Keys()) {
		objects, _ := p.Compile(index.View(), schema.NewRef("groups", name))
		o := objects[0]
		p.objects[o.Key] = o
		p.first = append(p.first, drivers.Owned{Object: o, Receipt: p.receipt(o)})
		for n := range 5 {
			p.members = append(p.members, schema.Member{ID: fmt.Sprintf("%05d-%d", i, n), Key: o.Key, Group: name, Index: n, Release: o.Release,
				Node: fmt.Sprintf("h%05d", (i*5+n)*7%hosts), Running: true, Current: true})
		}
	}
	return p
}

// definitionsRepo is a Git repository of the full fleet; change commits one app.
type definitionsRepo struct{ dir string }

func newDefinitionsRepo(b *testing.B, size fixtures.Synthetic) definitionsRepo {
	b.Helper()
	r := definitionsRepo{b.TempDir()}
	for name, text := range size.Files() {
		to := filepath.Join(r.dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	r.git(b, "init", "-q", "-b", "main")
	r.commit(b)
	return r
}

func (r definitionsRepo) git(b *testing.B, args ...string) {
	b.Helper()
	args = append([]string{"-C", r.dir, "-c", "user.name=Bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgsign=false"}, args...)
	if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
		b.Fatalf("git %v: %v: %s", args, err, out)
	}
}

func (r definitionsRepo) commit(b *testing.B) {
	b.Helper()
	r.git(b, "add", "-A")
	r.git(b, "commit", "-q", "-m", "Change")
}

// changes commits one app after the other, once a second, until it is ended.
// It is a process of its own: starting one would halt this one's only core.
func (r definitionsRepo) changes(b *testing.B, size fixtures.Synthetic) (end func()) {
	b.Helper()
	script := fmt.Sprintf(`n=0; while sleep 1; do n=$((n+1)); app=$((n*37%%%d)); file=$(printf teams/t%%02d/a%%05d/app.yaml $((app%%%d)) $app)
		sed -i 's/"1[.]0[.][0-9]*@/"1.0.'$n'@/' $file && git add $file && git -c user.name=Bench -c user.email=bench@example.org -c commit.gpgsign=false commit -q -m "Change (#$n)" || exit 1; done`, size.Apps, size.Teams)
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = r.dir
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return func() {
		if err := cmd.Process.Kill(); err != nil {
			b.Error(err)
		}
		_ = cmd.Wait() // it was killed
	}
}

// questions are the queries of a working hour: what an operator, a chat bot
// and a dashboard ask of a fleet.
func questions(size fixtures.Synthetic) []string {
	var out []string
	for range 500 {
		app, host := rand.N(size.Apps), rand.N(size.Hosts)
		team := fmt.Sprintf("t%02d", app%size.Teams)
		name := fmt.Sprintf("%s.a%05d", team, app)
		out = append(out, "relations/apps/"+name+"?to=hosts", "relations/apps/"+name, "relations/domains/"+fmt.Sprintf("a%05d.%s.example?to=apps", app, team),
			"relations/domains/"+fmt.Sprintf("a%05d.%s.example?to=hosts", app, team), fmt.Sprintf("relations/hosts/h%05d?to=owner", host), fmt.Sprintf("relations/hosts/h%05d?to=apps", host),
			"relations/groups/"+name+"/prod.dc1?to=members", "relations/routes/"+name+"?to=groups", "relations/teams/"+team+"?to=apps", "relations/teams/"+team+"?to=hosts",
			fmt.Sprintf("relations/racks/r%04d?to=apps", host/20), "history?about=apps/"+name, "history?about=domains/"+fmt.Sprintf("a%05d.%s.example", app, team))
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// BenchmarkRelations asks the API of a daemon that holds the full fleet, at a
// fixed pace, while commits arrive: the clients' cost is in it. Run it with
// GOMAXPROCS=1 for the figure of one core; -short asks a tenth of the fleet.
func BenchmarkRelations(b *testing.B) {
	size := fixtures.FullSize
	if testing.Short() {
		size.Apps, size.Hosts = 500, 1000
	}
	size.Language = "yaml"
	repo := newDefinitionsRepo(b, size)
	e := &engine{version: "bench"}
	res, err := render.Render(b.Context(), os.DirFS(repo.dir), render.Options{})
	if err != nil || schema.AnyDenied(res.Findings) {
		b.Fatal(err, res.Findings)
	}
	source, err := gitsource.New(gitsource.Config{URL: repo.dir, Branch: "main"})
	if err != nil {
		b.Fatal(err)
	}
	cfg := reconciler.Config{Owner: "bench", Drivers: []drivers.Driver{newPlaced(&res.Fleet, size.Hosts)}, Source: source, Store: journal.NewMemory(), Renderer: e.renderer(""),
		Version: "bench", Resume: true, Poll: 200 * time.Millisecond}
	ctx, cancel := context.WithCancel(b.Context())
	var loop *reconciler.Loop
	var address string
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- runDaemon(ctx, cfg, daemon{listen: "127.0.0.1:0", log: slog.New(slog.DiscardHandler), version: "bench", ready: func(l *reconciler.Loop, at string) {
			loop, address = l, at
			close(ready)
		}})
	}()
	<-ready
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}()
	first := ""
	for end := time.Now().Add(4 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		r := loop.Report()
		if first = r.InForce; first != "" && r.Health == "HEALTHY" && len(r.Groups) == 2*size.Apps {
			break
		}
		if time.Now().After(end) {
			b.Fatalf("the full fleet is not at rest: %s %.3v, %d groups", r.Health, r.Because, len(r.Groups))
		}
	}
	const perSecond, span = 170, 30 * time.Second
	end := repo.changes(b, size)
	defer end()
	for b.Loop() {
		asked(b, loop, address, questions(size), perSecond, span)
	}
}

// asked asks perSecond questions for a span; a late answer is late from when
// it was to be asked.
func asked(b *testing.B, loop *reconciler.Loop, address string, questions []string, perSecond int, span time.Duration) {
	b.Helper()
	inForce := map[string]bool{}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				inForce[loop.Plan().Commit] = true
			}
		}
	}()
	total := perSecond * int(span/time.Second)
	took := make([]time.Duration, total)
	var next atomic.Int64
	var clients sync.WaitGroup
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	used, err := cpuTime()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	for range 16 {
		clients.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= total {
					return
				}
				due := began.Add(span * time.Duration(n) / time.Duration(total))
				time.Sleep(time.Until(due))
				res, err := client.Get("http://" + address + "/v1/" + questions[n%len(questions)])
				if err != nil {
					b.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, res.Body)
				if closed := res.Body.Close(); err != nil || closed != nil || res.StatusCode != http.StatusOK {
					b.Errorf("%s: %d %v", questions[n%len(questions)], res.StatusCode, err)
				}
				took[n] = time.Since(due)
			}
		})
	}
	clients.Wait()
	elapsed := time.Since(began)
	close(stop)
	<-stopped
	after, err := cpuTime()
	if err != nil {
		b.Fatal(err)
	}
	slices.Sort(took)
	at := func(p int) float64 { return float64(took[min(total-1, total*p/100)].Microseconds()) / 1000 }
	b.ReportMetric(float64(total)/elapsed.Minutes(), "queries/min")
	b.ReportMetric(at(50), "p50-ms")
	b.ReportMetric(at(99), "p99-ms")
	b.ReportMetric(at(100), "max-ms")
	b.ReportMetric(float64(len(inForce)-1), "commits")
	b.ReportMetric(100*(after-used).Seconds()/elapsed.Seconds(), "cpu-percent")
}
