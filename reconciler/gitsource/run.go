package gitsource

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// git runs the git command in an environment of its own: no configuration but
// ours and the file that the operator names, no hooks, no questions, and no
// protocol but the address's.
type git struct{ cfg Config }

const (
	maxOutput = 1 << 20  // bytes that a command may print
	maxSaid   = 16 << 10 // and of what it says of errors
)

// run gives what a command printed, without the last line end. An error holds
// what the command said.
func (g git) run(ctx context.Context, args ...string) (string, error) {
	cmd, err := g.command(ctx, args...)
	if err != nil {
		return "", err
	}
	out, said := &limited{limit: maxOutput}, &limited{limit: maxSaid}
	cmd.Stdout, cmd.Stderr = out, said
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("git %s did not end in time: %w", verb(args), ctx.Err())
	case err != nil:
		why := strings.Join(strings.FieldsFunc(string(said.kept), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
		if redirected.MatchString(why) {
			why += "; the server sends to another address, which is not followed: put that one in git.url"
		}
		return "", fmt.Errorf("git %s: %w: %s", verb(args), err, why)
	case out.cut:
		return "", fmt.Errorf("git %s printed more than %d bytes", verb(args), maxOutput)
	}
	return strings.TrimSuffix(string(out.kept), "\n"), nil
}

// redirected is what git says of an answer that leads elsewhere.
var redirected = regexp.MustCompile(`\berror: 30[1278]\b`)

// verb gives the name of the command among its arguments.
func verb(args []string) string {
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			return a
		}
	}
	return ""
}

// command prepares a command; it and what it starts end with ctx.
func (g git) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("git.client: git needs the git command: %w", err)
	}
	settings, env, err := g.settings()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, s := range settings {
		all = append(all, "-c", s)
	}
	cmd := exec.CommandContext(ctx, path, append(all, args...)...)
	cmd.Env = env
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd, nil
}

// passed are the variables that are handed on: where programs are, proxies, and
// the agent of SSH.
var passed = []string{"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"}

// settings gives the configuration and the environment of a command. What is
// secret is in the environment, which other users cannot read.
func (g git) settings() (config, env []string, err error) {
	for _, name := range passed {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	global := g.cfg.ConfigFile
	if global == "" {
		global = os.DevNull
	}
	env = append(env, "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+global, "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=true", "SSH_ASKPASS=true", "GIT_OPTIONAL_LOCKS=0")
	config = []string{"http.followRedirects=false", "protocol.allow=never", "protocol." + g.cfg.scheme() + ".allow=always", "core.hooksPath=" + os.DevNull,
		"core.fsmonitor=false", "gc.autoDetach=false", "maintenance.autoDetach=false", "fetch.recurseSubmodules=false",
		"transfer.bundleURI=false", "http.lowSpeedLimit=100", "http.lowSpeedTime=30"}
	switch g.cfg.scheme() {
	case "ssh":
		if g.cfg.ConfigFile == "" || g.cfg.SSHKey != "" || g.cfg.KnownHosts != "" {
			env = append(env, "GIT_SSH_COMMAND="+g.cfg.sshCommand())
		}
	case "http", "https":
		user, password, err := g.cfg.login()
		if err != nil {
			return nil, nil, err
		}
		if user != "" || password != "" {
			env = append(env, "LOCKTIDE_GIT_USER="+user, "LOCKTIDE_GIT_PASSWORD="+password)
			// Asked for no other host than the address's.
			config = append(config, "credential.helper=", "credential."+g.cfg.server()+".helper="+helper)
		}
	}
	return config, env, nil
}

// helper answers git's question for credentials.
const helper = `!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$LOCKTIDE_GIT_USER" "$LOCKTIDE_GIT_PASSWORD"; }; f`

// scheme gives how the repository is reached, in git's words.
func (c Config) scheme() string {
	scheme, _, isURL := strings.Cut(c.URL, "://")
	colon, slash := strings.Index(c.URL, ":"), strings.Index(c.URL, "/")
	switch {
	case isURL:
		return scheme
	case colon > 0 && (slash < 0 || colon < slash):
		return "ssh"
	}
	return "file"
}

// server gives scheme, host and port of an address over HTTP.
func (c Config) server() string {
	u, err := url.Parse(c.URL)
	if err != nil {
		return c.scheme() + "://"
	}
	return u.Scheme + "://" + u.Host
}

// bareURL gives the address without the credentials that it may carry: command
// lines are for all to read.
func (c Config) bareURL() string {
	u, err := url.Parse(c.URL)
	if err != nil || u.User == nil || !strings.HasPrefix(u.Scheme, "http") {
		return c.URL
	}
	u.User = nil
	return u.String()
}

// sshCommand gives the command for SSH: it asks nothing and trusts known hosts only.
func (c Config) sshCommand() string {
	args := []string{"ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"}
	if c.SSHKey != "" {
		args = append(args, "-i", c.SSHKey, "-o", "IdentitiesOnly=yes")
	}
	if c.KnownHosts != "" {
		args = append(args, "-o", "UserKnownHostsFile="+c.KnownHosts)
	}
	for i, a := range args {
		args[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(args, " ")
}

// limited keeps the beginning of what is written.
type limited struct {
	kept  []byte
	limit int
	cut   bool
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.limit-len(l.kept))
	l.kept = append(l.kept, p[:n]...)
	l.cut = l.cut || n < len(p)
	return len(p), nil
}
