package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"locktide.dev/reconciler/relations"
	"locktide.dev/schema"
)

// history is the journal's own timeline, changes that of all writers. Both
// are filtered by since (RFC 3339), app, group, host, dc, team, and about: an
// object of any kind with what is related to it, or a managed object's key.
func (a *api) history(w http.ResponseWriter, req *http.Request) {
	since, ok := a.since(w, req)
	if !ok || !a.scoped(w, req) {
		return
	}
	if all, ok := a.about(w, req, a.Fleet.History(since)); ok {
		answer(w, a.selected(all, req.URL.Query(), a.Fleet.Recent))
	}
}

func (a *api) changes(w http.ResponseWriter, req *http.Request) {
	since, ok := a.since(w, req)
	if !ok || !a.scoped(w, req) {
		return
	}
	all, missing := a.Fleet.Changes(req.Context(), since)
	if all, ok = a.about(w, req, all); ok {
		answer(w, schema.Timeline{Entries: a.selected(all, req.URL.Query(), a.Fleet.Report), Missing: missing})
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

// scoped refuses a team or datacenter that is not known: an empty timeline would
// say that nothing happened there. Apps, groups and hosts may be gone by now.
func (a *api) scoped(w http.ResponseWriter, req *http.Request) bool {
	for filter, kind := range map[string]string{"team": relations.Teams, "dc": relations.Datacenters} {
		name := req.URL.Query().Get(filter)
		if name == "" {
			continue
		}
		if _, err := a.Fleet.Relations().Overview(schema.NewRef(kind, name)); err != nil {
			unknown(w, err)
			return false
		}
	}
	return true
}

// selected keeps the entries that all filters of the query let through. An
// entry of an app alone counts for every team and datacenter of its groups.
func (a *api) selected(all []schema.HistoryEntry, q url.Values, report func() *schema.Report) []schema.HistoryEntry {
	teams, centers := map[string]map[string]bool{}, map[string]map[string]bool{}
	put := func(m map[string]map[string]bool, name, value string) {
		if m[name] == nil {
			m[name] = map[string]bool{}
		}
		m[name][value] = true
	}
	if q.Get("team") != "" || q.Get("dc") != "" {
		for _, g := range report().Groups {
			for _, name := range []string{g.Name, g.App} {
				put(teams, name, g.Team)
				put(centers, name, g.DC)
			}
		}
	}
	if team := q.Get("team"); team != "" {
		theirs, _ := a.Fleet.Relations().Related(schema.NewRef(relations.Teams, team), relations.Consul) // of an unknown team: none
		for _, ref := range theirs.Found {
			_, name := ref.Split()
			put(teams, schema.ConsulPartition(name), team)
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
			dc && in(teams, q.Get("team"), h) {
			hits = append(hits, h)
		}
	}
	return hits
}

func matches(want, have string) bool { return want == "" || want == have }

// about keeps the entries about the object that the query names. What is no
// longer defined is looked for by its name alone.
func (a *api) about(w http.ResponseWriter, req *http.Request, all []schema.HistoryEntry) ([]schema.HistoryEntry, bool) {
	name := req.URL.Query().Get("about")
	if name == "" {
		return all, true
	}
	related, err := a.Fleet.Relations().History(all, schema.Ref(name))
	if err == nil {
		return related, true
	}
	hits := slices.DeleteFunc(slices.Clone(all), func(h schema.HistoryEntry) bool { return !names(h, name) })
	if _, bad := schema.ParseKey(name); len(hits) == 0 && bad != nil {
		unknown(w, err)
		return nil, false
	}
	return hits, true
}

// names says whether an entry names an object.
func names(h schema.HistoryEntry, name string) bool {
	if kind, rest, ok := strings.Cut(name, "/"); ok && (kind == "groups" || kind == "apps" || kind == "hosts") {
		name = rest
	} else if kind == relations.Consul {
		name = schema.ConsulPartition(rest)
	}
	return name == h.App || name == h.Group || name == h.Node ||
		h.Group != "" && strings.HasPrefix(h.Group, name+"/") || h.Key != nil && h.Key.String() == name
}
