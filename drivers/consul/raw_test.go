package consul_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers/consul"
	"locktide.dev/drivers/drivertest"
	"locktide.dev/schema"
)

// rawObjects compiles one consul definition, which has to be right.
func rawObjects(t testing.TB, d *consul.Driver, c schema.Consul) map[string]schema.Object {
	t.Helper()
	out := map[string]schema.Object{}
	for _, o := range compileAll(t, d, &schema.Fleet{Consul: map[string]schema.Consul{"x": c}}, "consul/x") {
		out[o.Key.Name] = o
	}
	return out
}

func bodies(all map[string]string) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for at, body := range all {
		out[at] = json.RawMessage(body)
	}
	return out
}

func TestRawConformance(t *testing.T) {
	t.Run("key", func(t *testing.T) {
		d, client := open(t, nil)
		write := func(key, value string) func(*testing.T) {
			return func(t *testing.T) {
				t.Helper()
				if _, err := client.KV().Put(&api.KVPair{Key: key, Value: []byte(value)}, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		t.Cleanup(func() {
			if _, err := client.KV().DeleteTree("rawconf/", nil); err != nil {
				t.Error(err)
			}
		})
		first := rawObjects(t, d, schema.Consul{Keys: map[string]schema.ConsulKey{"rawconf/a b/ü": {Value: "1", Flags: 7}}})["rawconf/a b/ü"]
		second := rawObjects(t, d, schema.Consul{Keys: map[string]schema.ConsulKey{"rawconf/a b/ü": schema.NewConsulKey([]byte{0, 0xff}, 0)}})["rawconf/a b/ü"]
		other := rawObjects(t, d, schema.Consul{Keys: map[string]schema.ConsulKey{"rawconf/other": {Value: "1"}}})["rawconf/other"]
		drivertest.Run(t, drivertest.Case{Driver: d, First: first, Second: second, Other: other, Foreign: write("rawconf/other", "theirs"), Tamper: write("rawconf/a b/ü", "tampered")})
	})
	t.Run("entry", func(t *testing.T) {
		d, client := open(t, nil)
		of := func(name, action string) schema.Object {
			return rawObjects(t, d, schema.Consul{Entries: bodies(map[string]string{"service-intentions/" + name: `{"Sources": [{"Name": "z", "Action": "` + action + `"}, {"Name": "*", "Action": "deny"}]}`})})[name]
		}
		theirs := &api.ServiceIntentionsConfigEntry{Kind: api.ServiceIntentions, Name: "raw-other", Sources: []*api.SourceIntention{{Name: "x", Action: "deny"}}}
		drivertest.Run(t, drivertest.Case{Driver: d, First: of("raw-one", "allow"), Second: of("raw-one", "deny"), Other: of("raw-other", "allow"), Foreign: entry(client, theirs), Tamper: func(t *testing.T) {
			if _, err := client.ConfigEntries().Delete(api.ServiceIntentions, "raw-one", nil); err != nil {
				t.Fatal(err)
			}
		}})
	})
}

// varied is one entry of every kind, as somebody wrote it before Locktide.
var varied = []string{
	`{"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http", "local_connect_timeout_ms": 1500, "deep": {"a": [1, "b", true]}}, "MeshGateway": {"Mode": "local"}}`,
	`{"Kind": "mesh", "TransparentProxy": {"MeshDestinationsOnly": true}}`,
	`{"Kind": "service-defaults", "Name": "raw-web", "Protocol": "http", "Meta": {"team": "web"}, "UpstreamConfig": {"Defaults": {"ConnectTimeoutMs": 2000}}}`,
	`{"Kind": "service-resolver", "Name": "raw-web", "ConnectTimeout": "1m", "Subsets": {"v1": {"Filter": "Service.Meta.v == 1", "OnlyPassing": true}}}`,
	`{"Kind": "service-splitter", "Name": "raw-web", "Splits": [{"Weight": 90.5, "ServiceSubset": "v1"}, {"Weight": 9.5, "Service": "raw-web"}]}`,
	`{"Kind": "service-router", "Name": "raw-web", "Routes": [{"Match": {"HTTP": {"PathPrefix": "/a", "Header": [{"Name": "x", "Exact": "1"}]}}, "Destination": {"ServiceSubset": "v1", "RequestTimeout": "90s", "RetryOnStatusCodes": [503]}}]}`,
	`{"Kind": "service-intentions", "Name": "raw-web", "Sources": [{"Name": "raw-api", "Action": "allow", "Description": "by hand"}, {"Name": "*", "Action": "deny"}, {"Name": "raw-l7", "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/x", "Methods": ["GET"]}}]}]}`,
	`{"Kind": "terminating-gateway", "Name": "raw-term", "Services": [{"Name": "raw-ext", "SNI": "a.example"}]}`,
	`{"Kind": "ingress-gateway", "Name": "raw-in", "Listeners": [{"Port": 8080, "Protocol": "http", "Services": [{"Name": "raw-web", "Hosts": ["a.example"]}]}]}`,
	`{"Kind": "exported-services", "Name": "default", "Services": [{"Name": "raw-web", "Consumers": [{"Peer": "east"}]}]}`,
	`{"Kind": "jwt-provider", "Name": "raw-jwt", "Issuer": "https://id.example", "Audiences": ["web"], "JSONWebKeySet": {"Remote": {"URI": "https://id.example/jwks", "FetchAsynchronously": true, "CacheDuration": "10m"}}, "Locations": [{"Header": {"Name": "Authorization", "ValuePrefix": "Bearer "}}]}`,
	`{"Kind": "file-system-certificate", "Name": "raw-cert", "Certificate": "/etc/gw/cert.pem", "PrivateKey": "/etc/gw/key.pem"}`,
	`{"Kind": "api-gateway", "Name": "raw-gw", "Listeners": [{"Name": "web", "Port": 8443, "Protocol": "HTTP", "Hostname": "a.example", "TLS": {"Certificates": [{"Kind": "file-system-certificate", "Name": "raw-cert"}]}}, {"Name": "db", "Port": 5432, "Protocol": "tcp"}]}`,
	`{"Kind": "http-route", "Name": "raw-web", "Parents": [{"Name": "raw-gw", "SectionName": "web"}], "Hostnames": ["a.example"], "Rules": [{"Matches": [{"Method": "get"}, {"Path": {"Match": "prefix", "Value": "/a"}}], "Filters": {"Headers": [{"Set": {"x": "1"}}], "TimeoutFilter": {"RequestTimeout": "2s"}}, "Services": [{"Name": "raw-web"}, {"Name": "raw-web2", "Weight": 3}]}]}`,
	`{"Kind": "tcp-route", "Name": "raw-db", "Parents": [{"Name": "raw-gw", "SectionName": "db"}], "Services": [{"Name": "raw-db"}]}`,
}

// Entries are the same before and after they were written: what Consul fills in
// is no drift.
func TestWhatConsulFillsInIsNoDrift(t *testing.T) {
	d, client := open(t, apart(t))
	def := schema.Consul{Entries: map[string]json.RawMessage{}}
	for _, text := range varied[9:] {
		var e map[string]json.RawMessage
		if err := json.Unmarshal([]byte(strings.ReplaceAll(text, "raw-", "fill-")), &e); err != nil {
			t.Fatal(err)
		}
		at := strings.Trim(string(e["Kind"]), `"`) + "/" + strings.Trim(string(e["Name"]), `"`)
		delete(e, "Kind")
		delete(e, "Name")
		body, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		def.Entries[at] = body
	}
	objects := compileAll(t, d, &schema.Fleet{Consul: map[string]schema.Consul{"x": def}}, "consul/x")
	slices.SortFunc(objects, func(a, b schema.Object) int { return a.Rank - b.Rank })
	if len(objects) != len(def.Entries) {
		t.Fatalf("%d objects of %d entries", len(objects), len(def.Entries))
	}
	for _, o := range objects {
		if _, err := client.ConfigEntries().Delete(o.Key.Kind.Thing(), o.Key.Name, nil); err != nil {
			t.Fatal(err)
		}
		apply(t, d, act(schema.VerbCreate, o, ""))
	}
	for _, o := range objects {
		if live := observe(t, d, o); live.State != schema.StateSame {
			t.Errorf("after it was written %s is %+v", o.Key, live)
		}
	}
	for _, o := range slices.Backward(objects) {
		var out schema.Outcome
		for range 5 { // Consul itself writes the status of gateways and routes
			if out = d.Apply(t.Context(), []schema.Action{act(schema.VerbDelete, o, observe(t, d, o).Version)})[0]; out.Failure == nil {
				break
			}
		}
		if out.Failure != nil {
			t.Errorf("%s is not deleted: %s", o.Key, out.Failure.Message)
		}
	}
}

// Private keys are not exported, wherever they lie, and what is left out is named.
func TestPrivateKeysAreLeftOut(t *testing.T) {
	d, client := open(t, nil)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pair := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a.example"}, NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"a.example"}}
	cert, err := x509.CreateCertificate(rand.Reader, &pair, &pair, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	entry(client, &api.InlineCertificateConfigEntry{Kind: api.InlineCertificate, Name: "left-cert", PrivateKey: private,
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))})(t)
	entry(client, &api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "left-web", Meta: map[string]string{"key": private}})(t)
	if _, err := client.KV().Put(&api.KVPair{Key: "left/key.pem", Value: []byte(private)}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, of := range []string{api.InlineCertificate + "/left-cert", api.ServiceDefaults + "/left-web"} {
			kind, name, _ := strings.Cut(of, "/")
			if _, err := client.ConfigEntries().Delete(kind, name, nil); err != nil {
				t.Error(err)
			}
		}
		if _, err := client.KV().DeleteTree("left/", nil); err != nil {
			t.Error(err)
		}
	})
	all, err := d.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := d.ExportKeys(t.Context(), []string{"left/*"})
	if err != nil {
		t.Fatal(err)
	}
	why := map[string]string{}
	for _, x := range append(all, keys...) {
		if strings.Contains(string(schema.MustCanonical(x)), "BEGIN EC") {
			t.Errorf("%s is exported with its private key", x.Key)
		}
		why[x.Key.String()] = x.Why
	}
	for _, name := range []string{"consul.inline-certificate:east:left-cert", "consul.defaults:east:left-web", "consul.key:east:left/key.pem"} {
		if !strings.Contains(why[name], "a private key, which does not belong into a repository") {
			t.Errorf("%s: %q", name, why[name])
		}
	}
}

// TestRawExport: entries of every kind and varied keys are exported, compile to
// what is there, and are adopted without a write to them; then they change and go.
func TestRawExport(t *testing.T) {
	d, client := open(t, apart(t))
	for _, text := range varied {
		e, err := api.DecodeConfigEntryFromJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		entry(client, e)(t)
		t.Cleanup(func() {
			if _, err := client.ConfigEntries().Delete(e.GetKind(), e.GetName(), nil); err != nil {
				t.Logf("%s %s stays: %v", e.GetKind(), e.GetName(), err) // Consul keeps what others need
			}
		})
	}
	keys := map[string]api.KVPair{"rawexp/text": {Value: []byte("a: b\n\tc")}, "rawexp/empty": {}, "rawexp/folder/": {}, "rawexp/bin": {Value: []byte{0, 1, 0xfe}, Flags: 42}}
	for key, p := range keys {
		p.Key = key
		if _, err := client.KV().Put(&p, nil); err != nil {
			t.Fatal(err)
		}
	}
	for key, p := range map[string]api.KVPair{"rawexp/lock": {Flags: api.LockFlagValue}, "rawexp/large": {Value: make([]byte, 400<<10)}, "test/testrawexport/_brake/x": {}} {
		p.Key = key
		if _, err := client.KV().Put(&p, nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := client.KV().DeleteTree("rawexp/", nil); err != nil {
			t.Error(err)
		}
	})
	all, err := d.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := d.ExportKeys(t.Context(), []string{"rawexp/*", "test/testrawexport/*"})
	if err != nil {
		t.Fatal(err)
	}
	def, why := schema.Consul{Keys: map[string]schema.ConsulKey{}, Entries: map[string]json.RawMessage{}}, map[string]string{}
	for _, x := range append(all, raw...) {
		switch {
		case x.Consul != nil && (x.Asked || slices.Contains([]string{"raw-web", "raw-in", "raw-term", "raw-jwt", "raw-cert", "raw-gw", "raw-db"}, x.Name) || x.Key.Kind == consul.KindExported || x.Key.Kind == consul.KindProxy || x.Key.Kind == consul.KindMesh):
			maps.Copy(def.Keys, x.Consul.Keys)
			maps.Copy(def.Entries, x.Consul.Entries)
		case x.Asked:
			why[x.Name] = x.Why
		}
	}
	if len(def.Keys) != len(keys) || len(def.Entries) != len(varied) {
		t.Fatalf("exported %v and %v, want %d keys and %d entries; refused %v", slices.Sorted(maps.Keys(def.Keys)), slices.Sorted(maps.Keys(def.Entries)), len(keys), len(varied), why)
	}
	for key, part := range map[string]string{"rawexp/lock": "lock", "rawexp/large": "bytes", "test/testrawexport/_brake/x": "Locktide's own"} {
		if !strings.Contains(why[key], part) {
			t.Errorf("%s: %q, want %q", key, why[key], part)
		}
	}
	index := func(o schema.Object) string {
		t.Helper()
		if o.Key.Kind == consul.KindKey {
			p, _, err := client.KV().Get(o.Key.Name, nil)
			if err != nil || p == nil {
				return "gone"
			}
			return fmt.Sprint(p.ModifyIndex)
		}
		of := strings.TrimPrefix(string(o.Key.Kind), "consul.")
		for _, short := range []string{"defaults", "resolver", "splitter", "router"} {
			if of == short {
				of = "service-" + short
			}
		}
		e, _, err := client.ConfigEntries().Get(of, o.Key.Name, nil)
		if err != nil {
			return "gone"
		}
		return fmt.Sprint(e.GetModifyIndex())
	}
	objects := compileAll(t, d, &schema.Fleet{Consul: map[string]schema.Consul{"x": def}}, "consul/x")
	for _, o := range objects {
		before, live := index(o), observe(t, d, o)
		if live.State != schema.StateForeign || !live.Equal {
			t.Errorf("before adoption %s is %+v", o.Key, live)
			continue
		}
		refused(t, d, act(schema.VerbUpdate, o, live.Version), schema.FailInvalid)
		apply(t, d, act(schema.VerbAdopt, o, live.Version))
		if live := observe(t, d, o); live.State != schema.StateSame || index(o) != before {
			t.Errorf("after adoption %s is %+v, at index %s, before %s", o.Key, live, index(o), before)
		}
	}
	owned, err := d.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	digests := map[schema.Key]schema.Digest{}
	for _, o := range owned {
		digests[o.Object.Key] = o.Object.Digest
	}
	for _, o := range objects {
		if digests[o.Key] != o.Digest {
			t.Errorf("by its mark %s is %q, defined %q", o.Key, digests[o.Key], o.Digest)
		}
	}
	// A change marks the entry itself; both are read back as they were defined.
	def.Keys["rawexp/text"] = schema.ConsulKey{Value: "changed"}
	def.Entries["service-resolver/raw-web"] = json.RawMessage(`{"connecttimeout": "61s", "Subsets": {"v1": {"Filter": "Service.Meta.v == 2"}}}`)
	changed := rawObjects(t, d, schema.Consul{Keys: map[string]schema.ConsulKey{"rawexp/text": def.Keys["rawexp/text"]}, Entries: map[string]json.RawMessage{"service-resolver/raw-web": def.Entries["service-resolver/raw-web"]}})
	for _, o := range changed {
		apply(t, d, act(schema.VerbUpdate, o, observe(t, d, o).Version))
		if live := observe(t, d, o); live.State != schema.StateSame {
			t.Errorf("after its change %s is %+v", o.Key, live)
		}
	}
	key := changed["rawexp/text"]
	apply(t, d, act(schema.VerbDelete, key, observe(t, d, key).Version))
	if live := observe(t, d, key); live.State != schema.StateAbsent || index(key) != "gone" {
		t.Errorf("after its deletion %s is %+v", key.Key, live)
	}
	// An entry that takes the place of an adopted one is not ours.
	term := rawObjects(t, d, schema.Consul{Entries: map[string]json.RawMessage{"terminating-gateway/raw-term": def.Entries["terminating-gateway/raw-term"]}})["raw-term"]
	if _, err := client.ConfigEntries().Delete(api.TerminatingGateway, "raw-term", nil); err != nil {
		t.Fatal(err)
	}
	e, err := api.DecodeConfigEntryFromJSON([]byte(varied[7]))
	if err != nil {
		t.Fatal(err)
	}
	entry(client, e)(t)
	if live := observe(t, d, term); live.State != schema.StateForeign {
		t.Errorf("made again by somebody else %s is %+v", term.Key, live)
	}
}

func TestRawThatCannotBeSaidIsDenied(t *testing.T) {
	d, _ := open(t, nil)
	for what, c := range map[string]schema.Consul{
		"Locktide's own":   {Keys: map[string]schema.ConsulKey{"test/testrawthatcannotbesaidisdenied/_lease/x": {}}},
		"only Locktide":    {Keys: map[string]schema.ConsulKey{"locktide-journal/other/x": {}}},
		"Consul itself":    {Keys: map[string]schema.ConsulKey{"_rexec/x": {}}},
		"no slash":         {Keys: map[string]schema.ConsulKey{"/x": {}}},
		"control":          {Keys: map[string]schema.ConsulKey{"x\ny": {}}},
		"more than":        {Keys: map[string]schema.ConsulKey{"x": {Value: strings.Repeat("x", 361<<10)}}},
		"base64":           {Keys: map[string]schema.ConsulKey{"x": {Base64: "%"}}},
		"one of them":      {Keys: map[string]schema.ConsulKey{"x": {Base64: "AA==", Value: "x"}}},
		"the kind one of":  {Entries: bodies(map[string]string{"service-x/x": `{}`})},
		"a private key,":   {Entries: bodies(map[string]string{"inline-certificate/x": `{}`})},
		"private key, whi": {Entries: bodies(map[string]string{"jwt-provider/x": `{"JSONWebKeySet": {"Local": {"JWKS": "` + base64.StdEncoding.EncodeToString([]byte(`{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}`)) + `"}}}`})},
		"Enterprise":       {Entries: bodies(map[string]string{"sameness-group/x": `{}`})},
		"no field Protcol": {Entries: bodies(map[string]string{"service-defaults/x": `{"Protcol": "http"}`})},
		"Routes[0].Match.": {Entries: bodies(map[string]string{"service-router/x": `{"Routes": [{"Match": {"HTP": {"a": 1}}}]}`})},
		"Name is not":      {Entries: bodies(map[string]string{"service-router/x": `{"Name": "y"}`})},
		"nomad keeps it":   {Entries: bodies(map[string]string{"ingress-gateway/x": `{"Meta": {"external-source": "nomad"}}`})},
		"a mark":           {Entries: bodies(map[string]string{"service-defaults/x": `{"Meta": {"locktide-owner": "me"}}`})},
		"cannot take it":   {Entries: bodies(map[string]string{"service-resolver/x": `{"ConnectTimeout": "soon"}`})},
	} {
		objects, findings := d.Compile(schema.NewView(&schema.Fleet{Consul: map[string]schema.Consul{"x": c}}), "consul/x")
		if len(objects) > 0 || !schema.AnyDenied(findings) || !strings.Contains(fmt.Sprint(findings), what) {
			t.Errorf("want a denial with %q: %d objects, findings %v", what, len(objects), findings)
		}
	}
	// Intentions that follow from apps are theirs.
	f := fleet("raw-")
	f.Consul = map[string]schema.Consul{"x": {Entries: bodies(map[string]string{"service-intentions/raw-shop-cart": `{"Sources": [{"Name": "z", "Action": "deny"}]}`})}}
	if _, findings := d.Compile(schema.NewView(f), "consul/x"); !strings.Contains(fmt.Sprint(findings), "apps that use the service") {
		t.Errorf("whole intentions beside those of apps: %v", findings)
	}
}

// What relations and explain call a key or an entry means the object that it is.
func TestKeysAndEntriesAreFoundByTheirReference(t *testing.T) {
	d, err := consul.Config{Name: "c", Owner: "acme", Address: "http://127.0.0.1:1"}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	def := schema.Consul{Keys: map[string]schema.ConsulKey{"a/b": {Value: "1"}}, Entries: map[string]json.RawMessage{}}
	want := map[string]bool{"keys/a/b": true}
	for _, of := range []string{api.ServiceDefaults, api.ServiceResolver, api.ServiceSplitter, api.ServiceRouter, api.ServiceIntentions, api.ProxyDefaults, api.MeshConfig, api.IngressGateway, api.TerminatingGateway,
		api.ExportedServices, api.JWTProvider, api.FileSystemCertificate, api.APIGateway, api.HTTPRoute, api.TCPRoute} {
		at := of + "/x"
		def.Entries[at], want["entries/"+at] = json.RawMessage("{}"), true
	}
	for _, o := range compileAll(t, d, &schema.Fleet{Consul: map[string]schema.Consul{"x": def}}, "consul/x") {
		for ref := range want {
			if thing, name, ok := schema.ConsulObject(schema.Ref(ref)); ok && thing == o.Key.Kind.Thing() && name == o.Key.Name {
				delete(want, ref)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("nothing is found for %v", want)
	}
}
