package app

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"locktide.dev/cmd/internal/config"
	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/gitsource"
	"locktide.dev/reconciler/journal"
	"locktide.dev/render"
	"locktide.dev/schema"
)

// served is a daemon on a backend in memory that follows a repository.
type served struct {
	t   *testing.T
	api string
	log *output
}

func serve(t *testing.T, cfg gitsource.Config) *served {
	t.Helper()
	return serveEvery(t, cfg, time.Second)
}

// serveEvery is serve with another poll. Its webhooks' secret is its token.
func serveEvery(t *testing.T, cfg gitsource.Config, poll time.Duration) *served {
	t.Helper()
	source, err := gitsource.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("open"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, log: &output{}}
	e := &engine{version: "test"}
	loop := reconciler.Config{Owner: "acme", Drivers: []drivers.Driver{memory.New(memory.Options{Name: "edge"})}, Source: source, Store: journal.NewMemory(),
		Renderer: e.renderer(render.Freeze), Version: "test", Poll: poll, Resume: true}
	ctx, cancel := context.WithCancel(t.Context())
	ended, ready := make(chan error, 1), make(chan string, 1)
	go func() {
		ended <- runDaemon(ctx, loop, daemon{listen: "127.0.0.1:0", tokenFile: token, git: config.Git{Branch: "main", WebhookSecret: token}, log: newLog(s.log, slog.LevelInfo), version: "test",
			ready: func(_ *reconciler.Loop, at string) { ready <- at }})
	}()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, source.Close()); err != nil {
			t.Errorf("the daemon ended: %v\n%s", err, s.log)
		}
	})
	s.api = <-ready
	return s
}

func (s *served) get(path string) (int, string) {
	answer, err := http.Get("http://" + s.api + path)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(body)
}

func (s *served) sync() {
	req, err := http.NewRequest("POST", "http://"+s.api+"/v1/commands", strings.NewReader(`{"verb":"sync"}`))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer open")
	if answer, err := http.DefaultClient.Do(req); err == nil {
		answer.Body.Close()
	}
}

// await asks until the report is as wanted.
func (s *served) await(what string, ok func(schema.Report) bool) {
	s.t.Helper()
	var body string
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(100 * time.Millisecond) {
		var r schema.Report
		_, body = s.get("/v1/report")
		if err := json.Unmarshal([]byte(body), &r); err == nil && ok(r) {
			return
		}
		s.sync()
	}
	s.t.Fatalf("not seen: %s\n%s", what, body)
}

// objects is a repository whose objects no git command would write.
type objects struct {
	t   *testing.T
	dir string
}

func (o objects) git(args ...string) string {
	o.t.Helper()
	out, err := exec.Command("git", append([]string{"-C", o.dir, "-c", "user.name=Eve", "-c", "user.email=eve@example.org"}, args...)...).Output()
	if err != nil {
		o.t.Fatalf("git %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// write stores an object and gives its id.
func (o objects) write(kind, body string) string {
	o.t.Helper()
	whole := fmt.Sprintf("%s %d\x00%s", kind, len(body), body)
	id := fmt.Sprintf("%x", sha1.Sum([]byte(whole)))
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, err := io.WriteString(z, whole)
	name := filepath.Join(o.dir, "objects", id[:2], id[2:])
	err = errors.Join(err, z.Close(), os.MkdirAll(filepath.Dir(name), 0o755))
	if err = errors.Join(err, os.WriteFile(name, packed.Bytes(), 0o644)); err != nil {
		o.t.Fatal(err)
	}
	return id
}

// tree makes one of lines "mode name\x00id", as they are.
func (o objects) tree(lines ...string) string {
	o.t.Helper()
	raw := ""
	for _, l := range lines {
		head, id, _ := strings.Cut(l, "\x00")
		bin, err := hex.DecodeString(id)
		if err != nil {
			o.t.Fatal(err)
		}
		raw += head + "\x00" + string(bin)
	}
	return o.write("tree", raw)
}

// commit makes main a commit of a tree, on top of another or of none.
func (o objects) commit(tree, parent string) string {
	o.t.Helper()
	if parent != "" {
		parent = "parent " + parent + "\n"
	}
	id := o.write("commit", "tree "+tree+"\n"+parent+"author Eve <eve@example.org> 1 +0000\ncommitter Eve <eve@example.org> 1 +0000\n\nx\n")
	o.git("update-ref", "refs/heads/main", id)
	return id
}

// Whatever a repository holds, the daemon stays up and the error names what is
// wrong. What can be told apart goes on; what cannot leaves the last good commit
// in force.
func TestHostileRepositories(t *testing.T) {
	t.Parallel()
	for _, client := range []string{"builtin", "git"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			hostileRepositories(t, client)
		})
	}
}

func hostileRepositories(t *testing.T, client string) {
	o := objects{t, t.TempDir()}
	o.git("init", "-q", "--bare", ".")
	file := func(name, text string) string { return "100644 " + name + "\x00" + o.write("blob", text) }
	link := func(name, to string) string { return "120000 " + name + "\x00" + o.write("blob", to) }
	module := "160000 sub.yaml\x00" + strings.Repeat("17", 20)
	n := 0
	good := func() string { // the unit that goes on
		n++
		return file("web.yaml", fmt.Sprintf("apps: {shop.web: {release: v%d}}\n", n))
	}
	bomb := o.tree(file("a.yaml", "apps: {}\n"))
	for range 12 {
		var lines []string
		for i := range 10 {
			lines = append(lines, fmt.Sprintf("40000 d%d\x00%s", i, bomb))
		}
		bomb = o.tree(lines...)
	}
	deep := o.tree(file("a.yaml", "apps: {}\n"))
	for range 300 {
		deep = o.tree("40000 d\x00" + deep)
	}
	first := o.commit(o.tree(good()), "")
	s := serve(t, gitsource.Config{URL: o.dir, Client: client, MirrorDir: t.TempDir()})
	inForce := func(commit string) func(schema.Report) bool {
		return func(r schema.Report) bool { return r.InForce == commit && r.FetchError == "" && len(r.Findings) == 0 }
	}
	s.await("the first commit", inForce(first))
	last := first
	for name, c := range map[string]struct {
		lines  []string
		says   []string // of the finding or the error
		goesOn bool     // with the other unit
	}{
		"links": {[]string{link("abs.yaml", "/etc/passwd"), link("chain.yaml", "loop"), link("dangling.cue", "nowhere"), link("dir", "."), link("loop", "loop"), link("out.json", "../../x")},
			[]string{"abs.yaml", "chain.yaml", "dangling.cue", "dir", "loop", "out.json", "symbolic link"}, true},
		"a submodule in a definition's place": {[]string{module}, []string{"sub.yaml", "not a regular file"}, true},
		"submodules, filters and hooks": {[]string{file(".gitattributes", "* filter=evil\n"), file(".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = ext::touch x\n"),
			"40000 hooks\x00" + o.tree("100755 post-checkout\x00"+o.write("blob", "#!/bin/sh\ntouch ran\n"))}, nil, true},
		"names of Git's own":         {[]string{"40000 .GIT\x00" + o.tree(file("config", "x")), file(".git", "gitdir: /\n"), file(".git::$INDEX", "x"), file(".gi\u200ct", "x")}, nil, true},
		"a name with a line end":     {[]string{file("a\nb.yaml", "apps: {}\n")}, []string{`a\\nb.yaml`, "plain text"}, true},
		"a name that is no UTF-8":    {[]string{file("a\xff.yaml", "apps: {}\n")}, []string{`a\\xff.yaml`, "plain text"}, true},
		"a long name":                {[]string{file(strings.Repeat("a", 300)+".yaml", "apps: {}\n")}, []string{"aaa", "plain text"}, true},
		"names that differ in case":  {[]string{file("WEB.yaml", "apps: {shop.other: {release: v1}}\n")}, nil, true},
		"a file that cannot be read": {[]string{file("bad.yaml", "apps: {shop.bad: {release: [}}\n")}, []string{"bad.yaml"}, true},
		"a folder above":             {[]string{file("..", "apps: {}\n")}, []string{`\"..\"`, "rename it"}, false},
		"a folder above as folder":   {[]string{"40000 d\x00" + o.tree("40000 ..\x00"+deep)}, []string{"d: ", `\"..\"`}, false},
		"an absolute name":           {[]string{file("/etc/x.yaml", "apps: {}\n")}, []string{`\"/etc/x.yaml\"`}, false},
		"a name twice":               {[]string{file("a.yaml", "apps: {}\n"), file("a.yaml", "apps: {shop.web: {}}\n")}, []string{`\"a.yaml\" twice`}, false},
		"a mode that is none":        {[]string{"777 a.yaml\x00" + o.write("blob", "x")}, []string{`\"a.yaml\"`, `\"777\"`}, false},
		"a file that is a tree":      {[]string{"100644 a.yaml\x00" + deep}, []string{"a.yaml", "not a blob"}, false},
		"a file that is missing":     {[]string{"100644 a.yaml\x00" + strings.Repeat("12", 20)}, []string{"could not fetch"}, false},
		"folders without end":        {[]string{"40000 d\x00" + deep}, []string{"d/d/d", "more than 200 folders"}, false},
		"a thousand billion files":   {[]string{"40000 b\x00" + bomb}, []string{"more than", "files"}, false},
		"nothing":                    {nil, []string{"defines nothing"}, false},
	} {
		lines := c.lines
		if name != "nothing" {
			lines = append(lines, good())
		}
		commit := o.commit(o.tree(lines...), last)
		began := time.Now()
		s.await(name, func(r schema.Report) bool {
			raw, err := json.Marshal([]any{r.FetchError, r.Findings})
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range c.says {
				if !strings.Contains(string(raw), part) {
					return false
				}
			}
			if c.goesOn {
				return r.InForce == commit && (len(c.says) > 0) == (len(r.Findings) > 0)
			}
			return r.InForce == last
		})
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s took %s", name, took)
		}
		if c.goesOn {
			last = commit
		}
		if code, body := s.get("/healthz"); code != http.StatusOK {
			t.Errorf("%s: health %d %s", name, code, body)
		}
		last = o.commit(o.tree(good()), commit)
		s.await("the good commit after "+name, inForce(last))
	}

	// The branch goes away, and comes back.
	o.git("update-ref", "-d", "refs/heads/main")
	s.await("the repository without a commit", func(r schema.Report) bool {
		return r.InForce == last && strings.Contains(r.FetchError, "has no")
	})
	o.git("update-ref", "refs/heads/main", last)
	s.await("the branch back again", inForce(last))
	// History rewritten.
	other := o.commit(o.tree(good()), "")
	s.await("the other history", inForce(other))
}
