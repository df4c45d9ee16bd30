package httpapi

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// endless gives bytes for ever, and counts those that were taken.
type endless struct{ taken atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.taken.Add(int64(len(p)))
	return copy(p, bytes.Repeat([]byte("x"), len(p))), nil
}

// A body without end is refused after its first part, and the daemon answers on.
func TestABodyWithoutEnd(t *testing.T) {
	f, h := newAPI(t, false)
	server := httptest.NewServer(h)
	defer server.Close()
	body := &endless{}
	req, err := http.NewRequest("POST", server.URL+"/v1/commands", io.MultiReader(strings.NewReader(`{"verb":"`), body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer s3cret")
	if answer, err := http.DefaultClient.Do(req); err == nil { // else the server hung up first
		answer.Body.Close()
		if answer.StatusCode != http.StatusBadRequest {
			t.Errorf("answered %d", answer.StatusCode)
		}
	}
	if n := body.taken.Load(); n > 64<<20 || len(f.asked) != 0 {
		t.Errorf("%d bytes were taken, the loop got %v", n, f.asked)
	}
	answer, err := http.Get(server.URL + "/healthz")
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("health after it: %v", err)
	}
	answer.Body.Close()
}
