package devstack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// api is the HTTP API of one server, as far as starting it needs.
type api struct {
	client  *http.Client
	address string
	header  string // X-Consul-Token or X-Nomad-Token
	token   string // may be empty
}

// call sends in as JSON, unless nil, and decodes the answer into out, unless nil.
func (a api) call(ctx context.Context, method, path string, in, out any) error {
	// A server that accepts and never answers must not use up the whole start.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, a.address+path, &body)
	if err != nil {
		return err
	}
	if a.token != "" {
		req.Header.Set(a.header, a.token)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}
