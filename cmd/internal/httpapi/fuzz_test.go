package httpapi

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// Whatever stands in the body of a command, one that is not refused has a verb,
// and nobody but the token says who asked.
func FuzzCommand(f *testing.F) {
	file := filepath.Join(f.TempDir(), "token")
	if err := os.WriteFile(file, []byte("t"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"verb": "hold", "target": "host:n1", "by": "eve", "proven": true}`))
	f.Add([]byte(`{"verb": "scale", "count": 1e400}`))
	f.Add([]byte(`[{"verb": ""}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		asked := &fleet{}
		req := httptest.NewRequest(http.MethodPost, "/v1/commands", bytes.NewReader(body))
		req.Header.Set("Authorization", "Bearer t")
		rec := httptest.NewRecorder()
		Handler(Options{Fleet: asked, TokenFile: file}).ServeHTTP(rec, req)
		switch {
		case rec.Code == http.StatusOK && (len(asked.asked) != 1 || asked.asked[0].Verb == "" || asked.asked[0].By == "" || asked.asked[0].Proven):
			t.Errorf("%q came to %+v", body, asked.asked)
		case rec.Code != http.StatusOK && (rec.Code != http.StatusBadRequest || len(asked.asked) > 0):
			t.Errorf("status %d, %+v", rec.Code, asked.asked)
		}
	})
}

// Whatever a push says, only one of the branch that is followed fetches.
func FuzzWebhook(f *testing.F) {
	file := filepath.Join(f.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(push))
	f.Add([]byte(`{"ref": 7}`))
	f.Add([]byte(`{"ref": "refs/heads/other"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		fetched := 0
		h := Handler(Options{Fleet: &fleet{}, Webhook: &Webhook{SecretFile: file, Branch: "main", Fetch: func() { fetched++ }}})
		rec := hook(h, bytes.NewReader(body), "X-Hub-Signature-256: sha256="+sign(string(body), secret), "X-GitHub-Event: push")
		if fetched > 0 && !bytes.Contains(body, []byte("main")) && !bytes.Contains(body, []byte(`\u`)) {
			t.Errorf("%q fetched", body)
		}
		if rec.Code >= http.StatusInternalServerError {
			t.Errorf("status %d", rec.Code)
		}
	})
}
