package httpapi

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A token of one's own says who commands; the shared one says nothing, and
// what the client says of itself proves nothing.
func TestATokenSaysWhoItIs(t *testing.T) {
	dir := t.TempDir()
	file := func(name, token string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f := &fleet{}
	h := Handler(Options{Fleet: f, TokenFile: file("shared", "shared"), ReadToken: true, People: []Person{
		{Name: "ann", Roles: []string{"lead"}, Emails: []string{"a@b"}, Teams: []string{"cart"}, TokenFile: file("ann", "a\n")}, {Name: "bob", TokenFile: file("bob", "\n")}, {Name: "cid", TokenFile: dir + "/none"}}})
	const body = `{"verb":"approve","target":"1","by":"eve@laptop"}`
	for token, want := range map[string]struct {
		code   int
		by     string
		proven bool
		roles  []string
	}{"a": {200, "ann", true, []string{"lead"}}, "shared": {200, "eve@laptop", false, nil}, "": {code: 401}, "b": {code: 401}, "\n": {code: 401}} {
		f.asked = nil
		if code := request(h, "POST", "/v1/commands", token, body).Code; code != want.code {
			t.Errorf("token %q answered %d", token, code)
		}
		if want.code != http.StatusOK {
			if len(f.asked) > 0 {
				t.Errorf("token %q reached the loop", token)
			}
			continue
		}
		if c := f.asked[0]; c.By != want.by || c.Proven != want.proven || !slices.Equal(c.Roles, want.roles) ||
			(len(c.Emails) == 1 && len(c.Teams) == 1) != want.proven {
			t.Errorf("token %q: the loop got %+v", token, c)
		}
	}
	if code := request(h, "GET", "/v1/report", "a", "").Code; code != http.StatusOK {
		t.Errorf("reading with a token of one's own answered %d", code)
	}
	for _, forged := range []string{`{"verb":"approve","proven":true}`, `{"verb":"approve","Proven":true}`, `{"verb":"approve","roles":["lead"]}`, `{"verb":"approve","teams":[]}`, `{"verb":"approve","emails":[]}`} {
		if code := request(h, "POST", "/v1/commands", "shared", forged).Code; code != http.StatusBadRequest {
			t.Errorf("%s answered %d", forged, code)
		}
	}
}
