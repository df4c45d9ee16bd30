package gitsource_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"locktide.dev/reconciler/gitsource"
)

type origin struct {
	t   testing.TB
	dir string
}

func newOrigin(t testing.TB) origin {
	t.Helper()
	o := origin{t, t.TempDir()}
	o.git("init", "-q", "-b", "main")
	return o
}

func (o origin) git(args ...string) string {
	o.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", o.dir, "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (o origin) write(files map[string]string) {
	o.t.Helper()
	for name, content := range files {
		path := filepath.Join(o.dir, name)
		must(o.t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(o.t, os.WriteFile(path, []byte(content), 0o644))
	}
}

func (o origin) commit(name, content string) string {
	o.t.Helper()
	o.write(map[string]string{name: content})
	o.git("add", "-A")
	o.git("commit", "-q", "-m", "Change "+name)
	return o.git("rev-parse", "HEAD")
}

// each runs a test with either client.
func each(t *testing.T, run func(*testing.T, gitsource.Config)) {
	t.Parallel()
	for _, client := range []string{"builtin", "git"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			run(t, gitsource.Config{Client: client, MirrorDir: t.TempDir()})
		})
	}
}

// with gives a client's configuration the repository of another.
func with(cfg, of gitsource.Config) gitsource.Config {
	of.Client, of.MirrorDir = cfg.Client, cfg.MirrorDir
	return of
}

func open(t testing.TB, cfg gitsource.Config) *gitsource.Source {
	t.Helper()
	s, err := gitsource.New(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func TestFollowsABranch(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		o := newOrigin(t)
		o.commit("defs/a.yaml", "apps: {}\n")
		o.commit("defs/deep/b.json", "{}\n")
		o.git("commit", "-q", "--amend", "-m", "Change defs/deep/b.json", "-m", "See merge request acme/cart!34")
		first := o.git("rev-parse", "HEAD")
		s := open(t, with(cfg, gitsource.Config{URL: o.dir, Path: "defs"}))
		rev, err := s.Latest(t.Context())
		if err != nil || rev.Commit != first || !rev.FastForward || rev.Subject != "Change defs/deep/b.json" || strings.TrimSpace(rev.Body) != "See merge request acme/cart!34" {
			t.Fatalf("revision %+v, error %v", rev, err)
		}
		if err := fstest.TestFS(rev.Tree, "a.yaml", "deep/b.json"); err != nil {
			t.Fatal(err)
		}
		second := o.commit("defs/a.yaml", "apps: {x: {}}\n")
		next, err := s.Latest(t.Context())
		if err != nil || next.Commit != second || !next.FastForward || next.Previous != first {
			t.Fatalf("revision %+v, error %v", next, err)
		}
		old, err := fs.ReadFile(rev.Tree, "a.yaml")
		if err != nil || string(old) != "apps: {}\n" {
			t.Fatalf("an older revision's file reads %q, error %v", old, err)
		}
	})
}

func TestUnrelatedHistoryIsNoFastForward(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		o := newOrigin(t)
		o.commit("a.yaml", "apps: {}\n")
		s := open(t, with(cfg, gitsource.Config{URL: o.dir}))
		if _, err := s.Latest(t.Context()); err != nil {
			t.Fatal(err)
		}
		o.git("checkout", "-q", "--orphan", "other")
		o.commit("a.yaml", "apps: {y: {}}\n")
		o.git("branch", "-M", "other", "main")
		rev, err := s.Latest(t.Context())
		if err != nil || rev.FastForward {
			t.Fatalf("a force-push to an unrelated history passes for a fast-forward: %+v, error %v", rev, err)
		}
		if s.Descends(rev.Previous, rev.Commit) {
			t.Fatal("unrelated commits pass for descendants")
		}
	})
}

func TestErrorsKeepSecrets(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		token := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(token, []byte("sesame-open\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, url := range []string{"http://user:sesame-open@127.0.0.1:1/x.git", filepath.Join(t.TempDir(), "none")} {
			_, err := open(t, with(cfg, gitsource.Config{URL: url, TokenFile: token})).Latest(t.Context())
			if err == nil || strings.Contains(err.Error(), "sesame") || !strings.Contains(err.Error(), "last good") {
				t.Fatalf("error of %s: %v", gitsource.Redact(url), err)
			}
		}
	})
}

func TestSymlinksCannotBeOpened(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		o := newOrigin(t)
		if err := os.Symlink("/etc/passwd", filepath.Join(o.dir, "secret.yaml")); err != nil {
			t.Fatal(err)
		}
		o.commit("a.yaml", "apps: {}\n")
		rev, err := open(t, with(cfg, gitsource.Config{URL: o.dir})).Latest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if b, err := fs.ReadFile(rev.Tree, "secret.yaml"); err == nil {
			t.Fatalf("a symbolic link was read: %q", b)
		}
	})
}

func TestMissingBranch(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		o := newOrigin(t)
		o.commit("a.yaml", "apps: {}\n")
		_, err := open(t, with(cfg, gitsource.Config{URL: o.dir, Branch: "prod"})).Latest(t.Context())
		if err == nil || !strings.Contains(err.Error(), `no branch "prod"`) {
			t.Fatalf("error %v", err)
		}
	})
}

// A revision of any branch can be read, and the branch that is followed stays.
func TestAtARevision(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		o := newOrigin(t)
		first := o.commit("a.yaml", "apps: {}\n")
		o.git("checkout", "-q", "-b", "feature/cart")
		other := o.commit("b.yaml", "apps: {}\n")
		o.git("checkout", "-q", "main")
		last := o.commit("c.yaml", "apps: {}\n")
		s := open(t, with(cfg, gitsource.Config{URL: o.dir}))
		for rev, want := range map[string]string{"feature/cart": other, other: other, other[:9]: other, first: first, "main": last} {
			got, err := s.At(t.Context(), rev)
			if err != nil || got.Commit != want {
				t.Errorf("%s: %s, %v; want %s", rev, got.Commit, err, want)
			}
		}
		if rev, err := s.Latest(t.Context()); err != nil || rev.Commit != last {
			t.Errorf("latest is %s, %v", rev.Commit, err)
		}
		for _, rev := range []string{"nowhere", "", "--upload-pack=x", "HEAD~99", "^{/x", strings.Repeat("x", 9999)} {
			if got, err := s.At(t.Context(), rev); err == nil {
				t.Errorf("%.20q is commit %s", rev, got.Commit)
			}
		}
	})
}

// Evaluators read a commit's tree side by side.
func TestATreeMayBeReadConcurrently(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		o := newOrigin(t)
		for i := range 20 {
			o.commit(fmt.Sprintf("defs/%d/a.yaml", i), "apps: {}\n")
		}
		rev, err := open(t, with(cfg, gitsource.Config{URL: o.dir})).Latest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				err := fs.WalkDir(rev.Tree, ".", func(name string, d fs.DirEntry, err error) error {
					if err != nil || d.IsDir() {
						return err
					}
					if _, err := d.Info(); err != nil {
						return err
					}
					_, err = fs.ReadFile(rev.Tree, name)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		readers.Wait()
	})
}
