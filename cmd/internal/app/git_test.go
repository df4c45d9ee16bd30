package app

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"locktide.dev/reconciler/gitsource"
	"locktide.dev/reconciler/gitsource/signature"
	"locktide.dev/schema"
)

// A Git server that repeats the credentials in its answers does not bring them
// into anything that the daemon says: reports, history, metrics, the log.
func TestCredentialsAreNowhere(t *testing.T) {
	t.Parallel()
	const secret = "hunter2secret"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.Header.Get("Authorization")
		if sent == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		_, password, _ := r.BasicAuth()
		line := "ERR no access for https://ada:" + password + "@git.example with " + password + ", Authorization: " + sent
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		fmt.Fprintf(w, "001e# service=git-upload-pack\n0000%04x%s", len(line)+4, line)
	}))
	defer server.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	inside := strings.Replace(server.URL, "://", "://ada:"+secret+"@", 1)
	for _, client := range []string{"builtin", "git"} {
		for _, cfg := range []gitsource.Config{{URL: inside + "/x.git"}, {URL: server.URL + "/x.git", TokenFile: token}} {
			cfg.Client, cfg.MirrorDir = client, t.TempDir()
			s := serve(t, cfg)
			s.await("the server's refusal", func(r schema.Report) bool { return strings.Contains(r.FetchError, "could not fetch") })
			said := s.log.String()
			for _, path := range []string{"/v1/report", "/v1/history", "/v1/plan", "/v1/changes", "/v1/explain/", "/v1/doctor", "/metrics", "/readyz"} {
				_, body := s.get(path)
				said += body
			}
			for _, word := range []string{secret, base64.StdEncoding.EncodeToString([]byte("ada:" + secret)), base64.StdEncoding.EncodeToString([]byte("git:" + secret))} {
				if at := strings.Index(said, word); at >= 0 {
					t.Errorf("%s: the secret is told: %s", client, said[max(0, at-200):at+len(word)])
				}
			}
			if !strings.Contains(said, "no access for") {
				t.Errorf("%s: the server's own words are lost", client)
			}
		}
	}
}

// The API names a commit whose signature does not count, with the reason and
// what to do; the last good one stays in force and the next good one comes.
func TestAnUnsignedCommitIsTold(t *testing.T) {
	t.Parallel()
	o := objects{t, t.TempDir()}
	o.git("init", "-q", "--bare", ".")
	home := t.TempDir()
	key := filepath.Join(home, "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v %s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	allowed := filepath.Join(home, "allowed")
	if err := os.WriteFile(allowed, append([]byte("ada@example.org "), public...), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := func(release string) string {
		return o.tree("100644 web.yaml\x00" + o.write("blob", "apps: {shop.web: {release: "+release+"}}\n"))
	}
	signed := func(tree string, parents ...string) string {
		args := []string{"-c", "gpg.format=ssh", "-c", "user.signingKey=" + key, "commit-tree", "-S", tree, "-m", "Signed"}
		for _, p := range parents {
			args = append(args, "-p", p)
		}
		id := o.git(args...)
		o.git("update-ref", "refs/heads/main", id)
		return id
	}
	first := signed(tree("v1"))
	s := serve(t, gitsource.Config{URL: o.dir, Signatures: signature.Config{AllowedSigners: allowed}})
	s.await("the signed commit", func(r schema.Report) bool { return r.InForce == first && len(r.Findings) == 0 })
	unsigned := o.commit(tree("v2"), first)
	s.await("the refusal", func(r schema.Report) bool {
		return r.Head == unsigned && r.InForce == first && r.Health == "DEGRADED" && len(r.Findings) == 1 && r.Findings[0].Code == "signature" &&
			strings.Contains(r.Findings[0].Message, unsigned[:10]) && strings.Contains(r.Findings[0].Message, "not signed") && strings.Contains(r.Findings[0].Next, "git commit")
	})
	next := signed(tree("v3"), unsigned)
	s.await("the signed commit after it", func(r schema.Report) bool { return r.InForce == next && len(r.Findings) == 0 })
	if _, history := s.get("/v1/history"); !strings.Contains(history, "ada@example.org (SSH key SHA256:") || !strings.Contains(history, "refused a commit") {
		t.Errorf("the history does not tell who signed: %s", history)
	}
}
