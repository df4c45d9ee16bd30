package gitsource_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"locktide.dev/reconciler/gitsource"
)

// A repository with SHA-256 hashes is read by the git command; the built-in
// client says so.
func TestSHA256(t *testing.T) {
	o := origin{t, t.TempDir()}
	o.git("init", "-q", "-b", "main", "--object-format=sha256")
	first := o.commit("defs/a.yaml", "one\n")
	_, err := open(t, gitsource.Config{URL: o.dir}).Latest(t.Context())
	if err == nil || !strings.Contains(err.Error(), "git.client: git") {
		t.Errorf("the built-in client says %v", err)
	}
	s := open(t, gitsource.Config{URL: o.dir, Client: "git"})
	content(t, latest(t, s, first), "defs/a.yaml", "one\n")
	next := o.commit("defs/a.yaml", "two\n")
	rev := latest(t, s, next)
	content(t, rev, "defs/a.yaml", "two\n")
	if !rev.FastForward || len(next) != 64 {
		t.Errorf("revision %s, fast-forward %v", rev.Commit, rev.FastForward)
	}
}

// Nothing of the host's or the user's configuration takes part, nor what the
// daemon's environment says of Git.
func TestTheCommandRunsInAnEnvironmentOfItsOwn(t *testing.T) {
	o := newOrigin(t)
	first := o.commit("a.yaml", "one\n")
	home, ran := t.TempDir(), filepath.Join(t.TempDir(), "ran")
	hooks := t.TempDir()
	must(t, os.WriteFile(filepath.Join(hooks, "reference-transaction"), []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755))
	evil := "[core]\n\thooksPath = " + hooks + "\n[url \"/nowhere\"]\n\tinsteadOf = " + o.dir + "\n"
	must(t, os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(evil), 0o600))
	t.Setenv("HOME", home)
	t.Setenv("GIT_DIR", "/nowhere")
	t.Setenv("GIT_TRACE", ran)
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "core.hooksPath")
	t.Setenv("GIT_CONFIG_VALUE_0", hooks)
	s := open(t, gitsource.Config{URL: "file://" + o.dir, Client: "git"})
	latest(t, s, first)
	if _, err := os.Stat(ran); err == nil {
		t.Error("a hook of the user's was run")
	}
	// The file that the operator names counts.
	named := filepath.Join(home, "ours")
	must(t, os.WriteFile(named, []byte("[url \""+o.dir+"\"]\n\tinsteadOf = /fleet\n"), 0o600))
	latest(t, open(t, gitsource.Config{URL: "/fleet", Client: "git", ConfigFile: named}), first)
	if _, err := open(t, gitsource.Config{URL: "/fleet", Client: "git"}).Latest(t.Context()); err == nil {
		t.Error("a repository that is not there was read")
	}
	// What it rewrites cannot bring in another protocol.
	must(t, os.WriteFile(named, []byte("[url \"ext::sh -c touch% "+ran+"% \"]\n\tinsteadOf = /fleet\n"), 0o600))
	if _, err := open(t, gitsource.Config{URL: "/fleet", Client: "git", ConfigFile: named}).Latest(t.Context()); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("another protocol: %v", err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program of the address was run")
	}
}

// A mirror serves the next start, and one that is damaged is made anew.
func TestAMirrorThatIsDamaged(t *testing.T) {
	o := newOrigin(t)
	o.commit("a.yaml", "one\n")
	cfg := gitsource.Config{URL: o.dir, Client: "git", MirrorDir: t.TempDir()}
	head := func() string { return o.git("rev-parse", "HEAD") }
	latest(t, open(t, cfg), head())
	mirrors, err := filepath.Glob(filepath.Join(cfg.MirrorDir, "*.git"))
	if err != nil || len(mirrors) != 1 {
		t.Fatalf("mirrors %v, error %v", mirrors, err)
	}
	mirror := mirrors[0]
	objects := func() (files []string) {
		for _, p := range []string{"objects/??/*", "objects/pack/*.pack"} {
			found, err := filepath.Glob(filepath.Join(mirror, p))
			must(t, err)
			files = append(files, found...)
		}
		return files
	}
	for name, damage := range map[string]func(){
		"a lock of a process that was killed": func() { must(t, os.WriteFile(filepath.Join(mirror, "refs/heads/main.lock"), nil, 0o600)) },
		"no HEAD":                             func() { must(t, os.Remove(filepath.Join(mirror, "HEAD"))) },
		"empty objects": func() {
			for _, f := range objects() {
				must(t, os.Chmod(f, 0o600))
				must(t, os.Truncate(f, 0))
			}
		},
		"objects that are gone": func() {
			for _, f := range objects() {
				must(t, os.Remove(f))
			}
		},
		"a file with other bytes": func() {
			for _, f := range objects() {
				must(t, os.Chmod(f, 0o600))
				raw, err := os.ReadFile(f)
				must(t, err)
				raw[max(0, len(raw)-25)] ^= 0x40 // a small object is all header and checksum
				must(t, os.WriteFile(f, raw, 0o600))
			}
		},
	} {
		damage()
		s := open(t, cfg)
		rev, err := s.Latest(t.Context())
		if err != nil || rev.Commit != head() {
			t.Errorf("%s: revision %s, error %v", name, rev.Commit, err)
		}
		content(t, latest(t, s, o.commit("a.yaml", name)), "a.yaml", name)
	}
}

// A server that does not answer ends with the time that it was given, and
// leaves no process.
func TestTheCommandEndsInTime(t *testing.T) {
	bin := t.TempDir()
	pid := filepath.Join(t.TempDir(), "pid")
	must(t, os.WriteFile(filepath.Join(bin, "ssh"), []byte("#!/bin/sh\necho $$ > "+pid+"\nexec sleep 600\n"), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	s := open(t, gitsource.Config{URL: "ssh://git@localhost/x.git", Client: "git"})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	began := time.Now()
	_, err := s.Latest(ctx)
	if err == nil || !strings.Contains(err.Error(), "in time") || time.Since(began) > 20*time.Second {
		t.Fatalf("error %v after %s", err, time.Since(began))
	}
	raw, err := os.ReadFile(pid)
	must(t, err)
	for limit := time.Now().Add(20 * time.Second); exec.Command("kill", "-0", strings.TrimSpace(string(raw))).Run() == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("ssh still runs")
		}
	}
}
