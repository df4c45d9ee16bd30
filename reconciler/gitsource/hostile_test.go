package gitsource_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"locktide.dev/reconciler/gitsource"
)

// Addresses that would run a program, and names that are options, are refused
// before anything is done with them; the error hides what is secret.
func TestAddressesThatAreRefused(t *testing.T) {
	for _, c := range []gitsource.Config{
		{URL: "ext::sh -c touch% /tmp/x"},
		{URL: "--upload-pack=touch /tmp/x"},
		{URL: "-u"},
		{URL: "fd::17"},
		{URL: "ssh://-oProxyCommand=touch/x"},
		{URL: "git@-oProxyCommand=x:y"},
		{URL: "https://user:sesame@host/x\n.git"},
		{URL: "http://169.254.169.254/latest/meta-data"},
		{URL: "http://user:sesame@[::ffff:169.254.169.254]:80/x.git"},
		{URL: "http://[fe80::1]/x.git"},
		{URL: "http://[fd00:ec2::254]/x.git"},
		{URL: "/x", Branch: "-d"},
		{URL: "/x", Branch: "a..b"},
		{URL: "/x", Branch: "a\nb"},
		{URL: "/x", Branch: "refs/heads/x:refs/heads/y"},
		{URL: "/x", Branch: "a.lock"},
		{URL: "/x", Path: "../x"},
		{URL: "/x", Path: "a/../../x"},
	} {
		_, err := gitsource.New(c)
		if err == nil || strings.Contains(err.Error(), "sesame") || !strings.Contains(err.Error(), "git.") {
			t.Errorf("%+v: error %v", c, err)
		}
	}
	for _, url := range []string{"/srv/defs.git", "file:///srv/defs", "https://git.example/a/b.git", "ssh://git@git.example:22/a.git", "git@git.example:a/b.git", "../relative"} {
		if _, err := gitsource.New(gitsource.Config{URL: url, Branch: "release/1.x"}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// A server that sends us elsewhere does not make us hand the token over.
func TestRedirectDoesNotGetTheToken(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		var asked, leaked string
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked += r.URL.Path + " "
			leaked += r.Header.Get("Authorization")
			http.Error(w, "no", http.StatusUnauthorized)
		}))
		defer other.Close()
		first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+r.URL.RequestURI(), http.StatusFound)
		}))
		defer first.Close()
		token := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(token, []byte("sesame"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, with(cfg, gitsource.Config{URL: first.URL + "/x.git", TokenFile: token})).Latest(t.Context()); err == nil {
			t.Error("read a repository that refuses")
		}
		if leaked != "" {
			t.Errorf("the other host was asked for %s with %q", asked, leaked)
		}
	})
}

// Submodules, hooks and attributes are data of the tree and nothing more.
func TestNothingOfTheRepositoryRuns(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		o := newOrigin(t)
		ran := filepath.Join(t.TempDir(), "ran")
		o.commit("a.yaml", "apps: {}\n")
		o.commit(".gitattributes", "*.yaml filter=evil\n")
		o.commit(".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = ext::touch "+ran+"\n")
		o.git("update-index", "--add", "--cacheinfo", "160000,"+o.git("rev-parse", "HEAD")+",x")
		o.git("commit", "-q", "-m", "Add a submodule")
		rev, err := open(t, with(cfg, gitsource.Config{URL: o.dir})).Latest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fs.ReadDir(rev.Tree, "x"); err == nil {
			t.Error("a submodule can be read")
		}
		if text, err := fs.ReadFile(rev.Tree, "a.yaml"); err != nil || string(text) != "apps: {}\n" {
			t.Errorf("a.yaml: %q, error %v", text, err)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Error("the submodule's address was run")
		}
	})
}

// Whatever the name, opening it gives a file of the commit or an error.
func FuzzOpen(f *testing.F) {
	o := newOrigin(f)
	o.commit("a.yaml", "apps: {}\n")
	o.commit("d/b.json", "{}\n")
	rev, err := open(f, gitsource.Config{URL: o.dir}).Latest(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"a.yaml", "..", "/etc/passwd", "a.yaml/..", "d/../a.yaml", ".git/config", "d", "", ".", "\x00", "d/b.json/"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		_, err := fs.ReadFile(rev.Tree, name)
		if known := name == "a.yaml" || name == "d/b.json"; known != (err == nil) {
			t.Errorf("%q: error %v", name, err)
		}
		if _, err := fs.ReadDir(rev.Tree, name); (err == nil) != (name == "." || name == "d") {
			t.Errorf("%q lists, error %v", name, err)
		}
	})
}

// Whatever stands around it in an address, a password is not shown.
func FuzzRedact(f *testing.F) {
	for _, rest := range []string{"git.example/x.git", "a@b/c", "[::1", "%zz/", "x\ny", "h:99999/", "'", "h/?q=u:p@x"} {
		for _, scheme := range []string{"https", "ssh", "file", "ext"} {
			f.Add(scheme, rest)
		}
	}
	f.Fuzz(func(t *testing.T, scheme, rest string) {
		if scheme == "" || strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz") != "" || strings.Contains(rest, "sesame") {
			return
		}
		address := scheme + "://ada:sesame@" + rest
		if shown := gitsource.Redact(address); strings.Contains(shown, "sesame") {
			t.Errorf("%q is shown as %q", address, shown)
		}
		if _, err := gitsource.New(gitsource.Config{URL: address, Client: "none"}); err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%q: %v", address, err)
		}
	})
}
