package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/cmd/internal/config"
	"locktide.dev/drivers"
	"locktide.dev/drivers/consul"
	"locktide.dev/drivers/devstack"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
)

// Doctor implements cli.Engine: all that can be checked from this host
// without a daemon.
func (e *engine) Doctor(ctx context.Context, path string) ([]schema.Diagnosis, error) {
	cfg, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	checks := append([]schema.Diagnosis{{Name: "configuration", OK: true, Says: path}}, tokenChecks(cfg)...)
	if cfg.Journal.File != "" {
		checks = append(checks, journalChecks(cfg.Journal.File)...)
	}
	checks = append(checks, gitCheck(ctx, cfg))
	checks = append(checks, backendChecks(ctx, cfg)...)
	b, err := inspect(ctx, cfg)
	if err != nil {
		return append(checks, schema.Diagnosis{Name: "backends", Says: err.Error(), Next: "correct the configuration or the backend"}), nil
	}
	for _, d := range b.drivers {
		checks = append(checks, readCheck(ctx, d))
	}
	for _, name := range names(cfg.Consul) {
		if cfg.Consul[name].Agents != nil {
			checks = append(checks, agentsCheck(ctx, name, b.consuls[name]))
		}
	}
	if cfg.Journal.Consul != "" {
		checks = append(checks, sharedCheck(ctx, cfg, b))
	}
	return append(checks, brakeChecks(ctx, cfg, b)...), nil
}

// backendChecks probes every Nomad and Consul with the configured tokens.
func backendChecks(ctx context.Context, cfg config.Config) []schema.Diagnosis {
	var out []schema.Diagnosis
	ask := func(name, address, header, token string, files config.TLS, tested string, version func([]byte) string, rights []right) {
		p, err := newProbe(name, address, header, token, files)
		if err != nil {
			out = append(out, schema.Diagnosis{Name: name, Says: err.Error(), Next: "correct the configuration, or who may read the file"})
			return
		}
		out = append(out, p.checks(ctx, tested, version, rights)...)
	}
	for _, name := range names(cfg.Nomad) {
		n := cfg.Nomad[name]
		namespaces := n.Namespaces
		if len(namespaces) == 0 {
			namespaces = []string{"default"}
		}
		ask("nomad "+name, n.Address, "X-Nomad-Token", n.TokenFile, n.TLS, strings.TrimPrefix(devstack.NomadVersion, "v"), nomadVersion,
			nomadRights(cfg.Owner, namespaces[0], cfg.Lease.Nomad == name))
	}
	for _, name := range names(cfg.Consul) {
		c := cfg.Consul[name]
		ask("consul "+name, c.Address, "X-Consul-Token", c.TokenFile, c.TLS, strings.TrimPrefix(devstack.ConsulVersion, "v"), consulVersion, consulRights(c.Prefix))
	}
	return out
}

// brakeChecks tells of brakes that stand without the daemon.
func brakeChecks(ctx context.Context, cfg config.Config, b *backends) []schema.Diagnosis {
	var out []schema.Diagnosis
	if b.lease != nil {
		reason, err := b.lease.Brake(ctx)
		k := schema.Diagnosis{Name: "direct brake", OK: err == nil && reason == "", Says: "none beside the lease", Next: "check the permissions in docs/permissions.md"}
		if err != nil {
			k.Says = err.Error()
		} else if reason != "" {
			k.Says, k.Next = "stands beside the lease: "+reason, "`locktide resume --all --direct` releases it"
		}
		out = append(out, k)
	}
	if _, err := os.Stat(cfg.BrakeFile); err == nil {
		out = append(out, schema.Diagnosis{Name: "brake file", Says: cfg.BrakeFile + " exists: nothing disruptive starts", Next: "rm " + cfg.BrakeFile})
	}
	return out
}

// Tested implements cli.Engine.
func (*engine) Tested() map[string]string {
	return map[string]string{"nomad": strings.TrimPrefix(devstack.NomadVersion, "v"), "consul": strings.TrimPrefix(devstack.ConsulVersion, "v"), "nginx": "1.22 or newer"}
}

// tokenChecks looks at the files with what lets others in: the token, those of
// people, the secret of webhooks.
func tokenChecks(cfg config.Config) []schema.Diagnosis {
	out := []schema.Diagnosis{tokenCheck("token", cfg.TokenFile)}
	if cfg.TokenFile == "" && len(cfg.People) > 0 {
		out = nil
	}
	for _, name := range names(cfg.People) {
		out = append(out, tokenCheck("token of "+name, cfg.People[name].TokenFile))
	}
	if file := cfg.Git.WebhookSecret; file != "" {
		out = append(out, tokenCheck("webhook secret", file))
	}
	return out
}

func tokenCheck(name, path string) schema.Diagnosis {
	k := schema.Diagnosis{Name: name, Next: "write a random word to that file, mode 0600"}
	info, err := os.Stat(path)
	switch {
	case path == "":
		k.Says, k.Next = "token_file is not set: no command can be given", "set token_file in the configuration to a file of mode 0600 that holds a random word"
	case err == nil && info.Size() == 0:
		k.Says = path + " is empty: nobody gets in by it"
	case err != nil:
		k.Says = err.Error()
	case info.Mode().Perm()&0o077 != 0:
		k.Says, k.Next = fmt.Sprintf("%s can be read by others (mode %04o)", path, info.Mode().Perm()), "chmod 600 "+path
	default:
		k.OK, k.Says = true, path
	}
	return k
}

// sharedCheck reads a shared journal whole.
func sharedCheck(ctx context.Context, cfg config.Config, b *backends) schema.Diagnosis {
	k := schema.Diagnosis{Name: "journal", Next: "check consul." + cfg.Journal.Consul + " and the permissions in docs/permissions.md"}
	d := b.consuls[cfg.Journal.Consul]
	s := journal.NewShared(d.KeyValue(), d.JournalRoot())
	tables, err := s.Load(ctx)
	if err != nil {
		k.Says = err.Error()
		return k
	}
	n := 0
	for _, rows := range tables {
		n += len(rows)
	}
	k.OK, k.Says = true, fmt.Sprintf("in consul.%s under %s: %d entries, %.1f MiB", cfg.Journal.Consul, d.JournalRoot(), n, float64(s.Size())/(1<<20))
	return k
}

// journalChecks looks at a journal that no daemon uses; one that is in use is
// for the daemon to tell of.
func journalChecks(path string) []schema.Diagnosis {
	k := schema.Diagnosis{Name: "journal", Next: "locktide journal repair " + path}
	s, err := journal.Check(path)
	switch {
	case errors.Is(err, journal.ErrInUse):
		k.OK, k.Says = true, path+" is in use: a daemon runs on this host"
		return []schema.Diagnosis{k}
	case errors.Is(err, os.ErrNotExist):
		folder, err := os.Stat(filepath.Dir(path))
		k.OK, k.Says, k.Next = err == nil && folder.IsDir(), path+" does not exist yet: the daemon makes it, and rebuilds it from the marks of what runs", "make the folder "+filepath.Dir(path)+", owned by the daemon's user"
		return []schema.Diagnosis{k}
	case err != nil:
		k.Says = err.Error()
		return []schema.Diagnosis{k}
	}
	k.OK = true
	k.Says = fmt.Sprintf("whole: %d entries, %d bodies, %.1f MiB, epoch %s", s.Entries, s.Bodies, float64(s.Bytes)/(1<<20), s.Epoch)
	disk := schema.Diagnosis{Name: "disk", OK: s.Fsync < time.Second, Says: "a write beside the journal is durable after " + s.Fsync.Round(10*time.Microsecond).String(), Next: "a slow disk delays every dispatch"}
	back := schema.Diagnosis{Name: "backup", OK: time.Since(s.Backup) < 24*time.Hour, Says: "the journal was exported " + time.Since(s.Backup).Round(time.Second).String() + " ago",
		Next: "locktide journal export > backup.jsonl, once a day"}
	if s.Backup.IsZero() {
		back.Says = "the journal was never exported"
	}
	return []schema.Diagnosis{k, disk, back}
}

func readCheck(ctx context.Context, d drivers.Driver) schema.Diagnosis {
	driver, instance := d.Name()
	k := schema.Diagnosis{Name: driver + " " + instance + " reading", Next: "check address, TLS, token and the permissions in docs/permissions.md"}
	live, err := d.Observe(ctx, drivers.Query{Members: true})
	switch {
	case err != nil:
		k.Says = err.Error()
	case !live.Complete:
		k.Says = "cannot be read whole: " + live.Missing
	default:
		k.OK, k.Says = true, fmt.Sprintf("readable, %d objects of ours", len(live.Objects))
	}
	return k
}

// agentsCheck asks the agents of all nodes that run members.
func agentsCheck(ctx context.Context, name string, d *consul.Driver) schema.Diagnosis {
	k := schema.Diagnosis{Name: "consul " + name + " agents", Next: "check consul." + name + ".agents: until then Consul's readers still see held members of these nodes"}
	nodes, err := d.Unreached(ctx)
	var away []string
	for _, node := range names(nodes) {
		if nodes[node] != "" {
			away = append(away, nodes[node])
		}
	}
	switch {
	case err != nil:
		k.Says = err.Error()
	case len(away) > 0:
		k.Says = fmt.Sprintf("%d of %d nodes with members are out of reach: %s", len(away), len(nodes), away[0])
	default:
		k.OK, k.Says = true, fmt.Sprintf("all %d nodes with members answer", len(nodes))
	}
	return k
}

// Brake implements cli.Engine.
func (*engine) Brake(ctx context.Context, path, reason string) error {
	cfg, err := readConfig(path)
	if err != nil {
		return err
	}
	b, err := inspect(ctx, cfg)
	if err != nil {
		return err
	}
	if b.lease == nil {
		return cli.Fail("make the file "+cfg.BrakeFile, "the configuration has no lease beside which a brake could stand")
	}
	if err := b.lease.SetBrake(ctx, reason); err != nil {
		return cli.Fail("make the file "+cfg.BrakeFile+" on the daemon's host", "cannot write the brake: %v", err)
	}
	return nil
}
