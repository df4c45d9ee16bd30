package e2e

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"syscall"
	"testing"

	"locktide.dev/drivers/devstack"
)

// rules gives the policy that docs/permissions.md names for a backend.
func rules(t *testing.T, backend string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/permissions.md")
	must(t, err)
	found := regexp.MustCompile("(?s)\n## " + backend + "\n.*?```hcl\n(.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatalf("docs/permissions.md has no rules for %s", backend)
	}
	return string(found[1])
}

// With ACLs on, the daemon does all of its work with exactly the privileges that
// docs/permissions.md names, whichever backend holds its lease.
func TestLeastPrivileges(t *testing.T) {
	t.Parallel()
	s, err := startServers(t.Context(), true, devstack.NomadClient{Name: "node1", Datacenter: "dc1"})
	must(t, err)
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	f := newFleetOn(t, s, "locktide") // the prefix that the rules name
	f.places = []string{"dc1"}

	f.nomad.put(t, http.MethodPut, "/v1/acl/policy/locktide", map[string]string{"Name": "locktide", "Rules": rules(t, "Nomad")})
	token := struct{ SecretID string }{}
	f.nomad.into(t, http.MethodPut, "/v1/acl/token", map[string]any{"Name": "locktide", "Type": "client", "Policies": []string{"locktide"}}, &token)
	must(t, os.WriteFile(f.file("nomad.token"), []byte(token.SecretID+"\n"), 0o600))
	f.consul.put(t, http.MethodPut, "/v1/acl/policy", map[string]string{"Name": "locktide", "Rules": rules(t, "Consul")})
	f.consul.into(t, http.MethodPut, "/v1/acl/token", map[string]any{"Policies": []any{map[string]string{"Name": "locktide"}}}, &token)
	must(t, os.WriteFile(f.file("consul.token"), []byte(token.SecretID+"\n"), 0o600))
	f.configure(`main: {address: "`+f.nomad.address+`"`, `main: {address: "`+f.nomad.address+`", token_file: `+f.file("nomad.token"))
	f.configure(`main: {address: "`+f.consul.address+`"`, `main: {address: "`+f.consul.address+`", token_file: `+f.file("consul.token"))

	web := app{label: "web", version: "v1", count: 2, body: "config: {GREETING: hello}"}
	f.git.push("v1", f.files(web))
	f.begin()
	f.converged(f.git.head())
	f.answers("v1")
	web.version = "v2"
	f.converged(f.git.push("v2", f.files(web)))
	f.answers("v2")
	job := f.job("web", "dc1")
	f.seen("a stopped job", job, func() { f.stopJob(job) })
	f.do("repair", f.group("web", "dc1"), "--reason", "stopped by mistake")
	f.converged(f.git.head())

	f.stop(syscall.SIGTERM)
	f.configure("brake_file:", "lease: {nomad: main}\nbrake_file:")
	f.start()
	web.version = "v3"
	f.converged(f.git.push("v3", f.files(web)))
	f.answers("v3")
	f.do("drain", "node1", "--force", "--deadline", "3s", "--reason", "new kernel") // its members have nowhere to go
	f.await("the drained host empty", func() error {
		if n := len(f.running(job)); n > 0 {
			return fmt.Errorf("%d allocations run", n)
		}
		return nil
	})
	f.do("undrain", "node1", "--reason", "it is back")
	f.converged(f.git.head())
	f.do("rollback", f.app("web"), "--reason", "v3 is wrong")
	f.answers("v2")
}
