package e2e

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"locktide.dev/drivers/devstack"
	"locktide.dev/schema"
)

// helloJob registers a web application as a team had it before Locktide.
func (f *fleet) helloJob(id string, count int) {
	f.t.Helper()
	f.nomad.put(f.t, http.MethodPut, "/v1/jobs", fmt.Sprintf(`{"Job": {"ID": %[1]q, "Name": %[1]q, "Datacenters": ["dc1"], "TaskGroups": [{"Name": "app", "Count": %[2]d,
		"Networks": [{"DynamicPorts": [{"Label": "http"}]}], "EphemeralDisk": {"SizeMB": 20},
		"Services": [{"Name": %[1]q, "PortLabel": "http", "Provider": "consul", "Checks": [{"Name": "ready", "Type": "http", "Path": "/healthz", "Interval": 1000000000, "Timeout": 5000000000}]}],
		"Tasks": [{"Name": "main", "Driver": "raw_exec", "Config": {"command": %[3]q, "args": ["hello", "--name", %[1]q]}, "Env": {"VERSION": "1"},
			"Resources": {"CPU": 20, "MemoryMB": 64}, "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1}}]}]}}`, id, count, world.binary))
}

// addresses are where a job's running instances answer, by allocation.
func (f *fleet) addresses(job string) map[string]string {
	f.t.Helper()
	out := map[string]string{}
	for id := range f.running(job) {
		a := get[struct {
			AllocatedResources struct {
				Shared struct {
					Ports []struct {
						HostIP string
						Value  int
					}
				}
			}
		}](f.t, f.nomad, "/v1/allocation/"+id)
		for _, p := range a.AllocatedResources.Shared.Ports {
			out[id] = fmt.Sprintf("%s:%d", p.HostIP, p.Value)
		}
	}
	return out
}

// handNginx runs an nginx of other hands on a configuration of http {} blocks.
func (f *fleet) handNginx(blocks string) {
	f.t.Helper()
	dir := f.file("hand")
	must(f.t, os.MkdirAll(dir+"/conf.d", 0o755))
	temp := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += fmt.Sprintf("%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	must(f.t, os.WriteFile(dir+"/nginx.conf", fmt.Appendf(nil, "daemon off;\nmaster_process off;\npid %[1]s/nginx.pid;\nerror_log %[1]s/error.log;\nevents {}\nhttp {\n%[2]saccess_log off;\ninclude conf.d/*.conf;\n}\n", dir, temp), 0o644))
	must(f.t, os.WriteFile(dir+"/conf.d/shop.conf", []byte(blocks), 0o644))
	nginx := exec.Command("/usr/sbin/nginx", "-p", dir, "-c", dir+"/nginx.conf")
	nginx.SysProcAttr = diesWithUs()
	nginx.Stdout, nginx.Stderr = os.Stderr, os.Stderr
	must(f.t, nginx.Start())
	f.t.Cleanup(func() {
		must(f.t, nginx.Process.Kill())
		if err := nginx.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			f.t.Error(err)
		}
	})
}

var (
	instanceID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	portNumber = regexp.MustCompile(`:[0-9]+`)
)

// says is a proxy's answer without what differs between two members and two
// addresses of the proxy, and who gave it.
func says(address, host, path string) (answer, member string, err error) {
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return "", "", err
	}
	req.Host = host
	res, err := client.Do(req)
	if err != nil {
		return "", "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	text := string(body)
	if res.StatusCode != http.StatusOK {
		text = "" // an error page is the proxy's own
	}
	return fmt.Sprint(res.StatusCode, portNumber.ReplaceAllString(res.Header.Get("Location"), ""), instanceID.ReplaceAllString(text, "ID")), instanceID.FindString(text), err
}

// TestImportRoutes: what a team's nginx serves is imported beside the jobs
// behind it, plans to nothing, is adopted with one command and without a
// restart, and then our nginx answers as theirs does, through the same members.
func TestImportRoutes(t *testing.T) {
	f := newFleet(t, "imr")
	shop, pay := f.owner+"--shop", f.owner+"--pay"
	f.helloJob(shop, 2)
	f.helloJob(pay, 1)
	var shops, pays map[string]string
	f.await("2 shops and a pay", func() error {
		shops, pays = f.addresses(shop), f.addresses(pay)
		if len(shops) != 2 || len(pays) != 1 {
			return fmt.Errorf("%v %v", shops, pays)
		}
		return nil
	})
	port, err := devstack.FreePort()
	must(t, err)
	theirs := fmt.Sprintf("127.0.0.1:%d", port)
	members := func(all map[string]string) (out string) {
		for _, a := range slices.Sorted(maps.Values(all)) {
			out += "server " + a + "; "
		}
		return out
	}
	blocks := fmt.Sprintf(`
upstream shop { %[2]s}
upstream pay { %[3]s}
server { listen %[1]s default_server; server_name _; return 404; }
server {
	listen %[1]s;
	server_name imr.localhost *.imr.localhost;
	proxy_set_header Host $host;
	client_max_body_size 2m;
	location / { proxy_pass http://shop; }
	location /pay/ { proxy_pass http://pay/; proxy_read_timeout 9s; }
	location = /healthz { proxy_pass http://pay/missing; }
	location = /old { return 302 /pay/new; }
}
server {
	listen %[1]s;
	server_name imr-secret.localhost;
	proxy_set_header Host $host;
	auth_basic "who?";
	location / { proxy_pass http://shop; }
}
server {
	listen %[1]s;
	server_name imr-stranger.localhost;
	proxy_set_header Host $host;
	location / { proxy_pass http://127.0.0.1:9; }
}
`, theirs, members(shops), members(pays))
	f.handNginx(blocks)
	f.configure(fmt.Sprintf("listen: %q}", f.proxy), fmt.Sprintf("listen: %q, adopts: {nginx: %q}}", f.proxy, f.file("hand/nginx.conf")))

	folder := f.file("definitions")
	out, err := f.locktide("import", folder, "--config", f.config, "--only", f.owner+"*")
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("import with servers that are refused: %v\n%s", err, out)
	}
	for _, want := range []string{"nginx.route:edge:imr-secret.localhost: " + f.file("hand/conf.d/shop.conf:19") + ": auth_basic", "server 127.0.0.1:9 is no member", "6 defined, 2 not", "access_log is not carried over"} {
		if !strings.Contains(out, want) {
			t.Errorf("import does not say %q:\n%s", want, out)
		}
	}
	if out, err := f.locktide("plan", folder, "--config", f.config); err != nil || !strings.Contains(out, "nothing to do") {
		t.Fatalf("the plan of what was imported: %v\n%s", err, out)
	}

	commit := f.git.push("what runs and is served", filesOf(t, folder))
	f.begin()
	f.await("the commit in force, and nothing to do", func() error {
		r, err := f.report()
		if err == nil && (r.InForce != commit || len(r.Partitions) > 0 || len(r.Objects) != 6) {
			err = fmt.Errorf("%.8s in force, %d objects, %v", r.InForce, len(r.Objects), r.Partitions)
		}
		for _, o := range r.Objects { // adopt --all takes what was read as it is defined
			if err == nil && !slices.ContainsFunc(o.Why, func(why schema.Reason) bool { return why.Code == schema.WaitForeign }) {
				err = fmt.Errorf("%s is not to be adopted yet: %v", o.Key, o.Why)
			}
		}
		return err
	})
	if answer, _, err := says(f.proxy, "imr.localhost", "/"); err != nil || !strings.HasPrefix(answer, "404") {
		t.Errorf("before adoption our nginx answers %s, %v", answer, err)
	}
	versions := []int{f.version(shop), f.version(pay)}
	f.do("adopt", "--all")
	f.converged(commit)
	if now := f.addresses(shop); !maps.Equal(now, shops) {
		t.Errorf("adoption restarted something: %v, before: %v", now, shops)
	}
	if now := []int{f.version(shop), f.version(pay)}; now[0] != versions[0]+1 || now[1] != versions[1]+1 {
		t.Errorf("versions %v, before %v: adoption is one registration", now, versions)
	}
	for _, host := range []string{"imr.localhost", "a.b.imr.localhost", "unknown.localhost"} {
		for _, path := range []string{"/", "/x?y=1", "/pay/", "/pay/missing", "/pay", "/healthz", "/old", "/missing"} {
			f.await("our nginx answers as theirs", func() error {
				want, _, err := says(theirs, host, path)
				if err != nil {
					return err
				}
				got, _, err := says(f.proxy, host, path)
				if err == nil && got != want {
					err = fmt.Errorf("%s%s: ours %s, theirs %s", host, path, got, want)
				}
				return err
			})
		}
	}
	through := map[string]bool{}
	f.await("all members serve through our nginx", func() error {
		_, member, err := says(f.proxy, "imr.localhost", "/")
		if through[member] = true; err == nil && len(through) < len(shops) {
			err = fmt.Errorf("only %v", through)
		}
		return err
	})
	for member := range through {
		if shops[member] == "" {
			t.Errorf("%q serves through our nginx, not one of %v", member, shops)
		}
	}
}
