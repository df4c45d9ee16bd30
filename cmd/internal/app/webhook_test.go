package app

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"locktide.dev/reconciler/gitsource"
	"locktide.dev/schema"
)

// A push that the forge tells of is in force long before the next poll.
func TestAPushIsInForceAtOnce(t *testing.T) {
	t.Parallel()
	o := objects{t, t.TempDir()}
	o.git("init", "-q", "--bare", ".")
	release := func(r, parent string) string {
		return o.commit(o.tree("100644 web.yaml\x00"+o.write("blob", "apps: {shop.web: {release: "+r+"}}\n")), parent)
	}
	first := release("v1", "")
	s := serveEvery(t, gitsource.Config{URL: o.dir}, time.Hour)
	inForce := func() string {
		var r schema.Report
		_, body := s.get("/v1/report")
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			return err.Error()
		}
		return r.InForce
	}
	wait := func(commit string) {
		t.Helper()
		for limit := time.Now().Add(20 * time.Second); inForce() != commit; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("%s is not in force, but %s", commit, inForce())
			}
		}
	}
	wait(first)
	second := release("v2", first)
	for token, want := range map[string]int{"guess": http.StatusUnauthorized, "open": http.StatusAccepted} {
		req, err := http.NewRequest("POST", "http://"+s.api+"/v1/webhook", strings.NewReader(`{"ref":"refs/heads/main"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Gitlab-Token", token)
		answer, err := http.DefaultClient.Do(req)
		if err != nil || answer.StatusCode != want {
			t.Fatalf("token %s: %v %v", token, answer, err)
		}
		answer.Body.Close()
	}
	wait(second)
}
