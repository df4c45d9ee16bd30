package reconciler

import (
	"testing"

	"locktide.dev/schema"
)

func TestPullRequest(t *testing.T) {
	for subject, want := range map[string]string{
		"Merge pull request #12 from acme/cart":                  "#12",
		"Merge pull request 'Cart 2.4 (again)' (#7) from x into": "#7",
		"Cart 2.4 (#34)":                   "#34",
		"Cart 2.4 (!34)":                   "!34",
		"Merged in cart (pull request #5)": "#5",
		"Merged PR 99: cart":               "#99",
		"Cart #12":                         "",
		"(#1) cart":                        "",
		"":                                 "",
	} {
		if got := pullRequest(subject, ""); got != want {
			t.Errorf("%q: %q, want %q", subject, got, want)
		}
	}
}

func TestPullRequestInTheBody(t *testing.T) {
	for body, want := range map[string]string{
		"\nCart 2.4\n\nSee merge request acme/cart!34\n":                               "!34",
		"\nReviewed-on: https://git.acme/acme/cart/pulls/7\nReviewed-by: Eve <e@acme>": "#7",
		"\nPR-URL: https://github.com/acme/cart/pull/12\n":                             "#12",
		"\nMerge-request: https://gitlab.acme/acme/cart/-/merge_requests/5":            "!5",
		"\nPull-Request: #9\n":                    "#9",
		"\nCart 2.4 (#34)\n\n* fix a":             "#34",
		"\n* Cart (#34)\n* Cart again (#34)":      "#34",
		"\n* fix a (#12)\n* fix b (#13)":          "",
		"\nFixes #12, see #13":                    "",
		"\nas said in See merge request acme!3 x": "",
		"": "",
	} {
		if got := pullRequest("Merge branch 'cart' into 'main'", body); got != want {
			t.Errorf("%q: %q, want %q", body, got, want)
		}
	}
	if got := pullRequest("Cart 2.4 (#1)", "\n(#2)"); got != "#1" {
		t.Errorf("the subject does not win: %q", got)
	}
}

func TestEveryChangeIsAttributed(t *testing.T) {
	got := attributed([]schema.HistoryEntry{
		{Writer: "locktide", What: "put a commit in force", Commit: "c1", Author: "ada", Pull: "#3"},
		{Writer: "locktide", What: "stage", Commit: "c1"},
		{Writer: "foreign", What: "registered version 3"},
		{Writer: "foreign", What: "registered version 4", Author: "token 17"},
		{Writer: "operator eve", What: "brake"},
	})
	for i, want := range []string{"ada #3", "ada #3", UnknownWriter + " ", "token 17 ", " "} {
		if have := got[i].Author + " " + got[i].Pull; have != want {
			t.Errorf("%s is attributed to %q, want %q", got[i].What, have, want)
		}
	}
}
