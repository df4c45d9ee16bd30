package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"locktide.dev/cmd/internal/config"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/gitsource"
	"locktide.dev/reconciler/gitsource/signature"
	"locktide.dev/schema"
)

func gitConfig(g config.Git) gitsource.Config {
	keys := g.Keys()
	c := gitsource.Config{URL: g.URL, Branch: g.Branch, Path: g.Path, User: g.User, KnownHosts: g.KnownHosts,
		Client: g.Client, ConfigFile: g.ConfigFile, MirrorDir: g.MirrorDir,
		Signatures: signature.Config{GPGKeyring: keys.GPGKeyring, AllowedSigners: keys.AllowedSigners, RevokedKeys: keys.RevokedKeys}}
	if strings.HasPrefix(g.URL, "https://") || strings.HasPrefix(g.URL, "http://") {
		c.TokenFile = g.Credentials
	} else {
		c.SSHKey = g.Credentials
	}
	return c
}

// once is the configuration for a command beside the daemon, which must not
// meddle with the daemon's mirror.
func once(c gitsource.Config) gitsource.Config {
	c.MirrorDir = ""
	return c
}

func gitCheck(ctx context.Context, cfg config.Config) schema.Diagnosis {
	k := schema.Diagnosis{Name: "git", Next: "check git.url, git.branch and git.credentials_file"}
	source, err := gitsource.New(once(gitConfig(cfg.Git)))
	if err != nil {
		k.Says = err.Error()
		return k
	}
	defer func() { _ = source.Close() }() // a temporary mirror that stays is no reason to fail
	rev, err := source.Latest(ctx)
	var refused *reconciler.Refused
	switch {
	case errors.As(err, &refused):
		k.Says, k.Next = err.Error(), refused.Next
	case err != nil:
		k.Says = err.Error()
	default:
		k.OK, k.Says = true, fmt.Sprintf("%s is at %.10s", gitsource.Redact(cfg.Git.URL), rev.Commit)
	}
	if rev.Signer != "" {
		k.Says += ", signed by " + rev.Signer
	}
	return k
}
