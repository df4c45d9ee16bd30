package importer

import (
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
	done := host("done")
	r := Define([]drivers.Exported{exported("dc1", "", "web"), host("db1"), host("DB1"), host("taken"), done, config("web"), config("other")},
		Options{Stage: "prod", Date: "2026-01-02", Selected: everything, Taken: map[schema.Ref]bool{"hosts/taken": true}, Objects: map[schema.Key]string{done.Key: ""}})
	got := ""
	for _, item := range r.Defined {
		got += item.Key.String() + " " + string(item.Ref) + " " + item.File + "\n"
	}
	want := `nomad.job:dc1:web@ groups/web/prod.dc1 jobs/default/web.yaml
consul.live:main:web/live.prod.dc1 groups/web/prod.dc1 jobs/default/web.yaml
consul.node:main:db1 hosts/db1 hosts/db1.yaml
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
