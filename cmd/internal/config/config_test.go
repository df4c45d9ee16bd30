package config

import (
	"os"
	"strings"
	"testing"
	"time"
)

const good = `
owner: acme
git: {url: /srv/fleet.git}
nomad:
  dc1: {address: "http://127.0.0.1:4646", datacenters: [dc1]}
`

func TestDefaults(t *testing.T) {
	c, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:4656" || c.OnError != "" || c.Mode != "repair" || c.Git.Branch != "main" ||
		time.Duration(c.Git.Poll) != 30*time.Second || c.Lease.Nomad != "dc1" {
		t.Errorf("defaults: %+v", c)
	}
}

func TestJournalIsAFileOrAConsul(t *testing.T) {
	consul := "consul: {main: {address: \"http://127.0.0.1:8500\", datacenters: [dc1]}}\n"
	for text, want := range map[string]Journal{"": {File: "/var/lib/locktide/journal.db"}, "journal: /x.db\n": {File: "/x.db"}, "journal: {file: /x.db}\n": {File: "/x.db"},
		consul + "journal: {consul: main}\n": {Consul: "main"}} {
		if c, err := Parse([]byte(good + text)); err != nil || c.Journal != want {
			t.Errorf("%q: %+v, %v", text, c.Journal, err)
		}
	}
}

func TestErrorsNameTheField(t *testing.T) {
	cases := []struct{ name, text, want string }{
		{"empty", "", "the file is empty"},
		{"unknown field", good + "ownr: x\n", "ownr"},
		{"unknown nested field", strings.Replace(good, "datacenters", "datacentres", 1), "datacentres"},
		{"no owner", strings.Replace(good, "owner: acme", "mode: repair", 1), "owner: missing"},
		{"owner with a space", strings.Replace(good, "acme", "a b", 1), "owner:"},
		{"no url", strings.Replace(good, "{url: /srv/fleet.git}", "{branch: x}", 1), "git.url"},
		{"path outside", strings.Replace(good, "{url: /srv/fleet.git}", "{url: x, path: a/../..}", 1), "git.path"},
		{"poll", strings.Replace(good, "{url: /srv/fleet.git}", "{url: x, poll: soon}", 1), `"soon" is not a duration`},
		{"client", strings.Replace(good, "{url: /srv/fleet.git}", "{url: x, client: svn}", 1), "git.client: want builtin or git"},
		{"config of the git command", strings.Replace(good, "{url: /srv/fleet.git}", "{url: x, config_file: /x}", 1), "git.config_file: only the git command"},
		{"mirror", strings.Replace(good, "{url: /srv/fleet.git}", "{url: x, client: git, mirror_dir: y}", 1), "git.mirror_dir"},
		{"webhook", strings.Replace(good, "{url: /srv/fleet.git}", "{url: x, webhook_secret_file: y}", 1), "git.webhook_secret_file"},
		{"keyring", strings.Replace(good, "{url: /srv/fleet.git}", "{url: x, signatures: {gpg_keyring_file: y}}", 1), "git.signatures.gpg_keyring_file"},
		{"revoked keys alone", strings.Replace(good, "{url: /srv/fleet.git}", "{url: x, signatures: {ssh_revoked_keys_file: /y}}", 1), "ssh_revoked_keys_file: it needs"},
		{"address", strings.Replace(good, "http://127.0.0.1:4646", "127.0.0.1:4646", 1), "nomad.dc1.address"},
		{"datacenters", strings.Replace(good, ", datacenters: [dc1]", "", 1), "nomad.dc1.datacenters"},
		{"no backend", "owner: a\ngit: {url: x}\n", "no backend"},
		{"lease", good + "lease: {consul: dc9}\n", "lease.consul: there is no consul.dc9"},
		{"its own backend elsewhere", good + "elsewhere: [far, near]\nconsul: {near: {address: \"http://c:8500\", datacenters: [dc1]}}\n", "elsewhere[1]: near is a backend of this daemon"},
		{"nobody elsewhere", good + "elsewhere: [\"\"]\n", "elsewhere[0]: want the name"},
		{"two leases", good + "lease: {consul: a, nomad: dc1}\n", "lease: consul and nomad"},
		{"on_error", good + "on_error: ignore\n", "on_error"},
		{"journal in no Consul", good + "journal: {consul: main}\n", "journal.consul: there is no consul.main"},
		{"journal twice", good + "journal: {consul: main, file: x}\n", "journal: file and consul"},
		{"journal elsewhere", good + "journal: {etcd: main}\n", "etcd"},
		{"mode", good + "mode: quiet\n", "mode"},
		{"listen", good + "listen: here\n", "listen"},
		{"limit", good + "limits: {deletions_percent: 101}\n", "limits.deletions_percent"},
		{"rate", good + "limits: {turnovers_per_hour: -1}\n", "limits.turnovers_per_hour"},
		{"severity", good + "policy: {severity: {port-clash: fatal}}\n", "policy.severity.port-clash"},
		{"severity of no rule", good + "policy: {severity: {port-clsh: off}}\n", `policy.severity.port-clsh: no built-in rule has this code: did you mean "port-clash"?`},
		{"limit of 0", good + "limits: {deletions_per_hour: 0}\n", "limits.deletions_per_hour: 0 is out of range"},
		{"no key may sign", strings.Replace(good, "{url: /srv/fleet.git}", "{url: x, signatures: {}}", 1), "git.signatures: no key may sign"},
		{"signatures without a value", strings.Replace(good, "{url: /srv/fleet.git}", "{url: x, signatures: }", 1), "git.signatures: line 3: nothing is written"},
		{"a keyring without a value", strings.Replace(good, "{url: /srv/fleet.git}", "{url: x, signatures: {gpg_keyring_file: }}", 1), "git.signatures.gpg_keyring_file: line 3: nothing is written"},
		{"second document", good + "---\nmode: observe\n", "line 6: a second document begins"},
		{"one datacenter, two Nomads", good + "  dc2: {address: \"http://127.0.0.1:4647\", datacenters: [dc2, dc1]}\n", "nomad.dc2.datacenters: dc1 is that of nomad.dc1, too"},
		{"agents' port", good + "consul: {a: {address: \"http://c:8500\", datacenters: [dc1], agents: {port: 99999}}}\n", "consul.a.agents.port"},
		{"agents' address", good + "consul: {a: {address: \"http://c:8500\", datacenters: [dc1], agents: {addresses: {n1: n1}}}}\n", "consul.a.agents.addresses.n1"},
		{"prometheus", good + "prometheus: {main: {}}\n", "prometheus.main.replicas: missing"},
		{"prometheus address", good + "prometheus: {main: {replicas: [\"prom:9090\"]}}\n", "prometheus.main.replicas"},
		{"prometheus password", good + "prometheus: {main: {replicas: [\"http://u:p@prom:9090\"]}}\n", "prometheus.main.replicas"},
		{"access log", good + "access_logs: [access.log]\n", "access_logs"},
		{"person", good + "people: {Ann: {token_file: /a}}\n", "people.Ann: want a name"},
		{"person without token", good + "people: {ann: {roles: [lead]}}\n", "people.ann.token_file: missing"},
		{"person with the shared token", good + "token_file: /t\npeople: {ann: {token_file: /t}}\n", "people.ann.token_file: it is the daemon's own"},
		{"two people, one token", good + "people: {ann: {token_file: /a}, bob: {token_file: /a}}\n", "people.bob.token_file: it is that of ann"},
		{"nginx", good + "nginx: {edge: {listen: \":80\"}}\n", "nginx.edge.dir"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not name %q", err, c.want)
			}
		})
	}
}

// The example of the documentation is a valid configuration.
func TestExampleIsValid(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "```yaml\n")
	example, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("docs/install.md has no example configuration")
	}
	if _, err := Parse([]byte(example)); err != nil {
		t.Error(err)
	}
}
