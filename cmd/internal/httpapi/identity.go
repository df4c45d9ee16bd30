package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"os"
	"strings"

	"locktide.dev/schema"
)

// Person is somebody with a token of their own.
type Person struct {
	Name      string
	Roles     []string // as stages name them in approve
	Emails    []string // of their commits
	Teams     []string // whose objects alone they may command; none: all
	TokenFile string   // read at each request that needs a token
}

// person is the key under which a request's context has its *Person.
type person struct{}

// allowed checks the token where the level needs one, and gives whose it is;
// nil: nobody's in particular.
func (a *api) allowed(level Access, req *http.Request) (*Person, *schema.Failure) {
	if level == Open || level == Signed || level == Read && !a.ReadToken { // what is signed is checked with its body
		return nil, nil
	}
	got, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	for i := range a.People {
		if holds(a.People[i].TokenFile, got) {
			return &a.People[i], nil
		}
	}
	if holds(a.TokenFile, got) {
		return nil, nil
	}
	if token(a.TokenFile) == "" && len(a.People) == 0 {
		return nil, &schema.Failure{Kind: schema.FailDenied, Message: "the daemon has no token, so nothing may be commanded",
			Next: "set token_file in its configuration to a file of mode 0600 that holds a random word"}
	}
	return nil, &schema.Failure{Kind: schema.FailDenied, Message: "the API token is missing or wrong",
		Next: "name the daemon's token file, or your own, with --token-file"}
}

// token gives what a file holds; "": none.
func token(file string) string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// holds says whether a file holds a token. Equal time for every wrong one:
// both sides are hashed before they are compared.
func holds(file, got string) bool {
	if file == "" {
		return false
	}
	want := token(file)
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(got))
	return want != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
