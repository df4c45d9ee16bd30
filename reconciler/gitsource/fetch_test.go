package gitsource_test

import (
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"

	"locktide.dev/reconciler"
	"locktide.dev/reconciler/gitsource"
)

// latest gives the newest revision, which must be the one that is wanted.
func latest(t testing.TB, s *gitsource.Source, want string) reconciler.Revision {
	t.Helper()
	rev, err := s.Latest(t.Context())
	if err != nil || rev.Commit != want {
		t.Fatalf("revision %s, want %s, error %v", rev.Commit, want, err)
	}
	return rev
}

func content(t testing.TB, rev reconciler.Revision, name, want string) {
	t.Helper()
	if got, err := fs.ReadFile(rev.Tree, name); err != nil || string(got) != want {
		t.Fatalf("%s of %.8s: %.60q, error %v; want %q", name, rev.Commit, got, err, want)
	}
}

// The branch goes back to a commit that is older than the newest at the first
// fetch: nothing of it is held, and a server that trusts what is held sends
// nothing.
func TestABranchThatGoesBackBeyondTheFirstFetch(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		o := newOrigin(t)
		old := o.commit("a.yaml", "one\n")
		o.commit("a.yaml", "two\n")
		newest := o.commit("a.yaml", "three\n")
		s := open(t, with(cfg, gitsource.Config{URL: o.dir}))
		latest(t, s, newest)
		o.git("reset", "-q", "--hard", old)
		rev := latest(t, s, old)
		content(t, rev, "a.yaml", "one\n")
		if rev.FastForward {
			t.Error("going back passes for a fast-forward")
		}
		next := o.commit("a.yaml", "four\n")
		if rev := latest(t, s, next); !rev.FastForward {
			t.Error("the commit after it is no fast-forward")
		}
	})
}

// A server with bitmaps leaves out what any older commit holds, also what was
// never fetched: a revert lacks its files until they are fetched again.
func TestARevertFromAServerWithBitmaps(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		o := newOrigin(t)
		o.commit("a.yaml", strings.Repeat("one\n", 100))
		newest := o.commit("a.yaml", "two\n")
		s := open(t, with(cfg, gitsource.Config{URL: o.dir}))
		latest(t, s, newest)
		o.git("revert", "--no-edit", "HEAD")
		o.git("repack", "-q", "-a", "-d", "-b")
		rev := latest(t, s, o.git("rev-parse", "HEAD"))
		content(t, rev, "a.yaml", strings.Repeat("one\n", 100))
		if !rev.FastForward {
			t.Error("a revert is no fast-forward")
		}
	})
}

// A source that starts has the newest commit alone. What was in force before
// is proven to lead to it, or not.
func TestWhatWasInForceBeforeTheStart(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		for _, filter := range []string{"false", "true"} {
			o := newOrigin(t)
			o.git("config", "uploadpack.allowFilter", filter)
			o.commit("a.yaml", "0\n")
			before := o.commit("a.yaml", "1\n")
			o.git("checkout", "-q", "-b", "side")
			side := o.commit("b.yaml", "1\n")
			o.git("checkout", "-q", "main")
			for i := range 20 {
				o.commit("a.yaml", fmt.Sprintf("2.%d\n", i))
			}
			newest := o.git("rev-parse", "HEAD")
			s := open(t, with(cfg, gitsource.Config{URL: o.dir}))
			latest(t, s, newest)
			for old, want := range map[string]bool{before: true, side: false, strings.Repeat("1", 40): false} {
				if err := s.Reach(t.Context(), old, newest); err != nil {
					t.Fatal(err)
				}
				if got := s.Descends(old, newest); got != want {
					t.Errorf("%.8s leads to the newest: %v, filter %s", old, got, filter)
				}
			}
			o.git("merge", "-q", "--no-ff", "-m", "Merge side", "side")
			merge := o.git("rev-parse", "HEAD")
			if rev := latest(t, s, merge); !rev.FastForward || !s.Descends(before, merge) || !s.Descends(side, merge) {
				t.Error("the merge is not proven to follow")
			}
		}
	})
}

// A commit whose objects the server lost is refused by name, and the next one
// is taken.
func TestACommitThatIsNotWhole(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		o := newOrigin(t)
		first := o.commit("teams/a.yaml", "one\n")
		s := open(t, with(cfg, gitsource.Config{URL: o.dir}))
		latest(t, s, first)
		o.commit("teams/a.yaml", "two\n")
		blob := o.git("rev-parse", "HEAD:teams/a.yaml")
		file := fmt.Sprintf("%s/.git/objects/%s/%s", o.dir, blob[:2], blob[2:])
		must(t, os.Remove(file))
		if rev, err := s.Latest(t.Context()); err == nil || !strings.Contains(err.Error(), "last good commit stays") {
			t.Fatalf("a commit without its file is revision %s, error %v", rev.Commit, err)
		}
		latest(t, s, o.commit("teams/a.yaml", "three\n"))
	})
}

// Memory and disk stay bounded however many commits come.
func TestManyFetchesInBoundedMemory(t *testing.T) {
	o := newOrigin(t)
	many := map[string]string{}
	for i := range 300 {
		many[fmt.Sprintf("hosts/h%03d.yaml", i)] = fmt.Sprintf("hosts: {h%d: {}}\n", i)
	}
	o.write(many)
	s := open(t, gitsource.Config{URL: o.dir})
	latest(t, s, o.commit("a.yaml", "0\n"))
	before := heap()
	body := strings.Repeat("x", 512<<10)
	for i := range 80 { // 40 MiB in all
		rev := latest(t, s, o.commit("a.yaml", fmt.Sprint(body, i)))
		if !rev.FastForward {
			t.Fatalf("commit %d is no fast-forward", i)
		}
	}
	if after := heap(); after > before+25<<20 {
		t.Errorf("the heap grew from %d to %d MiB", before>>20, after>>20)
	}
	runtime.KeepAlive(s)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
