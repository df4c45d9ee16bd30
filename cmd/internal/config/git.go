package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Git is the definitions repository.
type Git struct {
	URL         string      `yaml:"url"`
	Branch      string      `yaml:"branch"`           // default main
	Path        string      `yaml:"path"`             // folder inside it
	Poll        Duration    `yaml:"poll"`             // default 30s
	User        string      `yaml:"user"`             // for HTTPS; default git
	Credentials string      `yaml:"credentials_file"` // HTTPS token, or private key for SSH
	KnownHosts  string      `yaml:"known_hosts_file"`
	Client      string      `yaml:"client"`      // builtin, the default, or git: the git command
	ConfigFile  string      `yaml:"config_file"` // of the git command
	MirrorDir   string      `yaml:"mirror_dir"`  // of the git command; default /var/lib/locktide/git
	Signatures  *Signatures `yaml:"signatures"`  // nil: a commit needs no signature
	// WebhookSecret is shared with the forge that sends webhooks; none: none is taken.
	WebhookSecret string `yaml:"webhook_secret_file"`
}

// Signatures are files that say whose signature a commit must have.
type Signatures struct {
	GPGKeyring     string `yaml:"gpg_keyring_file"`         // public keys, armored or not
	AllowedSigners string `yaml:"ssh_allowed_signers_file"` // as in ssh-keygen(1)
	RevokedKeys    string `yaml:"ssh_revoked_keys_file"`    // public keys of SSH, one a line
}

// Keys gives whose signature a commit must have; nothing: it needs none.
func (g Git) Keys() Signatures {
	if g.Signatures == nil {
		return Signatures{}
	}
	return *g.Signatures
}

func (g *Git) validate() error {
	keys := g.Keys()
	switch {
	case strings.HasPrefix(g.Path, "/") || slices.Contains(strings.Split(g.Path, "/"), ".."):
		return fmt.Errorf("git.path: %q is not a folder inside the repository", g.Path)
	case time.Duration(g.Poll) < time.Second:
		return fmt.Errorf("git.poll: %s is shorter than 1s", time.Duration(g.Poll))
	case g.Client != "builtin" && g.Client != "git":
		return fmt.Errorf("git.client: want builtin or git, not %q", g.Client)
	case g.Client != "git" && g.ConfigFile != "":
		return errors.New("git.config_file: only the git command reads it: set git.client: git")
	case keys.RevokedKeys != "" && keys.AllowedSigners == "":
		return errors.New("git.signatures.ssh_revoked_keys_file: it needs ssh_allowed_signers_file")
	case g.Signatures != nil && keys.GPGKeyring == "" && keys.AllowedSigners == "":
		return errors.New("git.signatures: no key may sign: name gpg_keyring_file or ssh_allowed_signers_file, or leave signatures out")
	}
	for _, f := range []struct{ field, path string }{
		{"config_file", g.ConfigFile}, {"webhook_secret_file", g.WebhookSecret}, {"mirror_dir", g.MirrorDir}, {"signatures.gpg_keyring_file", keys.GPGKeyring},
		{"signatures.ssh_allowed_signers_file", keys.AllowedSigners}, {"signatures.ssh_revoked_keys_file", keys.RevokedKeys},
	} {
		if f.path != "" && !strings.HasPrefix(f.path, "/") {
			return fmt.Errorf("git.%s: %q is not an absolute path", f.field, f.path)
		}
	}
	return nil
}
