package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"locktide.dev/cmd/internal/httpapi"
	"locktide.dev/schema"
)

// DefaultListen is where the daemon's API listens unless it is told otherwise.
const DefaultListen = "127.0.0.1:4656"

const tokenHint = "~/.local/state/locktide/token"

// StateDir is where dev keeps its journal and token: $XDG_STATE_HOME/locktide
// or ~/.local/state/locktide.
func StateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "locktide"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("cannot find the home directory: %w; set XDG_STATE_HOME", err)
	}
	return filepath.Join(home, ".local", "state", "locktide"), nil
}

// client talks to the daemon's API.
type client struct {
	base  string
	token string
	http  *http.Client
	stand func([]string) // shows what stands between Git and what runs
}

func (s *shared) client() (*client, error) {
	base := firstOf(s.api, os.Getenv("LOCKTIDE_API"), "http://"+DefaultListen)
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	c := &client{base: strings.TrimRight(base, "/"), http: &http.Client{Timeout: time.Minute}, stand: s.stand}
	path := firstOf(s.token, os.Getenv("LOCKTIDE_TOKEN_FILE"))
	asked := path != ""
	if !asked {
		dir, err := StateDir()
		if err != nil {
			return c, nil
		}
		path = filepath.Join(dir, "token")
	}
	raw, err := os.ReadFile(path)
	if err != nil && asked {
		return nil, Fail("name a readable file with --token-file", "cannot read the API token: %v", err)
	}
	c.token = strings.TrimSpace(string(raw))
	return c, nil
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// get reads path into out.
func (c *client) get(ctx context.Context, path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.call(ctx, http.MethodGet, path, nil, out)
}

// do sends a command to the daemon.
func (c *client) do(ctx context.Context, cmd schema.Command) (schema.Answer, error) {
	var answer schema.Answer
	cmd.By = operator()
	body, err := json.Marshal(cmd)
	if err != nil {
		return answer, fmt.Errorf("cannot encode the command: %w", err)
	}
	err = c.call(ctx, http.MethodPost, "/v1/commands", body, &answer)
	c.stand(answer.Standing)
	return answer, err
}

// stand prints, once for a command and on top of its output, what stands
// between Git and what runs.
func (s *shared) stand(lines []string) {
	if s.stood {
		return
	}
	for _, l := range lines {
		fmt.Fprintf(s.Err, "%s %s\n", s.paint(yellow, "!!"), l)
		s.stood = true
	}
}

// copy writes what path answers to w, whole or not at all.
func (c *client) copy(ctx context.Context, path string, w io.Writer) error {
	raw, err := c.fetch(ctx, http.MethodGet, path, nil)
	if err == nil {
		_, err = w.Write(raw)
	}
	return err
}

func (c *client) call(ctx context.Context, method, path string, body []byte, out any) error {
	raw, err := c.fetch(ctx, method, path, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return Fail("use a locktide of the daemon's version: `locktide version`", "cannot understand the daemon's answer to %s: %v", path, err)
	}
	return nil
}

func (c *client) fetch(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, Fail("write --api as http://host:port", "cannot use the API address %s: %v", c.base, err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		var dial *url.Error
		if errors.As(err, &dial) {
			err = dial.Err
		}
		return nil, &problem{message: fmt.Sprintf("cannot reach the daemon at %s: %v", c.base, err), away: true,
			next: "start it with `locktide serve` or `locktide dev`, or name it with --api"}
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 256<<20))
	if err != nil {
		return nil, fmt.Errorf("cannot read the daemon's answer to %s %s: %w", method, path, err)
	}
	if res.StatusCode >= 300 {
		var failure schema.Failure
		if json.Unmarshal(raw, &failure) != nil || failure.Message == "" {
			failure.Message = fmt.Sprintf("the daemon answered %s to %s %s", res.Status, method, path)
		}
		return nil, Fail(failure.Next, "%s", failure.Message)
	}
	c.stand(res.Header.Values(httpapi.StandingHeader))
	return raw, nil
}

// report reads the daemon's report.
func (s *shared) report(ctx context.Context) (*client, schema.Report, error) {
	var r schema.Report
	c, err := s.client()
	if err == nil {
		err = c.get(ctx, "/v1/report", nil, &r)
	}
	return c, r, err
}

// operator names the person at the keyboard for the audit.
func operator() string {
	name := os.Getenv("SUDO_USER")
	if u, err := user.Current(); err == nil && name == "" {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}
