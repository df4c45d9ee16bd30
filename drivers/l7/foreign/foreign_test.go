package foreign

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// text is a configuration as the golden files have it.
func text(c *Config) string {
	var b strings.Builder
	for _, r := range c.Routes {
		fmt.Fprintf(&b, "%s: %s %s", r.At, strings.Join(r.Domains, " "), r.Path)
		for _, field := range []struct {
			name  string
			value any
		}{{"exact", r.Exact}, {"match", r.Match}, {"priority", r.Priority}, {"timeout_ms", r.Timeout}, {"retries", r.Retries}, {"tls", r.TLS}, {"cert", r.Cert}, {"key", r.CertKey},
			{"rewrite", r.Rewrite}, {"redirect", r.Redirect}, {"max_body", r.MaxBody}} {
			if v := fmt.Sprint(field.value); v != "" && v != "0" && v != "false" && v != "map[]" {
				fmt.Fprintf(&b, " %s=%s", field.name, v)
			}
		}
		b.WriteByte('\n')
		for _, s := range r.Servers {
			fmt.Fprintf(&b, "\t-> %s weight %d\n", s.Address, s.Weight)
		}
		for _, n := range r.Notes {
			fmt.Fprintf(&b, "\tnote %s\n", n)
		}
	}
	for _, r := range c.Refused {
		fmt.Fprintf(&b, "refused %s: %s: %s\n", r.Name, r.At, r.Why)
	}
	return b.String()
}

// TestGolden reads every configuration in testdata.
func TestGolden(t *testing.T) {
	for pattern, read := range map[string]func(string) (*Config, error){"testdata/*/nginx.conf": Nginx, "testdata/*/haproxy.cfg": HAProxy} {
		all, err := filepath.Glob(pattern)
		if err != nil || len(all) == 0 {
			t.Fatalf("%s: %v, %v", pattern, all, err)
		}
		for _, path := range all {
			t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
				c, err := read(path)
				if err != nil {
					t.Fatal(err)
				}
				golden(t, filepath.Join(filepath.Dir(path), "want.txt"), text(c))
			})
		}
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Errorf("%s: %v\n got:\n%s\nwant:\n%s", path, err, got, want)
	}
}

// write makes the files of a configuration and gives the path of the first.
func write(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, files[0])
}

// TestBadNginx: what is no configuration is an error that names file and line.
func TestBadNginx(t *testing.T) {
	for name, c := range map[string]struct {
		path string
		want []string
	}{
		"missing":      {filepath.Join(t.TempDir(), "no.conf"), []string{"no.conf", "no such file"}},
		"a folder":     {t.TempDir(), []string{"no regular file"}},
		"binary":       {write(t, "a.conf", "http {\n\x00\x7fELF }"), []string{"a.conf:2", "zero byte"}},
		"huge":         {write(t, "a.conf", strings.Repeat("# x\n", maxFile/4+1)), []string{"a.conf", "4 MiB"}},
		"deep":         {write(t, "a.conf", strings.Repeat("http {\n", 100)), []string{"a.conf:65", "nested"}},
		"open block":   {write(t, "a.conf", "events {}\nhttp {\n server {\n"), []string{"a.conf:", "end of file"}},
		"no semicolon": {write(t, "a.conf", "events {}\nhttp {\n sendfile on\n}\n"), []string{"a.conf:3"}},
		"wrong place":  {write(t, "a.conf", "events {}\nlocation / { }\n"), []string{"a.conf:2", "not allowed here"}},
		"no include":   {write(t, "a.conf", "events {}\nhttp {\n include b.conf;\n}\n"), []string{"a.conf:3", "b.conf"}},
		"a circle":     {write(t, "a.conf", "events {}\nhttp {\n include b.conf;\n}\n", "b.conf", "include c.conf;", "c.conf", "\ninclude b.conf;"), []string{"cycle", "c.conf:2"}},
		"of itself":    {write(t, "a.conf", "events {}\ninclude a.conf;\n"), []string{"cycle", "a.conf:2"}},
		"a dump":       {write(t, "a.txt", "# configuration file /etc/nginx/nginx.conf:\nevents {}\nhttp { include /etc/nginx/b.conf; }\n"), []string{"/etc/nginx/nginx.conf:2", "not in the output of nginx -T"}},
	} {
		_, err := Nginx(c.path)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
	}
}

// TestDump: the output of nginx -T says the same as the files.
func TestDump(t *testing.T) {
	onDisk, err := Nginx("testdata/nginx-shop/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	dump := "nginx: the configuration file syntax is ok\n"
	for _, name := range []string{"nginx.conf", "mime.types", "conf.d/00-default.conf", "conf.d/shop.conf", "proxy_headers", "conf.d/wild.conf"} {
		body, err := os.ReadFile(filepath.Join("testdata/nginx-shop", name))
		if err != nil {
			t.Fatal(err)
		}
		dump += "# configuration file testdata/nginx-shop/" + name + ":\n" + string(body) + "\n"
	}
	c, err := Nginx(write(t, "dump.txt", dump))
	if err != nil || text(c) != text(onDisk) {
		t.Errorf("%v\n got:\n%s\nwant:\n%s", err, text(c), text(onDisk))
	}
}

// TestBadHAProxy: what is no configuration is an error that names file and line.
func TestBadHAProxy(t *testing.T) {
	for name, c := range map[string]struct{ path, want string }{
		"missing":    {filepath.Join(t.TempDir(), "no.cfg"), "no such file"},
		"binary":     {write(t, "a.cfg", "global\n\x00"), "a.cfg:2"},
		"open quote": {write(t, "a.cfg", "global\n\n log \"a\n"), "a.cfg:3: a quote"},
		"no section": {write(t, "a.cfg", "# hello\nbind *:80\n"), "a.cfg:2"},
		"no name":    {write(t, "a.cfg", "frontend\n"), "a.cfg:1"},
		"nginx":      {write(t, "a.cfg", "http {\n}\n"), "a.cfg:1"},
	} {
		if _, err := HAProxy(c.path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestSplit(t *testing.T) {
	for text, want := range map[string]string{
		"a  b\tc": "a|b|c", `a "b c" d`: "a|b c|d", `a 'b "c' # d`: `a|b "c`, `a\ b c`: "a b|c", `"" x`: "|x", "a#b": "a", `a\#b`: "a#b", "a\r": "a", `"a"b'c'`: "abc", "": "",
	} {
		if got, err := split(text); err != nil || strings.Join(got, "|") != want {
			t.Errorf("%q gives %q, %v; want %q", text, got, err, want)
		}
	}
}

// FuzzHAProxy is FuzzNginx for the other format.
func FuzzHAProxy(f *testing.F) {
	for _, path := range []string{"testdata/haproxy-shop/haproxy.cfg", "testdata/haproxy-refused/haproxy.cfg"} {
		body, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(body))
	}
	f.Add("listen a\nmode http\nbind :1\nuse_backend a if { hdr(host) b } { path_beg / }\nserver a b:1 weight")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, body string) {
		path := filepath.Join(dir, fmt.Sprint(os.Getpid(), ".cfg"))
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := HAProxy(path)
		if err != nil {
			return
		}
		for _, r := range c.Routes {
			if problems := checked(r); len(problems) > 0 {
				t.Fatalf("%s: %v", r.At, problems)
			}
		}
	})
}

// FuzzNginx: whatever the file holds, what comes out of it passes the model's
// own check, and nothing panics.
func FuzzNginx(f *testing.F) {
	for _, path := range []string{"testdata/nginx-shop/conf.d/shop.conf", "testdata/nginx-shop/conf.d/wild.conf", "testdata/nginx-refused/nginx.conf"} {
		body, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("http {\n" + string(body) + "}")
		f.Add(string(body))
	}
	f.Add("# configuration file a:\nhttp { server { listen; server_name a; location / { proxy_pass http://; } } }\n# configuration file b:\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, body string) {
		path := filepath.Join(dir, fmt.Sprint(os.Getpid(), ".conf"))
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := Nginx(path)
		if err != nil {
			return
		}
		for _, r := range c.Routes {
			if problems := checked(r); len(problems) > 0 {
				t.Fatalf("%s: %v", r.At, problems)
			}
		}
	})
}
