package consul_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers/consul"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// TestExport: what others registered is defined as it stands, and adopted as
// it is; what no definition can say tells why.
func TestExport(t *testing.T) {
	d, client := open(t, nil)
	node := func(name string, meta map[string]string) {
		t.Helper()
		if _, err := client.Catalog().Register(&api.CatalogRegistration{Node: name, Address: "10.7.0.1", NodeMeta: meta}, nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if _, err := client.Catalog().Deregister(&api.CatalogDeregistration{Node: name}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	node("exp-db", map[string]string{"external-node": "true"})
	node("exp-probed", map[string]string{"external-node": "true", "external-probe": "true"})
	node("exp-theirs", map[string]string{"external-node": "true", "locktide-owner": "another"})
	node("exp-agent", nil)
	for key, value := range map[string]string{"shop.cart/live.prod.dc1/db": "pg", "shop.cart/live.prod.dc1/a/b": "1", "shop.cart/0123/x": "y", "_lease/x": "z", "deep": "w"} {
		if _, err := client.KV().Put(&api.KVPair{Key: "test/testexport/" + key, Value: []byte(value)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := client.ConfigEntries().Set(&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "exp-web", Protocol: "http"}, nil); err != nil {
		t.Fatal(err)
	}
	export := func() map[string]string {
		t.Helper()
		all, err := d.Export(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, x := range all {
			out[string(x.Key.Kind)+" "+x.Key.Name] = fmt.Sprint(x.Why, x.Of, x.Config)
			if x.Consul != nil {
				for at, body := range x.Consul.Entries {
					out[string(x.Key.Kind)+" "+x.Key.Name] += at + ":" + string(body)
				}
			}
			if x.Host != nil {
				out[string(x.Key.Kind)+" "+x.Key.Name] += fmt.Sprint(*x.Host)
			}
		}
		return out
	}
	got := export()
	for what, want := range map[string]string{
		"consul.node exp-db": "10.7.0.1", "consul.node exp-probed": "no host can say its meta external-probe", "consul.node exp-theirs": `fleet "another"`,
		"consul.live shop.cart/live.prod.dc1": "shop.cart/prod.dc1map[a/b:1 db:pg]", "consul.kv shop.cart/0123": "no group tells", "consul.defaults exp-web": `service-defaults/exp-web:{"Protocol":"http"}`,
	} {
		if !strings.Contains(got[what], want) {
			t.Errorf("%s: %q, want %q", what, got[what], want)
		}
	}
	for what := range got {
		if strings.Contains(what, "exp-agent") || strings.Contains(what, "_lease") || strings.Contains(what, "deep") {
			t.Errorf("%s is exported: %s", what, got[what])
		}
	}
	f := &schema.Fleet{Stages: map[string]schema.Stage{"prod": {}}, Apps: map[string]schema.App{"shop.cart": {}},
		Hosts: map[string]schema.Host{"exp-db": {Address: "10.7.0.1", Datacenter: "dc1", External: true}, "exp-probed": {Address: "10.7.0.1", Datacenter: "dc1", External: true}},
		Groups: persistent.Of(map[string]schema.Group{"shop.cart/prod.dc1": {App: "shop.cart", Stage: "prod", Datacenter: "dc1",
			Body: schema.Body{Config: map[string]string{"db": "pg", "a/b": "1"}, Live: true}}})}
	for ref, kind := range map[schema.Ref]schema.Kind{"hosts/exp-db": consul.KindNode, "groups/shop.cart/prod.dc1": consul.KindLive} {
		o := compile(t, d, f, ref)[kind]
		live := observe(t, d, o)
		if live.State != schema.StateForeign || !live.Equal {
			t.Errorf("%s is %+v", o.Key, live)
		}
		apply(t, d, act(schema.VerbAdopt, o, live.Version))
		if live := observe(t, d, o); live.State != schema.StateSame {
			t.Errorf("after adoption %s is %+v", o.Key, live)
		}
	}
	probed := compile(t, d, f, "hosts/exp-probed")[consul.KindNode]
	live := observe(t, d, probed)
	if live.State != schema.StateForeign || live.Equal || len(live.Diff) != 1 {
		t.Errorf("a node with other meta is %+v", live)
	}
	refused(t, d, act(schema.VerbAdopt, probed, live.Version), schema.FailInvalid)
	if again := export(); again["consul.node exp-db"] != "" || again["consul.live shop.cart/live.prod.dc1"] != "" {
		t.Errorf("what was adopted is exported again: %v", again)
	}
}
