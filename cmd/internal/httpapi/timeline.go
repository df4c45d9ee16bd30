package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"locktide.dev/schema"
)

// history is the journal's own timeline, changes that of all writers. Both
// are filtered by since (RFC 3339), app, group, host, dc, team, and about
// (any of app, group, host or object).
func (a *api) history(w http.ResponseWriter, req *http.Request) {
	if since, ok := a.since(w, req); ok {
		answer(w, selected(a.Fleet.History(since), req.URL.Query(), a.Fleet.Report()))
	}
}

func (a *api) changes(w http.ResponseWriter, req *http.Request) {
	if since, ok := a.since(w, req); ok {
		all, missing := a.Fleet.Changes(req.Context(), since)
		answer(w, schema.Timeline{Entries: selected(all, req.URL.Query(), a.Fleet.Report()), Missing: missing})
	}
}

func (a *api) since(w http.ResponseWriter, req *http.Request) (time.Time, bool) {
	text := req.URL.Query().Get("since")
	if text == "" {
		return a.Now().Add(-24 * time.Hour), true
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		fail(w, http.StatusBadRequest, schema.Failure{Kind: schema.FailInvalid,
			Message: fmt.Sprintf("since: %q is not a time", text), Next: "write for example 2026-01-31T12:00:00Z"})
	}
	return t, err == nil
}

// selected keeps the entries that all filters of the query let through. An
// entry of an app alone counts for every team and datacenter of its groups.
func selected(all []schema.HistoryEntry, q url.Values, r *schema.Report) []schema.HistoryEntry {
	teams, centers := map[string]map[string]bool{}, map[string]map[string]bool{}
	put := func(m map[string]map[string]bool, name, value string) {
		if m[name] == nil {
			m[name] = map[string]bool{}
		}
		m[name][value] = true
	}
	if r != nil {
		for _, g := range r.Groups {
			for _, name := range []string{g.Name, g.App} {
				put(teams, name, g.Team)
				put(centers, name, g.DC)
			}
		}
	}
	in := func(m map[string]map[string]bool, want string, h schema.HistoryEntry) bool {
		if h.Group != "" {
			return want == "" || m[h.Group][want]
		}
		return want == "" || h.App != "" && m[h.App][want]
	}
	hits := []schema.HistoryEntry{}
	for _, h := range all {
		dc := in(centers, q.Get("dc"), h) || h.Key != nil && h.Key.Instance == q.Get("dc")
		if matches(q.Get("app"), h.App) && matches(q.Get("group"), h.Group) && matches(q.Get("host"), h.Node) &&
			dc && in(teams, q.Get("team"), h) && about(h, q.Get("about")) {
			hits = append(hits, h)
		}
	}
	return hits
}

func matches(want, have string) bool { return want == "" || want == have }

func about(h schema.HistoryEntry, name string) bool {
	if kind, rest, ok := strings.Cut(name, "/"); ok && (kind == "groups" || kind == "apps" || kind == "hosts") {
		name = rest
	}
	return name == "" || name == h.App || name == h.Group || name == h.Node ||
		h.Group != "" && strings.HasPrefix(h.Group, name+"/") || h.Key != nil && h.Key.String() == name
}
