package httpapi

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"locktide.dev/schema"
)

// Webhook lets a forge say that there is something to fetch. What it says is a
// hint, never truth: the daemon fetches from where its configuration says.
type Webhook struct {
	SecretFile string // shared with the forge; read at each request. "": none is taken
	URL        string // of the definitions' repository, as Git is given it
	Branch     string // of the definitions
	Fetch      func() // does not block

	mu    sync.Mutex
	last  time.Time // of a fetch
	again bool      // one more is to come

	reading chan struct{} // bounds the bodies in memory
}

// Limits of webhooks.
const (
	maxHook     = 1 << 20         // bytes of a body
	hooksAtOnce = 4               // bodies read at a time
	hookPause   = 2 * time.Second // between two fetches, however many ask
)

// webhook takes a push. It tells nobody anything who does not sign.
func (a *api) webhook(w http.ResponseWriter, req *http.Request) {
	refuse := func(status int, message, next string) {
		if status == http.StatusUnauthorized && a.Denied != nil {
			a.Denied(hostOf(req), req.Method+" "+req.URL.Path)
		}
		fail(w, status, schema.Failure{Kind: schema.FailInvalid, Message: message, Next: next})
	}
	secret := ""
	if a.Webhook != nil {
		secret = token(a.Webhook.SecretFile)
	}
	if secret == "" {
		refuse(http.StatusUnauthorized, "the daemon takes no webhooks", "set git.webhook_secret_file in its configuration to a file of mode 0600 that holds a random word")
		return
	}
	if kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(http.StatusUnsupportedMediaType, "a webhook is JSON", "choose the content type application/json at the forge")
		return
	}
	select {
	case a.Webhook.reading <- struct{}{}:
		defer func() { <-a.Webhook.reading }()
	default:
		w.Header().Set("Retry-After", "1")
		refuse(http.StatusTooManyRequests, "too many webhooks at a time", "nothing: what was pushed is fetched at the next poll all the same")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxHook))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		refuse(http.StatusRequestEntityTooLarge, "the body is larger than 1 MiB", "let the forge send push events only")
		return
	case err != nil:
		refuse(http.StatusBadRequest, "the body could not be read", "")
		return
	case !signed(req.Header, body, secret):
		refuse(http.StatusUnauthorized, "the signature is missing or wrong", "give the forge the secret in the daemon's git.webhook_secret_file")
		return
	}
	var push pushed
	if err := json.Unmarshal(body, &push); err != nil {
		refuse(http.StatusBadRequest, "the body is no JSON of a push", "choose push events at the forge")
		return
	}
	if !isPush(req.Header) || push.Ref != "refs/heads/"+a.Webhook.Branch {
		accept(w, "nothing to fetch: it is no push to "+a.Webhook.Branch)
		return
	}
	if other := push.of(); !sameRepository(a.Webhook.URL, other) {
		accept(w, "nothing to fetch: it is a push to repository "+other+", and git.url of the daemon's configuration is another one")
		return
	}
	a.Webhook.ring()
	accept(w, "fetching")
}

// pushed is what forges tell of one: GitHub, Gitea, Forgejo and Bitbucket name
// its repository, GitLab its project.
type pushed struct {
	Ref        string `json:"ref"`
	Repository struct {
		FullName string `json:"full_name"`
	} `json:"repository"`
	Project struct {
		Path string `json:"path_with_namespace"`
	} `json:"project"`
}

// of gives the path of the repository at its forge; "": the forge tells none.
func (p pushed) of() string { return cmp.Or(p.Project.Path, p.Repository.FullName) }

// sameRepository says whether a path at a forge may be that of a Git address,
// an URL or HOST:PATH: a forge may have other hosts and stand below a folder. A
// path of the daemon's own disk says nothing about a forge.
func sameRepository(address, path string) bool {
	_, below, remote := strings.Cut(address, "://")
	if remote {
		_, below, _ = strings.Cut(below, "/")
	} else {
		_, below, remote = strings.Cut(address, ":")
	}
	if !remote || path == "" || strings.HasPrefix(address, "file:") {
		return true
	}
	below = strings.TrimSuffix(strings.Trim(below, "/"), ".git")
	return strings.HasSuffix("/"+strings.ToLower(below), "/"+strings.ToLower(strings.Trim(path, "/")))
}

func accept(w http.ResponseWriter, message string) {
	raw, err := json.Marshal(map[string]string{"message": message})
	if err != nil {
		raw = []byte("{}")
	}
	write(w, http.StatusAccepted, raw)
}

// isPush says whether a request's headers, as GitHub, GitLab, Gitea and Forgejo
// have them, name no other event.
func isPush(h http.Header) bool {
	for _, name := range []string{"X-GitHub-Event", "X-Gitea-Event", "X-Forgejo-Event", "X-Gitlab-Event"} {
		if event := h.Get(name); event != "" && event != "push" && event != "Push Hook" {
			return false
		}
	}
	return true
}

// signed says whether a body was signed with the secret: by a HMAC (GitHub,
// Gitea, Forgejo, Bitbucket) or, as GitLab has it, by sending the secret itself.
func signed(h http.Header, body []byte, secret string) bool {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	sum := mac.Sum(nil)
	for _, name := range []string{"X-Hub-Signature-256", "X-Hub-Signature", "X-Gitea-Signature", "X-Forgejo-Signature"} {
		got, err := hex.DecodeString(strings.TrimPrefix(h.Get(name), "sha256="))
		if err == nil && len(got) > 0 && hmac.Equal(got, sum) {
			return true
		}
	}
	want, got := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(h.Get("X-Gitlab-Token")))
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// ring fetches, now or when the pause after the last time is over: a replay, or
// a thousand pushes, are one fetch more.
func (h *Webhook) ring() {
	h.mu.Lock()
	defer h.mu.Unlock()
	wait := time.Until(h.last.Add(hookPause))
	switch {
	case h.again:
	case wait > 0:
		h.again = true
		time.AfterFunc(wait, func() {
			h.mu.Lock()
			h.again, h.last = false, time.Now()
			h.mu.Unlock()
			h.Fetch()
		})
	default:
		h.last = time.Now()
		h.Fetch()
	}
}
