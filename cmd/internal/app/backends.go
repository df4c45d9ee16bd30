package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"

	"locktide.dev/cmd/internal/config"
	"locktide.dev/drivers"
	"locktide.dev/drivers/consul"
	"locktide.dev/drivers/l7/foreign"
	"locktide.dev/drivers/nginx"
	"locktide.dev/drivers/nomad"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
)

// backends are the opened driver instances of one configuration.
type backends struct {
	drivers []drivers.Driver
	lease   drivers.Lease
	consuls map[string]*consul.Driver
}

// openJournal opens the store that the configuration names.
func openJournal(cfg config.Config, b *backends) (reconciler.Store, error) {
	if cfg.Journal.Consul == "" {
		return journal.Open(cfg.Journal.File)
	}
	d := b.consuls[cfg.Journal.Consul]
	return journal.NewShared(d.KeyValue(), d.JournalRoot()), nil
}

// open opens every instance that cfg names for reading and writing, and the
// journal; proxies that do not run are started. A journal's file comes first:
// the name in the lease rests on having it.
func open(ctx context.Context, cfg config.Config, log *slog.Logger) (*backends, reconciler.Store, error) {
	var store reconciler.Store
	if cfg.Journal.Consul == "" {
		var err error
		if store, err = openJournal(cfg, nil); err != nil {
			return nil, nil, err
		}
	}
	b, err := opened(ctx, cfg, log, nginx.Config.Open)
	if err == nil && store == nil {
		store, err = openJournal(cfg, b)
	}
	if err != nil && store != nil {
		err = errors.Join(err, store.Close())
	}
	return b, store, err
}

// inspect opens every instance for reading: nothing is made or started.
func inspect(ctx context.Context, cfg config.Config) (*backends, error) {
	return opened(ctx, cfg, slog.New(slog.DiscardHandler), func(c nginx.Config, _ context.Context) (*nginx.Driver, error) { return c.Inspect() })
}

// opened opens every instance that cfg names, in the order of their names. A
// Nomad or Consul that is away is no error: it stops only its own objects.
func opened(ctx context.Context, cfg config.Config, log *slog.Logger, proxy func(nginx.Config, context.Context) (*nginx.Driver, error)) (*backends, error) {
	b := &backends{consuls: map[string]*consul.Driver{}}
	holder := holderName(cfg.Journal.File)
	for _, name := range names(cfg.Consul) {
		c := cfg.Consul[name]
		d, err := consul.Config{Name: name, Address: c.Address, Datacenter: c.Datacenter, Datacenters: c.Datacenters, TokenFile: c.TokenFile,
			CAFile: c.TLS.CA, CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, ServerName: c.TLS.ServerName, Prefix: c.Prefix, Owner: cfg.Owner, Agents: agentsOf(c.Agents)}.Open(ctx)
		if err != nil {
			return nil, err
		}
		b.drivers, b.consuls[name] = append(b.drivers, d), d
		if cfg.Lease.Consul == name {
			b.lease = d.Lease(holder)
		}
	}
	for _, name := range names(cfg.Nomad) {
		c := cfg.Nomad[name]
		d, err := nomad.Config{Name: name, Address: c.Address, Region: c.Region, Datacenters: c.Datacenters, TokenFile: c.TokenFile,
			CAFile: c.TLS.CA, CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, ServerName: c.TLS.ServerName, Owner: cfg.Owner,
			ConsulPrefix: prefixOf(cfg, c.Datacenters), LeaseHolder: holder}.Open(ctx, nomad.Options{Logger: log})
		if err != nil {
			return nil, err
		}
		b.drivers = append(b.drivers, d)
		if cfg.Lease.Nomad == name {
			b.lease = d
		}
	}
	for _, name := range names(cfg.Nginx) {
		c := cfg.Nginx[name]
		d, err := proxy(nginx.Config{Name: name, Dir: c.Dir, Binary: c.Binary, Listen: c.Listen, ListenTLS: c.ListenTLS, CertDir: c.CertDir, User: c.User,
			Datacenters: c.Datacenters, Owner: cfg.Owner, External: c.External, Test: c.Test, Reload: c.Reload, MembersOnly: c.MembersOnly,
			Adopts: foreign.Source(c.Adopts)}, ctx)
		if err != nil {
			return nil, err
		}
		b.drivers = append(b.drivers, d)
	}
	return b, nil
}

func agentsOf(a *config.Agents) *consul.Agents {
	if a == nil {
		return nil
	}
	return &consul.Agents{Port: a.Port, TokenFile: a.TokenFile, CAFile: a.TLS.CA, CertFile: a.TLS.Cert, KeyFile: a.TLS.Key, ServerName: a.TLS.ServerName, Addresses: a.Addresses}
}

// prefixOf gives the KV folder of the Consul that serves one of the datacenters.
func prefixOf(cfg config.Config, datacenters []string) string {
	for _, name := range names(cfg.Consul) {
		for _, dc := range datacenters {
			if slices.Contains(cfg.Consul[name].Datacenters, dc) {
				return cfg.Consul[name].Prefix
			}
		}
	}
	return ""
}

// holderName names this process to other holders of the lease. A lease of its
// own name is one that a daemon takes at once, so no two may have the same, not
// even in containers with one host name and process id. Whoever has opened the
// journal's file has it alone: the file, by its inode on this boot of the
// machine, is a name that a daemon has again after a crash. Without a file, or
// where the machine does not tell its boot, chance makes the name.
func holderName(journal string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	host = strings.ToLower(host)
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if info, e := os.Stat(journal); e == nil && err == nil {
		if file, ok := info.Sys().(*syscall.Stat_t); ok {
			return fmt.Sprintf("%s/%s", host, schema.DigestOf(fmt.Appendf(nil, "%s %d %d", boot, file.Dev, file.Ino)).Short())
		}
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), strings.ToLower(rand.Text()[:8]))
}

func names[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for n := range m {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
