package app

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"locktide.dev/cmd/internal/config"
)

// A server that denies what its token may not, and whose clock is off.
func TestProbeTellsVersionClockAndMissingRights(t *testing.T) {
	var wrote []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat))
		if r.Header.Get("X-Nomad-Token") != "secret" {
			t.Errorf("%s without the token", r.URL)
		}
		switch {
		case strings.HasPrefix(r.URL.Path, "/v1/agent/self"):
			w.Write([]byte(`{"config":{"Version":{"Version":"1.9.0"}}}`)) //nolint:errcheck // a test's server
		case strings.HasSuffix(r.URL.Path, "/plan"):
			http.Error(w, "Permission denied", http.StatusForbidden)
		case strings.HasPrefix(r.URL.Path, "/v1/node/"):
			http.Error(w, "Permission denied", http.StatusForbidden)
		case strings.HasPrefix(r.URL.Path, "/v1/var/") && r.URL.Query().Get("cas") != never:
			wrote = append(wrote, r.URL.String())
		}
	}))
	defer server.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := newProbe("nomad dc1", server.URL, "X-Nomad-Token", token, config.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	got := p.checks(t.Context(), "1.11.3", nomadVersion, nomadRights("acme", "default", true))
	if len(got) != 3 || len(wrote) > 0 {
		t.Fatalf("%+v, wrote %v", got, wrote)
	}
	for i, want := range []struct {
		ok   bool
		says string
	}{{true, "version 1.9.0, tested with 1.11.3"}, {false, "differs from ours by"}, {false, "rollouts, repair, adopt, fields of drift needs submit-job"}} {
		if got[i].OK != want.ok || !strings.Contains(got[i].Says, want.says) {
			t.Errorf("%+v, want %+v", got[i], want)
		}
	}
	if strings.Contains(got[2].Says, "drain") {
		t.Errorf("what is optional counts as lacking: %s", got[2].Says)
	}
	server.Close()
	if got := p.checks(t.Context(), "1", nomadVersion, nil); len(got) != 1 || got[0].OK {
		t.Errorf("a dead server: %+v", got)
	}
}

func TestKernelAddresses(t *testing.T) {
	for text, want := range map[string]string{"0100007F:1226": "127.0.0.1:4646", "00000000000000000000000001000000:0050": "[::1]:80", "junk": ""} {
		if got := addressOf(text); got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
}
