package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing/fstest"
	"time"

	"locktide.dev/fixtures"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/gitsource"
	"locktide.dev/render"
	"locktide.dev/render/cache"
	"locktide.dev/render/worker"
	"locktide.dev/schema"
)

// synthetic measures a synthetic fleet from Git to a rendered fleet, all
// through the evaluators in their child processes.
func synthetic(ctx context.Context, dir string, size fixtures.Synthetic, t *table) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	repo, err := newRepository(filepath.Join(dir, "definitions"), size.Files())
	if err != nil {
		return err
	}
	source, err := gitsource.New(gitsource.Config{URL: repo.dir})
	if err != nil {
		return err
	}
	pool := worker.New(worker.Config{Program: program})
	defer pool.Close()
	report := func(err error) { fmt.Fprintln(os.Stderr, "bench:", err) }
	file := filepath.Join(dir, "render.cache")
	evaluator := &watched{Evaluator: pool}
	session, err := render.NewSession(evaluator, cache.New(file, "bench", report))
	if err != nil {
		return err
	}
	rev, fetched, err := fetch(ctx, source)
	if err != nil {
		return err
	}
	var first render.Result
	var cold time.Duration
	used, err := usages(pool, func() (err error) {
		first, cold, err = timed(ctx, session, rev)
		return err
	})
	if err != nil {
		return err
	}
	_, largest, err := usage(syscall.RUSAGE_CHILDREN)
	if err != nil {
		return err
	}
	f := first.Fleet
	members := 0
	for _, g := range f.Groups.All() {
		members += g.Count.Number
	}
	raw := schema.MustCanonical(f)
	decode, err := decodes(raw)
	if err != nil {
		return err
	}
	t.add("files, apps, groups, members, routes, hosts", fmt.Sprintf("%d, %d, %d, %d, %d, %d", first.Files, len(f.Apps), f.Groups.Len(), members, len(f.Routes), len(f.Hosts)), fmt.Sprintf("%d units evaluated", first.Evaluated))
	t.add("JSON decode of the rendered fleet", short(decode), fmt.Sprintf("best of 3, %.1f MiB", float64(len(raw))/(1<<20)))
	t.add("clone", short(fetched), "file://")
	t.add("cold render", short(cold), fmt.Sprintf("%s x JSON decode, wall, two children; %s of it in the evaluator; %s, of which the largest took %d MiB; aim 45 and 15s", ratio(cold, decode), short(evaluator.took), used, largest))

	if err := restarted(ctx, program, repo, file, raw, t); err != nil {
		return err
	}

	if err := inOtherLanguages(ctx, pool, size, raw, decode, t); err != nil {
		return err
	}
	if err := oneFileCommits(ctx, repo, source, session, evaluator, size, t); err != nil {
		return err
	}
	if err := repo.edit("platform/lib/lib.cue", `LOG: "info"`, `LOG: "debug"`); err != nil {
		return err
	}
	if rev, _, err = fetch(ctx, source); err != nil {
		return err
	}
	var changed render.Result
	var took time.Duration
	if used, err = usages(pool, func() (err error) {
		changed, took, err = timed(ctx, session, rev)
		return err
	}); err != nil {
		return err
	}
	t.add("render of a change in the library", short(took), fmt.Sprintf("%d units evaluated, %d definitions changed; %s; aim not above the cold render", changed.Evaluated, len(changed.Changed), used))
	peak := resident()
	debug.FreeOSMemory()
	t.add("memory of this process", resident(), "resident, with the session, the fleet, its positions and the Git objects; "+peak+" right after that change")
	runtime.KeepAlive(session)
	runtime.KeepAlive(source)
	return nil
}

// decodes measures the JSON decode of a fleet.
func decodes(raw []byte) (time.Duration, error) {
	return best(3, func() error {
		var out schema.Fleet
		return json.Unmarshal(raw, &out)
	})
}

// inOtherLanguages measures the cold render of the same fleet in YAML, which
// needs no evaluator (what remains of a cold render if evaluating costs
// nothing), and in Jsonnet. Both have to come to what the CUE came to.
func inOtherLanguages(ctx context.Context, pool *worker.Pool, size fixtures.Synthetic, fleet []byte, decode time.Duration, t *table) error {
	for _, c := range []struct {
		language, name, how string
		evaluator           render.Evaluator
	}{{"yaml", "YAML", "in this process", nil}, {"jsonnet", "Jsonnet", "two children", pool}} {
		size.Language = c.language
		tree := fstest.MapFS{}
		for name, text := range size.Files() {
			tree[name] = &fstest.MapFile{Data: []byte(text)}
		}
		session, err := render.NewSession(c.evaluator, nil)
		if err != nil {
			return err
		}
		before, err := cpu()
		if err != nil {
			return err
		}
		got, took, err := timed(ctx, session, reconciler.Revision{Tree: tree})
		if err != nil {
			return err
		}
		after, err := cpu()
		if err != nil {
			return err
		}
		if !bytes.Equal(schema.MustCanonical(got.Fleet), fleet) {
			return fmt.Errorf("the fleet in %s is another one than in CUE", c.name)
		}
		t.add("cold render of the same fleet in "+c.name, short(took), fmt.Sprintf("%s x JSON decode, wall, %s; CPU of this process %s; the same digests", ratio(took, decode), c.how, short(after-before)))
	}
	return nil
}

// watched is an evaluator that is watched.
type watched struct {
	render.Evaluator
	took time.Duration // for the newest tree
}

// Evaluate implements render.Evaluator.
func (w *watched) Evaluate(ctx context.Context, fsys fs.FS, tasks []render.Task) ([]render.Answer, error) {
	began := time.Now()
	answers, err := w.Evaluator.Evaluate(ctx, fsys, tasks)
	w.took = time.Since(began)
	return answers, err
}

// oneFileCommits measures commits of one file each.
func oneFileCommits(ctx context.Context, repo repository, source *gitsource.Source, session *render.Session, evaluator *watched, size fixtures.Synthetic, t *table) error {
	var renders, all, evaluated []time.Duration
	var spent time.Duration
	for i := range 60 {
		app := i * 37 % size.Apps
		team := fmt.Sprintf("t%02d", app%size.Teams)
		name := fmt.Sprintf("teams/%s/a%05d/app.cue", team, app)
		if err := repo.edit(name, `#version: "1.0.0"`, fmt.Sprintf(`#version: "1.0.%d"`, i+1)); err != nil {
			return err
		}
		began := time.Now()
		rev, _, err := fetch(ctx, source)
		if err != nil {
			return err
		}
		before, err := cpu()
		if err != nil {
			return err
		}
		r, took, err := timed(ctx, session, rev)
		if err != nil {
			return err
		}
		after, err := cpu()
		if err != nil {
			return err
		}
		spent += after - before
		if r.Evaluated != 1 || len(r.Changed) != 2 {
			return fmt.Errorf("a commit of one file evaluated %d units and changed %v", r.Evaluated, r.Changed)
		}
		renders, all, evaluated = append(renders, took), append(all, time.Since(began)), append(evaluated, evaluator.took)
	}
	slices.Sort(renders)
	slices.Sort(all)
	slices.Sort(evaluated)
	at := func(d []time.Duration, p int) string { return short(d[min(len(d)-1, len(d)*p/100)]) }
	t.add("render of a commit of one file", at(renders, 50), "median of 60; p90 "+at(renders, 90)+", worst "+at(renders, 100)+"; CPU of this process "+short(spent/60)+"; in the evaluator "+at(evaluated, 50))
	t.add("fetch and render of a commit of one file", at(all, 50), "median of 60; p90 "+at(all, 90)+", worst "+at(all, 100))
	return nil
}

func fetch(ctx context.Context, source *gitsource.Source) (reconciler.Revision, time.Duration, error) {
	began := time.Now()
	rev, err := source.Latest(ctx)
	return rev, time.Since(began), err
}

func timed(ctx context.Context, s *render.Session, rev reconciler.Revision) (render.Result, time.Duration, error) {
	began := time.Now()
	r, err := s.Render(ctx, rev.Tree, render.Options{})
	took := time.Since(began)
	if err == nil && !r.Complete {
		err = fmt.Errorf("the synthetic fleet does not render: %v", r.Findings[0])
	}
	return r, took, err
}

// resident gives the resident memory of this process.
func resident() string {
	raw, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(raw)
	if err != nil || len(fields) < 2 {
		return "unknown"
	}
	pages, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%d MiB", pages*os.Getpagesize()>>20)
}

// repository is a Git repository whose files this program writes.
type repository struct{ dir string }

func newRepository(dir string, files map[string]string) (repository, error) {
	r := repository{dir}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return r, err
		}
	}
	if err := r.git("init", "-q", "-b", "main"); err != nil {
		return r, err
	}
	return r, r.commit()
}

func (r repository) edit(name, old, text string) error {
	path := filepath.Join(r.dir, name)
	have, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !strings.Contains(string(have), old) {
		return fmt.Errorf("%s has no %s", name, old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(have), old, text, 1)), 0o644); err != nil {
		return err
	}
	return r.commit()
}

func (r repository) commit() error {
	return errors.Join(r.git("add", "-A"), r.git("-c", "user.name=Bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgsign=false", "commit", "-q", "-m", "Change"))
}

// head is the newest commit.
func (r repository) head() (string, error) {
	out, err := exec.Command("git", "-C", r.dir, "rev-parse", "HEAD").Output()
	return strings.TrimSpace(string(out)), err
}

func (r repository) git(args ...string) error {
	out, err := exec.Command("git", append([]string{"-C", r.dir}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("git %v: %w: %s", args, err, out)
	}
	return nil
}
