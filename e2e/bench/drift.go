package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"locktide.dev/fixtures"
	"locktide.dev/reconciler/gitsource"
	"locktide.dev/render"
	"locktide.dev/render/worker"
)

// drift measures what thousands of commits of one file leave behind in memory.
func drift(ctx context.Context, dir string, commits int, t *table) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	size := fixtures.FullSize
	repo, err := newRepository(filepath.Join(dir, "definitions"), size.Files())
	if err != nil {
		return err
	}
	heads, err := repo.grow(size, commits)
	if err != nil {
		return err
	}
	source, err := gitsource.New(gitsource.Config{URL: repo.dir})
	if err != nil {
		return err
	}
	pool := worker.New(worker.Config{Program: program})
	defer pool.Close()
	session, err := render.NewSession(pool, nil)
	if err != nil {
		return err
	}
	began := time.Now()
	var early uint64
	for i, head := range heads {
		if err := repo.git("update-ref", "refs/heads/main", head); err != nil {
			return err
		}
		rev, _, err := fetch(ctx, source)
		if err != nil {
			return err
		}
		if rev.Commit != head {
			return fmt.Errorf("the source gave %s, want %s", rev.Commit, head)
		}
		if _, _, err := timed(ctx, session, rev); err != nil {
			return err
		}
		if i+1 == commits/10 {
			early = heap()
		}
	}
	late := heap()
	t.add(fmt.Sprintf("heap in use after %d and %d commits", commits/10, commits), fmt.Sprintf("%+.1f %%", 100*(float64(late)/float64(early)-1)),
		fmt.Sprintf("%.1f and %.1f MiB; aim less than 20 %%; resident in the end: this process %s, its evaluators %s", mebi(early), mebi(late), resident(), children()))
	t.add("fetch and render of each", short(time.Since(began)/time.Duration(commits)), "mean, with moving the branch by the git command")
	runtime.KeepAlive(session)
	runtime.KeepAlive(source)
	return nil
}

func mebi(n uint64) float64 { return float64(n) / (1 << 20) }

// heap is what lives in the heap of this process.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// children gives the resident memory of this process's children, together.
func children() string {
	out, err := exec.Command("ps", "-o", "rss=", "--ppid", fmt.Sprint(os.Getpid())).Output()
	if err != nil && len(out) == 0 {
		return "unknown"
	}
	total := 0
	for _, f := range strings.Fields(string(out)) {
		n := 0
		if _, err := fmt.Sscan(f, &n); err == nil {
			total += n
		}
	}
	return fmt.Sprintf("%d MiB", total>>10)
}

// grow adds commits of one app's file each, and gives their hashes; the branch
// stays where it is.
func (r repository) grow(size fixtures.Synthetic, commits int) ([]string, error) {
	files := size.Files()
	var in bytes.Buffer
	from := "refs/heads/main^0"
	for i := range commits {
		app := i * 37 % size.Apps
		name := fmt.Sprintf("teams/t%02d/a%05d/app.cue", app%size.Teams, app)
		text := strings.Replace(files[name], `#version: "1.0.0"`, fmt.Sprintf(`#version: "1.1.%d"`, i), 1)
		fmt.Fprintf(&in, "commit refs/heads/grown\nmark :%d\ncommitter Bench <bench@example.org> %d +0000\ndata 6\nChange\nfrom %s\nM 100644 inline %s\ndata %d\n%s\n",
			i+1, 1_700_000_000+i, from, name, len(text), text)
		from = fmt.Sprintf(":%d", i+1)
	}
	marks := filepath.Join(r.dir, ".git", "grown.marks")
	cmd := exec.Command("git", "-C", r.dir, "fast-import", "--quiet", "--export-marks="+marks)
	cmd.Stdin = &in
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("git fast-import: %w: %s", err, out)
	}
	raw, err := os.ReadFile(marks)
	if err != nil {
		return nil, err
	}
	out := make([]string, commits)
	for line := range strings.Lines(string(raw)) {
		var n int
		var hash string
		if _, err := fmt.Sscanf(line, ":%d %s", &n, &hash); err != nil || n < 1 || n > commits {
			return nil, fmt.Errorf("git fast-import gave the mark %q", line)
		}
		out[n-1] = hash
	}
	return out, nil
}
