package nomad

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/drivers"
	"locktide.dev/drivers/devstack"
	"locktide.dev/schema"
)

// secured is a Nomad of its own with ACLs, TLS on both sides, a region, a
// namespace and a node pool.
type secured struct {
	config Config // of the management token
	root   *Driver
	ca     *devstack.Authority
	dir    string
	policy int
}

const region, blue, apps = "europe", "blue", "apps"

// TestSecured shares one such server.
func TestSecured(t *testing.T) {
	t.Parallel()
	s := &secured{dir: t.TempDir()}
	var err error
	if s.ca, err = devstack.NewAuthority(s.dir); err != nil {
		t.Fatal(err)
	}
	cluster, err := devstack.Nomad(t.Context(), devstack.NomadOptions{Region: region, ACL: true, TLS: s.ca,
		Clients: []devstack.NomadClient{{Name: "s1", Pool: blue}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	cert, key, err := s.ca.Issue("locktide")
	if err != nil {
		t.Fatal(err)
	}
	s.config = Config{Name: "dc1", Address: cluster.Server.Address, Owner: "secured", CAFile: s.ca.CAFile, CertFile: cert, KeyFile: key,
		TokenFile: s.write(t, "management", cluster.Token)}
	s.root = s.open(t, s.config)
	if _, err := s.root.api.Namespaces().Register(&api.Namespace{Name: apps}, nil); err != nil {
		t.Fatal(err)
	}
	t.Run("TLS", s.tls)
	t.Run("Places", s.places)
	t.Run("Privileges", s.privileges)
}

func (s *secured) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *secured) open(t *testing.T, c Config) *Driver {
	t.Helper()
	d, err := c.Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (s *secured) group(t *testing.T, d *Driver, app, namespace, value string) schema.Object {
	t.Helper()
	name, g := group(d, app, 1, value)
	g.Namespace, g.Placement.Pool = namespace, blue
	return compile(t, d, name, g)
}

// A connection that TLS refuses says which field to look at; a certificate
// that was renewed on disk is used without a restart.
func (s *secured) tls(t *testing.T) {
	other, err := devstack.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	foreignCert, foreignKey, err := other.Issue("locktide")
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"ca_file":                       func(c *Config) { c.CAFile = other.CAFile },
		"ca_file to":                    func(c *Config) { c.CAFile = "" },
		"cert_file and key_file":        func(c *Config) { c.CertFile, c.KeyFile = "", "" },
		"client certificate":            func(c *Config) { c.CertFile, c.KeyFile = foreignCert, foreignKey },
		"server_name":                   func(c *Config) { c.ServerName = "server.asia.nomad" },
		"write https:// in address":     func(c *Config) { c.Address = strings.Replace(c.Address, "https", "http", 1) },
		"no path to region: set region": func(c *Config) { c.Region = "asia" },
	} {
		c := s.config
		change(&c)
		_, err := s.open(t, c).Observe(t.Context(), drivers.Query{})
		f := failureOf(err, false)
		if err == nil || f.Kind != schema.FailUnavailable || !strings.Contains(strings.ToLower(f.Message+": "+f.Next), want) {
			t.Errorf("want %q: %+v", want, f)
		}
	}
	c := s.config
	c.ServerName, c.Region = "server."+region+".nomad", region
	if c.CertFile, c.KeyFile, err = other.Issue("rotated"); err != nil {
		t.Fatal(err)
	}
	d := s.open(t, c)
	if _, err := d.Observe(t.Context(), drivers.Query{}); err == nil {
		t.Fatal("a certificate of a foreign CA was accepted")
	}
	mine, key, err := s.ca.Issue("rotated")
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{mine: c.CertFile, key: c.KeyFile} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Observe(t.Context(), drivers.Query{}); err != nil {
		t.Fatalf("the new certificate is not used: %v", err)
	}
}

// The same job id in two namespaces is two jobs, in one node pool; what
// cannot be placed says so.
func (s *secured) places(t *testing.T) {
	c := s.config
	c.Region = region
	d := s.open(t, c)
	here, there := s.group(t, d, "twin.app", "", "one"), s.group(t, d, "twin.app", apps, "one")
	if here.Key == there.Key || strings.TrimSuffix(there.Key.Name, "@"+apps) != here.Key.Name {
		t.Fatalf("keys %s and %s", here.Key, there.Key)
	}
	r := do(t, d, action(schema.VerbCreate, here, ""))
	do(t, d, action(schema.VerbCreate, there, ""))
	until(t, "one instance runs in each namespace", func() bool {
		return len(running(members(t, d, here), here.Release)) == 1 && len(running(members(t, d, there), there.Release)) == 1
	})
	if m := members(t, d, there)[0]; m.Node != "s1" {
		t.Fatalf("member %+v", m)
	}
	if info, _, err := d.api.Nodes().List(nil); err != nil || info[0].NodePool != blue {
		t.Fatalf("nodes %+v, error %v", info, err)
	}
	do(t, d, action(schema.VerbDelete, here, r.Version))
	if got := see(t, d, here, nil); got.State != schema.StateAbsent {
		t.Fatalf("deleted: %+v", got)
	}
	if got := see(t, d, there, nil); got.State != schema.StateSame {
		t.Fatalf("its twin in another namespace: %+v", got)
	}
	nowhere := s.group(t, d, "lost.app", "nowhere", "one")
	out := d.apply(t.Context(), action(schema.VerbCreate, nowhere, ""))
	if out.Failure == nil || out.Failure.Kind != schema.FailInvalid || !strings.Contains(out.Failure.Message, `namespace "nowhere"`) || out.Failure.Next == "" {
		t.Fatalf("a missing namespace gave %+v", out.Failure)
	}
	name, g := group(d, "pool.app", 1, "one")
	g.Placement.Pool = "green"
	out = d.apply(t.Context(), action(schema.VerbCreate, compile(t, d, name, g), ""))
	if out.Failure == nil || out.Failure.Kind != schema.FailInvalid || !strings.Contains(out.Failure.Message, `node pool "green"`) || out.Failure.Next == "" {
		t.Fatalf("a missing node pool gave %+v", out.Failure)
	}
}

// documented is the policy of docs/permissions.md.
func documented(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/permissions.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(text), "```hcl\n")
	rules, _, ok := strings.Cut(rules, "```")
	if !ok {
		t.Fatal("docs/permissions.md has no rules for Nomad")
	}
	return rules
}

// with opens a driver whose token has the rules for both namespaces.
func (s *secured) with(t *testing.T, rules string) *Driver {
	t.Helper()
	s.policy++
	var names []string
	for suffix, text := range map[string]string{"-default": rules, "-apps": strings.Replace(rules, `"default"`, `"`+apps+`"`, 1)} {
		p := &api.ACLPolicy{Name: "p" + string(rune('a'+s.policy)) + suffix, Rules: text}
		if _, err := s.root.api.ACLPolicies().Upsert(p, nil); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		names = append(names, p.Name)
	}
	return s.token(t, names)
}

func (s *secured) token(t *testing.T, policies []string) *Driver {
	t.Helper()
	token, _, err := s.root.api.ACLTokens().Create(&api.ACLToken{Type: "client", Policies: policies}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := s.config
	c.TokenFile = s.write(t, "token-"+token.AccessorID, token.SecretID)
	return s.open(t, c)
}

// Everything that the driver does works with the documented privileges, and
// nothing of them is too much: each one that is taken away is missed.
func (s *secured) privileges(t *testing.T) {
	rules := documented(t)
	d := s.with(t, rules)
	o, two := s.group(t, d, "rights.app", apps, "one"), s.group(t, d, "rights.app", apps, "two")
	at := s.everything(t, d, o, two)

	fail := func(f *schema.Failure) error {
		if f == nil {
			return nil
		}
		return f
	}
	unknown := func(ctx context.Context, d *Driver, o schema.Object) error {
		live, err := d.Observe(ctx, drivers.Query{Want: []drivers.Want{{Object: o}}})
		if err == nil && live.Objects[0].State == schema.StateUnknown && !live.Complete {
			err = &schema.Failure{Kind: schema.FailDenied, Message: live.Objects[0].Reason}
		}
		return err
	}
	for _, c := range []struct {
		from, to, lacks string
		try             func(ctx context.Context, d *Driver) error
	}{
		{`"list-jobs", `, "", "list-jobs in any namespace", func(ctx context.Context, d *Driver) error {
			_, err := d.Observe(ctx, drivers.Query{})
			return err
		}},
		{`"read-job", `, "", "read-job in any namespace", func(ctx context.Context, d *Driver) error { return unknown(ctx, d, two) }},
		{`"read-job", `, "", "read-job in any namespace", func(ctx context.Context, d *Driver) error {
			_, err := d.Observe(ctx, drivers.Query{Members: true})
			return err
		}},
		{`"submit-job", `, "", "submit-job in namespace apps", func(ctx context.Context, d *Driver) error {
			return fail(d.apply(ctx, action(schema.VerbStage, o, at)).Failure)
		}},
		{`, "alloc-lifecycle"`, "", "alloc-lifecycle in namespace apps", func(ctx context.Context, d *Driver) error {
			a := action(schema.VerbMove, two, at)
			for _, m := range members(t, s.root, two) {
				a.Members = append(a.Members, m.ID)
			}
			return fail(d.apply(ctx, a).Failure)
		}},
		{`"read", "write"`, `"write"`, `read for variables under "locktide/secured/brake" in namespace default`, func(ctx context.Context, d *Driver) error {
			_, err := d.Brake(ctx)
			return err
		}},
		{`"read", "write"`, `"read"`, `write for variables under "locktide/secured/brake" in namespace default`, func(ctx context.Context, d *Driver) error {
			return d.SetBrake(ctx, "fire")
		}},
		{`node { policy = "write" }`, `node { policy = "read" }`, `node { policy = "write" }`, func(ctx context.Context, d *Driver) error {
			return d.Drain(ctx, "s1", true, time.Minute)
		}},
		{`node { policy = "write" }`, "", `node { policy = "read" }`, func(ctx context.Context, d *Driver) error {
			_, err := d.Observe(ctx, drivers.Query{Members: true})
			return err
		}},
	} {
		if strings.Count(rules, c.from) != 1 {
			t.Fatalf("the documented rules do not say %s", c.from)
		}
		err := c.try(t.Context(), s.with(t, strings.Replace(rules, c.from, c.to, 1)))
		if err == nil || failureOf(err, false).Kind != schema.FailDenied || !strings.Contains(err.Error(), c.lacks) {
			t.Errorf("without %s: %v, want a refusal that names %s", c.from, err, c.lacks)
		}
	}
	words := regexp.MustCompile(`"[^"]*"`).FindAllString(rules, -1)
	if want := []string{`"default"`, `"list-jobs"`, `"read-job"`, `"submit-job"`, `"alloc-lifecycle"`, `"locktide/*"`, `"read"`, `"write"`, `"write"`}; !slices.Equal(words, want) {
		t.Errorf("the documented rules are %v, tested are %v", words, want)
	}

	// A namespace that the token lost: nothing in it is absent.
	if _, err := s.root.api.ACLPolicies().Upsert(&api.ACLPolicy{Name: "half", Rules: rules}, nil); err != nil {
		t.Fatal(err)
	}
	half := s.token(t, []string{"half"})
	if err := unknown(t.Context(), half, two); err == nil || !strings.Contains(err.Error(), "list-jobs in namespace apps") {
		t.Errorf("a job in a namespace that may not be listed: %v", err)
	}
	do(t, d, action(schema.VerbDelete, two, at))

	// A token that was revoked, and its successor in the same file.
	c := s.config
	c.TokenFile = s.write(t, "successor", "00000000-0000-0000-0000-000000000000")
	d = s.open(t, c)
	if _, err := d.Observe(t.Context(), drivers.Query{}); err == nil || failureOf(err, false).Kind != schema.FailDenied || strings.Contains(err.Error(), "00000000") {
		t.Errorf("an unknown token gave %v", err)
	}
	text, err := os.ReadFile(s.config.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "successor", strings.TrimSpace(string(text)))
	if _, err := d.Observe(t.Context(), drivers.Query{}); err != nil {
		t.Errorf("the new token is not used: %v", err)
	}
}

// everything is all that the engine and the commands ask of the driver; it
// leaves two, parked, and gives its version.
func (s *secured) everything(t *testing.T, d *Driver, o, two schema.Object) schema.Version {
	t.Helper()
	r := do(t, d, action(schema.VerbStage, o, ""))
	approveAll := func(o schema.Object, r *schema.Receipt) {
		t.Helper()
		until(t, "the member runs", func() bool { return len(running(members(t, d, o), o.Release)) == 1 })
		a := action(schema.VerbApprove, o, r.Version)
		a.Members = running(members(t, d, o), o.Release)
		do(t, d, a)
		until(t, "the deployment ends", func() bool { return see(t, d, o, r).Progress.Status == "successful" })
	}
	approveAll(o, r)
	stage := action(schema.VerbStage, two, r.Version)
	stage.Canary = 1
	r = do(t, d, stage)
	approveAll(two, r)
	r = do(t, d, action(schema.VerbPark, two, r.Version))
	until(t, "the parked deployment ends", func() bool { return see(t, d, two, r).Progress.Status == "successful" })
	move := action(schema.VerbMove, two, r.Version)
	move.Members = running(members(t, d, two), two.Release)
	do(t, d, move)
	until(t, "the moved member is replaced", func() bool {
		now := running(members(t, d, two), two.Release)
		return len(now) == 1 && now[0] != move.Members[0]
	})
	edit(t, s.root, two, func(j *api.Job) { *j.Priority = 60 })
	got := see(t, d, two, r)
	if got.State != schema.StateDiffers || len(got.Diff) != 1 {
		t.Fatalf("edited: %+v", got)
	}
	r = do(t, d, action(schema.VerbUpdate, two, got.Version))
	if owned, err := d.Inventory(t.Context()); err != nil || len(owned) == 0 {
		t.Fatalf("inventory %+v, error %v", owned, err)
	}
	if changes, err := d.Changes(t.Context(), time.Time{}); err != nil || len(changes) == 0 {
		t.Fatalf("changes %+v, error %v", changes, err)
	}
	if _, held, _, err := d.Acquire(t.Context()); err != nil || !held {
		t.Fatalf("lease: held %v, error %v", held, err)
	}
	if err := d.SetBrake(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Brake(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	rung := make(chan bool, 100)
	ended := make(chan error, 1)
	go func() { ended <- d.Watch(ctx, func([]schema.Key) { rung <- true }) }()
	select {
	case <-rung:
	case err := <-ended:
		t.Fatalf("watch: %v", err)
	}
	cancel()
	<-ended
	if err := d.Drain(t.Context(), "s1", true, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := d.Drain(t.Context(), "s1", false, 0); err != nil {
		t.Fatal(err)
	}
	until(t, "the member is back", func() bool { return len(running(members(t, d, two), two.Release)) == 1 })
	if err := d.Eject(t.Context(), two.Key); err != nil {
		t.Fatal(err)
	}
	return do(t, d, action(schema.VerbAdopt, two, see(t, d, two, nil).Version)).Version
}
