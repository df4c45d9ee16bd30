package consul_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers"
	"locktide.dev/drivers/consul"
	"locktide.dev/drivers/devstack"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/reconciler/journal/journaltest"
	"locktide.dev/schema"
)

func TestWatchRingsForKeysAndHealth(t *testing.T) {
	d, client := open(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	rings := make(chan []schema.Key, 1000)
	ended := make(chan error, 1)
	go func() { ended <- d.Watch(ctx, func(k []schema.Key) { rings <- k }) }()
	// Each change is repeated until it rings, since the first picture of a
	// watch is taken some time after it starts.
	await := func(what string, change func(i int), ok func([]schema.Key) bool) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for i := 0; time.Now().Before(deadline); i++ {
			change(i)
			limit := time.After(2 * time.Second)
			for waiting := true; waiting; {
				select {
				case keys := <-rings:
					if ok(keys) {
						return
					}
				case <-limit:
					waiting = false
				}
			}
		}
		t.Fatalf("never rang for %s within 2 s", what)
	}
	key := config("shop.cart/watched", nil).Key
	await("KV", func(i int) {
		if _, err := client.KV().Put(&api.KVPair{Key: "test/testwatchringsforkeysandhealth/shop.cart/watched/a", Value: []byte(fmt.Sprint(i))}, nil); err != nil {
			t.Fatal(err)
		}
	}, func(k []schema.Key) bool { return slices.Contains(k, key) })
	await("a config entry", func(i int) {
		e := &api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "watched", Protocol: []string{"http", "grpc"}[i%2]}
		if _, _, err := client.ConfigEntries().Set(e, nil); err != nil {
			t.Fatal(err)
		}
	}, func(k []schema.Key) bool {
		return slices.Contains(k, schema.Key{Kind: consul.KindDefaults, Instance: "east", Name: "watched"})
	})
	r := &api.AgentServiceRegistration{ID: "watched", Name: "watched", Check: &api.AgentServiceCheck{CheckID: "watched", TTL: "1h"}}
	if err := client.Agent().ServiceRegister(r); err != nil {
		t.Fatal(err)
	}
	await("health", func(i int) {
		if err := client.Agent().UpdateTTL("watched", "", []string{"pass", "fail"}[i%2]); err != nil {
			t.Fatal(err)
		}
	}, func(k []schema.Key) bool { return k == nil })
	if err := client.Agent().ServiceDeregister("watched"); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("a cancelled watch ended without an error")
	}
}

func TestLeasePassesOn(t *testing.T) {
	d, client := open(t, nil)
	one, two := d.Lease("one"), d.Lease("two")
	epoch, held, holder, err := one.Acquire(t.Context())
	if err != nil || !held || holder != "one" || epoch < 1700000000 {
		t.Fatalf("first: %d %v %q %v", epoch, held, holder, err)
	}
	if again, held, _, err := one.Acquire(t.Context()); err != nil || !held || again != epoch {
		t.Fatalf("renewal: %d %v %v", again, held, err)
	}
	if seen, held, holder, err := two.Acquire(t.Context()); err != nil || held || holder != "one" || seen != epoch {
		t.Fatalf("second while held: %d %v %q %v", seen, held, holder, err)
	}
	// The holder restarts without a word: a new reign, at once.
	one = d.Lease("one")
	again, held, _, err := one.Acquire(t.Context())
	if err != nil || !held || again <= epoch || one.Before() != epoch {
		t.Fatalf("after a restart: %d %v %v, before it was %d (said: %d)", again, held, err, epoch, one.Before())
	}
	if renewed, held, _, err := one.Acquire(t.Context()); err != nil || !held || renewed != again {
		t.Fatalf("renewal after a restart: %d %v %v", renewed, held, err)
	}
	epoch = again
	if err := one.SetBrake(t.Context(), "stop all"); err != nil {
		t.Fatal(err)
	}
	if reason, err := two.Brake(t.Context()); err != nil || reason != "stop all" {
		t.Fatalf("brake %q, error %v", reason, err)
	}
	if err := two.SetBrake(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if reason, err := one.Brake(t.Context()); err != nil || reason != "" {
		t.Fatalf("brake %q after its removal, error %v", reason, err)
	}
	if err := one.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	next, held, _, err := two.Acquire(t.Context())
	if err != nil || !held || next <= epoch || two.Before() != epoch {
		t.Fatalf("after release: %d %v %v, before it was %d (said: %d)", next, held, err, epoch, two.Before())
	}
	// The holder dies: its session is gone, the lock is free after the delay.
	sessions, _, err := client.Session().List(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sessions {
		if s.Name == "locktide two" {
			if _, err := client.Session().Destroy(s.ID, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	deadline := time.Now().Add(patience)
	for {
		third, held, _, err := one.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if held {
			if third <= next {
				t.Fatalf("epoch %d after %d", third, next)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("never taken over")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, held, holder, err := two.Acquire(t.Context()); err != nil || held || holder != "one" {
		t.Fatalf("the one that lost it: %v %q %v", held, holder, err)
	}
}

// TestRightsAndWipes has a server of its own, with ACLs and TLS on both
// sides: the documented rules are enough and not too much, a rotated token is
// used at once, and a server that lost its data shows everything as absent.
func TestRightsAndWipes(t *testing.T) {
	dir := t.TempDir()
	ca, err := devstack.NewAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	server, err := devstack.Consul(t.Context(), devstack.ConsulOptions{ACL: true, TLS: ca})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	cert, key, err := ca.Issue("locktide")
	if err != nil {
		t.Fatal(err)
	}
	root, err := api.NewClient(&api.Config{Address: server.Server.Address, Token: server.Token, TLSConfig: api.TLSConfig{CAFile: ca.CAFile, CertFile: cert, KeyFile: key}})
	if err != nil {
		t.Fatal(err)
	}
	file, agentFile := filepath.Join(dir, "token"), filepath.Join(dir, "agents-token")
	grantTo := func(file, rules string) {
		t.Helper()
		policy, _, err := root.ACL().PolicyCreate(&api.ACLPolicy{Name: schema.DigestOf([]byte(rules)).Short() + fmt.Sprint(time.Now().UnixNano()), Rules: rules}, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, rules)
		}
		token, _, err := root.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{ID: policy.ID}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(token.SecretID+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	grant := func(rules string) { t.Helper(); grantTo(file, rules) }
	reach := func(c *consul.Config) {
		c.Address, c.TokenFile, c.Prefix = server.Server.Address, file, ""
		c.CAFile, c.CertFile, c.KeyFile, c.ServerName = ca.CAFile, cert, key, "server.dc1.consul"
	}
	grant(`key_prefix "" { policy = "read" } service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`)
	d, _ := open(t, reach)
	o := config("shop.cart/d1", map[string]string{"a": "1"})
	refused(t, d, act(schema.VerbCreate, o, ""), schema.FailDenied)
	refused(t, d, act(schema.VerbCreate, compile(t, d, fleet(""), "groups/shop.cart/prod.dc1")[consul.KindDefaults], ""), schema.FailDenied)
	for want, change := range map[string]func(*consul.Config){
		"ca_file":     func(c *consul.Config) { c.CAFile = "" },
		"cert_file":   func(c *consul.Config) { c.CertFile, c.KeyFile = "", "" },
		"server_name": func(c *consul.Config) { c.ServerName = "server.dc9.consul" },
		"https://":    func(c *consul.Config) { c.Address = strings.Replace(c.Address, "https", "http", 1) },
	} {
		wrong, _ := open(t, func(c *consul.Config) { reach(c); change(c) })
		if _, err := wrong.Observe(t.Context(), drivers.Query{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error that names %s: %v", want, err)
		}
	}

	// From here on it has exactly the rights that the docs name.
	docs, err := os.ReadFile("../../docs/proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(docs), "```hcl\n")
	rules, _, _ = strings.Cut(rules, "```")
	grant(rules)
	apply(t, d, act(schema.VerbCreate, o, ""))
	if live, err := d.Observe(t.Context(), drivers.Query{Members: true}); err != nil || !live.Complete || len(live.Objects) != 1 {
		t.Fatalf("with the documented rights: %+v, error %v", live, err)
	}
	if d.Version() != consul.TestedVersion {
		t.Errorf("the server's version is %q, tested is %s", d.Version(), consul.TestedVersion)
	}
	before, held, _, err := d.Lease("me").Acquire(t.Context())
	if err != nil || !held {
		t.Fatalf("lease: %v %v", held, err)
	}
	for _, line := range strings.Split(strings.TrimSpace(rules), "\n") {
		grant(strings.Replace(rules, line, "", 1))
		live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: o}}, Members: true})
		_, _, _, noLease := d.Lease("you").Acquire(t.Context())
		switch subject, _, _ := strings.Cut(line, " "); subject {
		case "session_prefix":
			if noLease == nil {
				t.Errorf("without %s a lease was taken", line)
			}
		case "key_prefix":
			if err == nil && (live.Complete || live.Objects[0].State != schema.StateUnknown) {
				t.Errorf("without %s: %+v", line, live.Objects)
			}
			refused(t, d, act(schema.VerbUpdate, o, "x"), schema.FailDenied)
		default:
			if err == nil && live.Complete {
				t.Errorf("without %s the members were read: %+v", line, live)
			}
		}
	}
	grant(rules)
	// The shared journal needs one rule more, which the docs name beside.
	_, more, _ := strings.Cut(string(docs), "`journal: {consul: ...}` also needs `")
	more, _, _ = strings.Cut(more, "`")
	grant(rules + more)
	shared := journal.NewShared(d.KeyValue(), d.JournalRoot())
	if err := errors.Join(shared.Claim(t.Context(), before), shared.Append(t.Context(), before, nil)); err == nil {
		t.Fatal("an append without the loaded index was accepted")
	}
	if _, err := shared.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := shared.Append(t.Context(), before, []reconciler.Entry{{Table: "t", Key: "k", Value: json.RawMessage("1")}}); err != nil {
		t.Fatalf("the journal, with the documented rights: %v", err)
	}

	// The agents' token has the one rule that the docs name for it.
	_, ruleOfAgents, _ := strings.Cut(string(docs), "`agents` sends a token of its own, which needs `")
	ruleOfAgents, _, _ = strings.Cut(ruleOfAgents, "`")
	grantTo(agentFile, strings.Replace(ruleOfAgents, "write", "read", 1))
	serve(t, root, "held", "held-1")
	d, _ = open(t, func(c *consul.Config) {
		reach(c)
		c.Agents = &consul.Agents{TokenFile: agentFile, CAFile: ca.CAFile, CertFile: cert, KeyFile: key, ServerName: "server.dc1.consul",
			Addresses: map[string]string{"consul": strings.TrimPrefix(server.Server.Address, "https://")}}
	})
	hold := map[string]*schema.Bit{"held-1": {Owner: "ann", Reason: "new disk"}}
	await := func(want schema.Maintenance) {
		t.Helper()
		for deadline := time.Now().Add(patience); memberOf(t, d, "held-1").Maintenance != want || memberOf(t, d, "held-1").ID == ""; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the member's maintenance is never %q", want)
			}
		}
	}
	await(schema.MaintenanceNone)
	if failed := d.Maintain(t.Context(), hold); !strings.Contains(failed["held-1"], "service:write") {
		t.Errorf("without the right to write services: %v", failed)
	}
	grantTo(agentFile, ruleOfAgents)
	if failed := d.Maintain(t.Context(), hold); len(failed) > 0 {
		t.Errorf("with the documented right: %v", failed)
	}
	await(schema.MaintenanceOurs)
	if failed := d.Maintain(t.Context(), map[string]*schema.Bit{"held-1": nil}); len(failed) > 0 {
		t.Errorf("the release, with the documented right: %v", failed)
	}
	await(schema.MaintenanceNone)

	if err := server.Server.Stop(); err != nil {
		t.Fatal(err)
	}
	if live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: o}}}); err == nil {
		t.Fatalf("a server that is away gave %+v", live)
	}
	refused(t, d, act(schema.VerbDelete, o, "x"), schema.FailUnavailable)
	if err := os.RemoveAll(server.Server.DataDir()); err != nil {
		t.Fatal(err)
	}
	if err := server.Server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The tokens went with the data; only the one in the server's file is left.
	if err := os.WriteFile(file, []byte(server.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	if live := observe(t, d, o); live.State != schema.StateAbsent {
		t.Fatalf("after the wipe %s is %s", o.Key, live.State)
	}
	again, held, _, err := d.Lease("me").Acquire(t.Context())
	if err != nil || !held || again <= before {
		t.Fatalf("lease after the wipe: %d %v %v, before it was %d", again, held, err, before)
	}
	apply(t, d, act(schema.VerbCreate, o, ""))
}

func TestSecretsOfConfigurationAreNotShown(t *testing.T) {
	d, client := open(t, nil)
	o := config("shop.cart/secret", map[string]string{"password": "hunter2"})
	apply(t, d, act(schema.VerbCreate, o, ""))
	if _, err := client.KV().Put(&api.KVPair{Key: "test/testsecretsofconfigurationarenotshown/shop.cart/secret/password", Value: []byte("swordfish")}, nil); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(observe(t, d, o))
	if err != nil {
		t.Fatal(err)
	}
	if s := string(text); !strings.Contains(s, `"password"`) || strings.Contains(s, "hunter2") || strings.Contains(s, "swordfish") {
		t.Errorf("the comparison shows %s", s)
	}
}

// The journal's store keeps its promises on real Consul, and its folder is no
// published configuration.
func TestSharedJournal(t *testing.T) {
	d, client := open(t, nil)
	store := func() reconciler.Store { return journal.NewShared(d.KeyValue(), d.JournalRoot()) }
	journaltest.Run(t, store(), func() reconciler.Store {
		s := store()
		if _, err := s.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	})
	if _, err := client.KV().DeleteTree(d.JournalRoot(), nil); err != nil {
		t.Fatal(err)
	}
	journaltest.RunShared(t, store)
	owned, err := d.Inventory(t.Context())
	if err != nil || len(owned) > 0 {
		t.Fatalf("inventory %v, %v", owned, err)
	}
}
