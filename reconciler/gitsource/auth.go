package gitsource

import (
	"fmt"

	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/plumbing/transport/ssh"
)

// auth gives what the built-in client shows to the server; nil: what the
// address says, or the agent of SSH.
func (c Config) auth() (transport.AuthMethod, error) {
	switch {
	case c.TokenFile != "":
		token, err := c.token()
		if err != nil {
			return nil, err
		}
		return &http.BasicAuth{Username: c.user(), Password: token}, nil
	case c.SSHKey != "":
		keys, err := ssh.NewPublicKeysFromFile(c.user(), c.SSHKey, "")
		if err != nil {
			return nil, fmt.Errorf("git.credentials_file: %w", err)
		}
		if c.KnownHosts != "" {
			check, err := ssh.NewKnownHostsCallback(c.KnownHosts)
			if err != nil {
				return nil, fmt.Errorf("git.known_hosts_file: %w", err)
			}
			keys.HostKeyCallback = check
		}
		return keys, nil
	}
	return nil, nil
}

func (c Config) user() string {
	if c.User != "" {
		return c.User
	}
	return "git"
}
