package gitsource_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"locktide.dev/reconciler/gitsource"
)

// served gives the address of a repository over HTTP, for those who know the
// password.
func served(t *testing.T, o origin, password string) string {
	t.Helper()
	git, err := exec.LookPath("git")
	must(t, err)
	backend := &cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(o.dir), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=ada"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, ok := r.BasicAuth(); !ok || given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/" + filepath.Base(o.dir) + "/.git"
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(name, []byte(text+"\n"), 0o600))
	return name
}

// The token in a file, or the password in the address, opens the repository.
func TestOverHTTPWithCredentials(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		o := newOrigin(t)
		first := o.commit("a.yaml", "one\n")
		at := served(t, o, "sesame/open?%")
		inside, err := url.Parse(at)
		must(t, err)
		inside.User = url.UserPassword("ada", "sesame/open?%")
		for name, c := range map[string]gitsource.Config{
			"token":    {URL: at, TokenFile: secretFile(t, "sesame/open?%")},
			"password": {URL: inside.String()},
		} {
			s := open(t, with(cfg, c))
			content(t, latest(t, s, first), "a.yaml", "one\n")
			next := o.commit("a.yaml", "two\n")
			content(t, latest(t, s, next), "a.yaml", "two\n")
			o.git("reset", "-q", "--hard", first)
			if rev := latest(t, s, first); rev.FastForward {
				t.Errorf("%s: going back passes for a fast-forward", name)
			}
		}
		if _, err := open(t, with(cfg, gitsource.Config{URL: at, TokenFile: secretFile(t, "guess")})).Latest(t.Context()); err == nil || strings.Contains(err.Error(), "guess") {
			t.Errorf("with a wrong token: %v", err)
		}
	})
}

// A server that repeats what it was sent, in whatever it answers, does not get
// the credentials into an error, and they are in no file and on no command line.
func TestCredentialsStayHidden(t *testing.T) {
	const secret = "hunter2secret"
	answers := map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Seen", r.Header.Get("Authorization"))
			http.Error(w, "Authorization: "+r.Header.Get("Authorization"), http.StatusForbidden)
		},
		"error line": func(w http.ResponseWriter, r *http.Request) {
			_, password, _ := r.BasicAuth()
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			line := "ERR https://ada:" + password + "@git.example/x " + password + " Authorization: " + r.Header.Get("Authorization") + " " + strings.TrimPrefix(r.Header.Get("Authorization"), "Basic ")
			fmt.Fprintf(w, "001e# service=git-upload-pack\n0000%04x%s", len(line)+4, line)
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			_, password, _ := r.BasicAuth()
			http.Redirect(w, r, "ftp://ada:"+password+"@127.0.0.1/"+password, http.StatusFound)
		},
		"no repository": func(w http.ResponseWriter, r *http.Request) {
			_, password, _ := r.BasicAuth()
			fmt.Fprint(w, "<html>"+password)
		},
	}
	each(t, func(t *testing.T, cfg gitsource.Config) {
		for name, answer := range answers {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "" {
					w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
					http.Error(w, "who are you?", http.StatusUnauthorized)
					return
				}
				answer(w, r)
			}))
			inside := strings.Replace(server.URL, "://", "://ada:"+secret+"@", 1)
			asUser := strings.Replace(server.URL, "://", "://"+secret+"@", 1)
			for _, c := range []gitsource.Config{{URL: inside + "/x.git"}, {URL: asUser + "/x.git"}, {URL: server.URL + "/x.git", TokenFile: secretFile(t, secret)}} {
				s := open(t, with(cfg, c))
				_, err := s.Latest(t.Context())
				hidden(t, name, secret, err)
				_, err = s.At(t.Context(), "other")
				hidden(t, name, secret, err)
			}
			server.Close()
		}
		must(t, filepath.WalkDir(cfg.MirrorDir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if raw, err := os.ReadFile(path); err != nil || bytes.Contains(raw, []byte(secret)) {
				t.Errorf("%s holds the secret, error %v", path, err)
			}
			return nil
		}))
	})
}

func hidden(t *testing.T, what, secret string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	for _, s := range []string{secret, base64.StdEncoding.EncodeToString([]byte("ada:" + secret)), base64.StdEncoding.EncodeToString([]byte("git:" + secret)), base64.StdEncoding.EncodeToString([]byte(secret + ":"))} {
		if strings.Contains(err.Error(), s) {
			t.Errorf("%s: the error tells the secret: %v", what, err)
		}
	}
}

// Other users see command lines: no credentials are on them.
func TestCredentialsAreOnNoCommandLine(t *testing.T) {
	git, err := exec.LookPath("git")
	must(t, err)
	bin, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	must(t, os.WriteFile(filepath.Join(bin, "git"), fmt.Appendf(nil, "#!/bin/sh\necho \"$@\" >> %s\nexec %s \"$@\"\n", log, git), 0o755))
	o := newOrigin(t)
	first := o.commit("a.yaml", "one\n")
	at := served(t, o, "sesame")
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for _, c := range []gitsource.Config{{URL: strings.Replace(at, "://", "://ada:sesame@", 1)}, {URL: at, TokenFile: secretFile(t, "sesame")}} {
		c.Client = "git"
		latest(t, open(t, c), first)
	}
	lines, err := os.ReadFile(log)
	must(t, err)
	if len(lines) == 0 || bytes.Contains(lines, []byte("sesame")) {
		t.Errorf("command lines:\n%s", lines)
	}
}

// A server's redirect does not lead where git.url itself may not: the built-in
// client connects to no such address, the git command follows no redirect.
func TestNoRedirectToMetadata(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		for _, to := range []string{"169.254.169.254", "[fd00:ec2::254]", "[fe80::1]"} {
			server := httptest.NewServer(http.RedirectHandler("http://"+to+"/x.git/info/refs?service=git-upload-pack", http.StatusFound))
			_, err := open(t, with(cfg, gitsource.Config{URL: server.URL + "/x.git"})).Latest(t.Context())
			server.Close()
			if err == nil || !strings.Contains(err.Error(), "no Git server has a link-local address") && !strings.Contains(err.Error(), "put that one in git.url") {
				t.Errorf("led to %s: %v", to, err)
			}
		}
	})
}
