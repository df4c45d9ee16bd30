package importer

import (
	"encoding/json"
	"strings"
	"testing"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

func TestConsul(t *testing.T) {
	host := func(name string) drivers.Exported {
		return drivers.Exported{Key: schema.Key{Kind: "consul.node", Instance: "main", Name: name}, Name: name, Host: &schema.Host{Address: "10.0.0.1", External: true}}
	}
	config := func(app string) drivers.Exported {
		return drivers.Exported{Key: schema.Key{Kind: "consul.live", Instance: "main", Name: app + "/live.prod.dc1"}, Name: app, Config: map[string]string{"db": "pg"}, Of: app + "/prod.dc1"}
	}
	key := func(instance, name string) drivers.Exported {
		return drivers.Exported{Key: schema.Key{Kind: "consul.key", Instance: instance, Name: name}, Name: name, Asked: true, Consul: &schema.Consul{Via: schema.StringList{instance}, Keys: map[string]schema.ConsulKey{name: schema.NewConsulKey([]byte{0xff}, 3)}}}
	}
	entry := drivers.Exported{Key: schema.Key{Kind: "consul.router", Instance: "main", Name: "web"}, Name: "web", Consul: &schema.Consul{Via: schema.StringList{"main"}, Entries: map[string]json.RawMessage{"service-router/web": json.RawMessage(`{"Routes":[]}`)}}}
	done := host("done")
	r := Define([]drivers.Exported{exported("dc1", "", "web"), host("db1"), host("DB1"), host("taken"), done, config("web"), config("other"),
		key("main", "vendor/a"), key("main", "vendor/b"), key("main", "top"), key("west", "vendor/a"), entry},
		Options{Stage: "prod", Date: "2026-01-02", Selected: everything, Taken: map[schema.Ref]bool{"hosts/taken": true}, Objects: map[schema.Key]string{done.Key: ""}})
	got := ""
	for _, item := range r.Defined {
		got += item.Key.String() + " " + string(item.Ref) + " " + item.File + "\n"
	}
	want := `nomad.job:dc1:web@ groups/web/prod.dc1 jobs/default/web.yaml
consul.live:main:web/live.prod.dc1 groups/web/prod.dc1 jobs/default/web.yaml
consul.node:main:db1 hosts/db1 hosts/db1.yaml
consul.key:main:vendor/a consul/main.keys.vendor consul/main/keys-vendor.yaml
consul.key:main:vendor/b consul/main.keys.vendor consul/main/keys-vendor.yaml
consul.key:main:top consul/main.keys consul/main/keys.yaml
consul.key:west:vendor/a consul/west.keys.vendor consul/west/keys-vendor.yaml
consul.router:main:web consul/main.entries.web consul/main/entries-web.yaml
`
	if got != want {
		t.Errorf("defined\n%swant\n%s", got, want)
	}
	if text := string(r.Files["jobs/default/web.yaml"]); !strings.Contains(text, "config_live: true") || !strings.Contains(text, "db: pg") {
		t.Errorf("the group is\n%s", text)
	}
	if text := string(r.Files["hosts/db1.yaml"]); !strings.Contains(text, "external: true") || !strings.Contains(text, "address: 10.0.0.1") {
		t.Errorf("the host is\n%s", text)
	}
	if text := string(r.Files["consul/main/keys-vendor.yaml"]); !strings.Contains(text, "vendor/b:\n        base64: /w==\n        flags: 3") || !strings.Contains(text, "via: main") && !strings.Contains(text, "- main") {
		t.Errorf("the keys are\n%s", text)
	}
	refused := ""
	for _, item := range r.Refused {
		refused += item.Key.Name + ": " + item.Why + "\n"
	}
	for _, want := range []string{"DB1: another host has nearly its name", "taken: a host taken is defined already", "other/live.prod.dc1: it is the live configuration of other/prod.dc1, which is not imported"} {
		if !strings.Contains(refused, want) {
			t.Errorf("refused\n%swant %s", refused, want)
		}
	}
}
