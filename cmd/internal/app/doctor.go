package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/cmd/internal/config"
	"locktide.dev/drivers"
	"locktide.dev/reconciler/gitsource"
)

// Doctor implements cli.Engine.
func (e *engine) Doctor(ctx context.Context, path string) ([]cli.Check, error) {
	cfg, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	checks := []cli.Check{{Name: "configuration", OK: true, Says: path}, tokenCheck(cfg.TokenFile), journalCheck(cfg.Journal), gitCheck(ctx, cfg)}
	b, err := inspect(ctx, cfg)
	if err != nil {
		return append(checks, cli.Check{Name: "backends", Says: err.Error(), Next: "correct the configuration or the backend"}), nil
	}
	for _, d := range b.drivers {
		checks = append(checks, backendCheck(ctx, d))
	}
	if b.lease != nil {
		reason, err := b.lease.Brake(ctx)
		k := cli.Check{Name: "lease", OK: err == nil && reason == "", Says: "readable, no brake", Next: "check the permissions in docs/permissions.md"}
		if err != nil {
			k.Says = err.Error()
		} else if reason != "" {
			k.Says, k.Next = "a fleet-wide brake stands: "+reason, "`locktide resume --all --direct` releases it"
		}
		checks = append(checks, k)
	}
	return checks, nil
}

func tokenCheck(path string) cli.Check {
	k := cli.Check{Name: "token", Next: "write a random word to token_file, mode 0600"}
	info, err := os.Stat(path)
	switch {
	case path == "":
		k.Says = "token_file is not set: no command can be given"
	case err != nil:
		k.Says = err.Error()
	case info.Mode().Perm()&0o077 != 0:
		k.Says, k.Next = fmt.Sprintf("%s can be read by others (mode %04o)", path, info.Mode().Perm()), "chmod 600 "+path
	default:
		k.OK, k.Says = true, path
	}
	return k
}

func journalCheck(path string) cli.Check {
	k := cli.Check{Name: "journal", Next: "make the folder, owned by the daemon's user"}
	info, err := os.Stat(filepath.Dir(path))
	switch {
	case err != nil:
		k.Says = err.Error()
	case !info.IsDir():
		k.Says = filepath.Dir(path) + " is not a folder"
	default:
		k.OK, k.Says = true, path
	}
	return k
}

func gitCheck(ctx context.Context, cfg config.Config) cli.Check {
	k := cli.Check{Name: "git", Next: "check git.url, git.branch and git.credentials_file"}
	source, err := gitsource.New(gitConfig(cfg.Git))
	if err == nil {
		rev, e := source.Latest(ctx)
		err = e
		k.OK, k.Says = e == nil, fmt.Sprintf("%s is at %.10s", gitsource.Redact(cfg.Git.URL), rev.Commit)
	}
	if err != nil {
		k.Says = err.Error()
	}
	return k
}

func backendCheck(ctx context.Context, d drivers.Driver) cli.Check {
	driver, instance := d.Name()
	k := cli.Check{Name: driver + " " + instance, Next: "check address, TLS, token and the permissions in docs/permissions.md"}
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
