package httpapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	push   = `{"ref":"refs/heads/main","commits":[]}`
	secret = "s3cret of the forge"
)

// hooked is an API that takes webhooks for branch main, and how often it was
// told to fetch.
func hooked(t *testing.T, secret string) (http.Handler, *atomic.Int32) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fetched := &atomic.Int32{}
	return Handler(Options{Fleet: &fleet{}, Webhook: &Webhook{SecretFile: file, URL: "https://git.example/acme/fleet.git", Branch: "main", Fetch: func() { fetched.Add(1) }}}), fetched
}

func sign(body, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

// hook sends a webhook with these headers, "Name: value".
func hook(h http.Handler, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("POST", "/v1/webhook", body)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		req.Header.Set(name, value)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

// A push that is signed as one of the forges signs is fetched.
func TestASignedPushIsFetched(t *testing.T) {
	for name, headers := range map[string][]string{
		"GitHub":    {"X-Hub-Signature-256: sha256=" + sign(push, secret), "X-GitHub-Event: push", "X-Hub-Signature: sha1=00"},
		"Gitea":     {"X-Gitea-Signature: " + sign(push, secret), "X-Gitea-Event: push"},
		"Bitbucket": {"X-Hub-Signature: sha256=" + sign(push, secret)},
		"GitLab":    {"X-Gitlab-Token: " + secret, "X-Gitlab-Event: Push Hook"},
	} {
		h, fetched := hooked(t, secret)
		if rec := hook(h, strings.NewReader(push), headers...); rec.Code != http.StatusAccepted || fetched.Load() != 1 {
			t.Errorf("%s: answered %d %s, fetched %d times", name, rec.Code, rec.Body, fetched.Load())
		}
	}
}

// A push to another repository of the same forge fetches nothing, and says why.
func TestAPushToAnotherRepositoryIsNotFetched(t *testing.T) {
	for _, c := range []struct {
		body  string
		fetch int32
	}{
		{`{"ref":"refs/heads/main","repository":{"full_name":"acme/fleet"}}`, 1},
		{`{"ref":"refs/heads/main","repository":{"full_name":"Acme/Fleet"}}`, 1},
		{`{"ref":"refs/heads/main","repository":{"name":"fleet"},"project":{"path_with_namespace":"acme/fleet"}}`, 1},
		{`{"ref":"refs/heads/main","repository":{"full_name":"acme/other"}}`, 0},
		{`{"ref":"refs/heads/main","repository":{"full_name":"mallory/fleet"}}`, 0},
		{`{"ref":"refs/heads/main","project":{"path_with_namespace":"acme/sub/fleet"}}`, 0},
	} {
		h, fetched := hooked(t, secret)
		rec := hook(h, strings.NewReader(c.body), "X-Gitlab-Token: "+secret)
		if rec.Code != http.StatusAccepted || fetched.Load() != c.fetch || (c.fetch == 0) != strings.Contains(rec.Body.String(), "git.url of the daemon's configuration is another one") {
			t.Errorf("%s: answered %d %s, fetched %d times", c.body, rec.Code, rec.Body, fetched.Load())
		}
	}
	for address, same := range map[string]bool{"git@git.example:acme/fleet.git": true, "ssh://git@git.example:22/acme/fleet": true, "https://git.example/forge/acme/fleet/": true,
		"/srv/fleet.git": true, "file:///srv/fleet": true, "git@git.example:acme/fleet2.git": false, "https://git.example/xacme/fleet": false, "https://git.example/fleet": false} {
		if sameRepository(address, "acme/fleet") != same {
			t.Errorf("%s is that of acme/fleet: want %t", address, same)
		}
	}
}

// Whatever else comes as a webhook fetches nothing, and is told no secret.
func TestHostileWebhooks(t *testing.T) {
	signed := func(body string) string { return "X-Hub-Signature-256: sha256=" + sign(body, secret) }
	for name, c := range map[string]struct {
		body    string
		headers []string
		code    int
	}{
		"no body":                  {"", []string{signed("")}, 400},
		"no signature":             {push, nil, 401},
		"a forged signature":       {push, []string{"X-Hub-Signature-256: sha256=" + sign(push, "guess")}, 401},
		"an empty signature":       {push, []string{"X-Hub-Signature-256: sha256="}, 401},
		"half a signature":         {push, []string{signed(push)[:60]}, 401},
		"a signature of another":   {push + " ", []string{signed(push)}, 401},
		"signed with nothing":      {push, []string{"X-Hub-Signature-256: sha256=" + sign(push, "")}, 401},
		"a wrong token":            {push, []string{"X-Gitlab-Token: guess"}, 401},
		"the API's way":            {push, []string{"Authorization: Bearer " + secret}, 401},
		"a wrong content type":     {push, []string{signed(push), "Content-Type: text/plain"}, 415},
		"a form":                   {push, []string{signed(push), "Content-Type: application/x-www-form-urlencoded"}, 415},
		"no JSON":                  {"ref=refs/heads/main", []string{signed("ref=refs/heads/main")}, 400},
		"another kind of JSON":     {`[1]`, []string{signed(`[1]`)}, 400},
		"a ref that is no text":    {`{"ref":{}}`, []string{signed(`{"ref":{}}`)}, 400},
		"no ref":                   {`{}`, []string{signed(`{}`)}, 202},
		"an unknown ref":           {`{"ref":"refs/heads/other"}`, []string{signed(`{"ref":"refs/heads/other"}`)}, 202},
		"a tag":                    {`{"ref":"refs/tags/main"}`, []string{signed(`{"ref":"refs/tags/main"}`)}, 202},
		"a branch is deleted":      {push, []string{signed(push), "X-GitHub-Event: delete"}, 202},
		"a pull request of a fork": {push, []string{signed(push), "X-GitHub-Event: pull_request"}, 202},
		"somebody's comment":       {push, []string{signed(push), "X-Gitea-Event: issue_comment"}, 202},
	} {
		t.Run(name, func(t *testing.T) {
			h, fetched := hooked(t, secret)
			rec := hook(h, strings.NewReader(c.body), c.headers...)
			if rec.Code != c.code || fetched.Load() != 0 {
				t.Errorf("answered %d %s, fetched %d times", rec.Code, rec.Body, fetched.Load())
			}
			if strings.Contains(rec.Body.String(), secret) || strings.Contains(rec.Body.String(), sign(push, secret)) {
				t.Errorf("told the secret: %s", rec.Body)
			}
		})
	}
}

// Without a secret nobody is let in, whoever sends none.
func TestWithoutASecretNoWebhookIsTaken(t *testing.T) {
	h, fetched := hooked(t, "")
	for _, header := range []string{"X-Gitlab-Token: ", "X-Hub-Signature-256: sha256=" + sign(push, "")} {
		if rec := hook(h, strings.NewReader(push), header); rec.Code != http.StatusUnauthorized || !strings.Contains(rec.Body.String(), "webhook_secret_file") {
			t.Errorf("%s answered %d %s", header, rec.Code, rec.Body)
		}
	}
	none := Handler(Options{Fleet: &fleet{}})
	if rec := hook(none, strings.NewReader(push)); rec.Code != http.StatusUnauthorized || fetched.Load() != 0 {
		t.Errorf("answered %d, fetched %d times", rec.Code, fetched.Load())
	}
}

// A flood of pushes, or one that is sent again and again, is a fetch now and
// one more when it is over.
func TestAFloodOfWebhooksIsTwoFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, fetched := hooked(t, secret)
		flood := func(n int) {
			for range n {
				if rec := hook(h, strings.NewReader(push), "X-Gitlab-Token: "+secret); rec.Code != http.StatusAccepted {
					t.Fatalf("answered %d", rec.Code)
				}
			}
		}
		flood(1000)
		if n := fetched.Load(); n != 1 {
			t.Errorf("%d fetches at once", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := fetched.Load(); n != 2 {
			t.Errorf("%d fetches after a flood", n)
		}
		flood(1)
		if n := fetched.Load(); n != 3 {
			t.Errorf("%d fetches: a push after it waits", n)
		}
	})
}

// A body without end is refused after its first part; slow ones take a few
// places, and the daemon answers everybody else.
func TestWebhooksWithoutEnd(t *testing.T) {
	h, fetched := hooked(t, secret)
	body := &endless{}
	if rec := hook(h, body); rec.Code != http.StatusRequestEntityTooLarge || body.taken.Load() > 4<<20 {
		t.Errorf("answered %d after %d bytes", rec.Code, body.taken.Load())
	}
	var ends []*io.PipeWriter
	done := make(chan int, hooksAtOnce)
	for range hooksAtOnce {
		slow, end := io.Pipe()
		ends = append(ends, end)
		go func() { done <- hook(h, slow).Code }()
		if _, err := end.Write([]byte("{")); err != nil { // it is being read
			t.Fatal(err)
		}
	}
	rec := hook(h, strings.NewReader(push), "X-Gitlab-Token: "+secret)
	if rec.Code != http.StatusTooManyRequests || rec.Header().Get("Retry-After") == "" {
		t.Errorf("one more answered %d", rec.Code)
	}
	if code := request(h, "GET", "/healthz", "", "").Code; code != http.StatusOK {
		t.Errorf("health meanwhile answered %d", code)
	}
	for _, end := range ends {
		end.CloseWithError(errors.New("gone"))
		if code := <-done; code != http.StatusBadRequest {
			t.Errorf("a body that broke off answered %d", code)
		}
	}
	if rec := hook(h, strings.NewReader(push), "X-Gitlab-Token: "+secret); rec.Code != http.StatusAccepted || fetched.Load() != 1 {
		t.Errorf("after them answered %d, fetched %d times", rec.Code, fetched.Load())
	}
}

// The server gives a slow client up.
func TestServerGivesSlowBodiesUp(t *testing.T) {
	if s := New(Options{Fleet: &fleet{}}); s.ReadTimeout <= 0 || s.ReadTimeout > time.Minute || s.ReadHeaderTimeout <= 0 {
		t.Errorf("it waits %s for a body and %s for its head", s.ReadTimeout, s.ReadHeaderTimeout)
	}
}
