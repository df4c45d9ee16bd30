package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"locktide.dev/reconciler/relations"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

type fleet struct{ asked []schema.Command }

func (f *fleet) Report() *schema.Report {
	return &schema.Report{Owner: "acme", InForce: "c1", Turn: time.Now(), Groups: []schema.GroupReport{{Name: "shop.web/prod.dc1", App: "shop.web", Team: "shop", DC: "dc1", Desired: 3}}}
}
func (f *fleet) Recent() *schema.Report { return f.Report() }
func (f *fleet) Relations() *relations.Index {
	return relations.Of(&schema.Fleet{
		Apps:      map[string]schema.App{"shop.web": {Owner: "shop", Groups: []string{"shop.web/prod.dc1"}}, "shop.api": {Uses: map[string]schema.Use{"shop.web": {}}}},
		Groups:    persistent.Of(map[string]schema.Group{"shop.web/prod.dc1": {App: "shop.web", Stage: "prod", Datacenter: "dc1"}}),
		Routes:    map[string]schema.Route{"web": {Domains: []string{"shop.example"}, To: []schema.Target{{App: "shop.web"}}, Via: schema.StringList{"edge"}}},
		Consul:    map[string]schema.Consul{"vendor": {Keys: map[string]schema.ConsulKey{"vendor/a b": {}}}},
		Teams:     map[string]schema.Team{"metal": {Paths: []string{"metal"}}},
		Positions: map[schema.Ref]schema.Position{"apps/shop.web": {File: "shop.cue", Line: 3}, "consul/vendor": {File: "metal/consul.yaml", Line: 2}},
	}).With(f.Report().Groups)
}
func (f *fleet) Plan() schema.Plan { return schema.Plan{Commit: "c1"} }
func (f *fleet) Explain(ref string) []schema.Reason {
	return []schema.Reason{{Code: schema.WaitBrake, Message: ref}}
}
func (f *fleet) History(time.Time) []schema.HistoryEntry {
	return []schema.HistoryEntry{{What: "one", App: "shop.web", Group: "shop.web/prod.dc1"}, {What: "two", App: "shop.api"},
		{What: "create", App: "consul:vendor", Key: &schema.Key{Kind: "consul.key", Instance: "main", Name: "vendor/a b"}}}
}
func (f *fleet) Changes(_ context.Context, since time.Time) ([]schema.HistoryEntry, []string) {
	return append(f.History(since), schema.HistoryEntry{What: "scaled", Writer: "foreign", App: "shop.web", Group: "shop.web/prod.dc1", Node: "n1"}), []string{"nomad:dc2: away"}
}
func (f *fleet) Trace(_ context.Context, url string, headers map[string]string) (schema.Trace, error) {
	return schema.Trace{URL: url, Route: "routes/shop", Match: headers, At: schema.Position{File: "shop.cue", Line: 7}, Proxies: []schema.TraceProxy{{ProxyReport: schema.ProxyReport{Name: "nginx:edge", At: time.Now()}, State: schema.StateSame}},
		Targets: []schema.TraceTarget{{Group: "shop.web/prod.dc1", Weight: 90, Now: f.Report().Groups[0]}}}, nil
}
func (f *fleet) Diagnose(context.Context) []schema.Diagnosis {
	return []schema.Diagnosis{{Name: "journal", OK: true, Says: "an append is durable after 2ms"}, {Name: "backup", Says: "never exported", Next: "locktide journal export"}}
}
func (f *fleet) Backup(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "{\"format\":1}\n")
	return err
}
func (f *fleet) Do(_ context.Context, c schema.Command) schema.Answer {
	f.asked = append(f.asked, c)
	return schema.Answer{OK: true, Message: "braked"}
}

func newAPI(t *testing.T, readToken bool) (*fleet, http.Handler) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &fleet{}
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return f, Handler(Options{Fleet: f, Metrics: metrics, TokenFile: file, ReadToken: readToken})
}

func request(h http.Handler, method, path, token, body string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

// Every route answers exactly to whom its access level lets in.
func TestAccessTable(t *testing.T) {
	paths := map[string]string{"GET /v1/explain/{ref...}": "/v1/explain/groups/a/b", "GET /v1/groups/{name...}": "/v1/groups/shop.web/prod.dc1",
		"GET /v1/relations/{ref...}": "/v1/relations/apps/shop.web"}
	for _, readToken := range []bool{false, true} {
		_, h := newAPI(t, readToken)
		for _, r := range Routes() {
			method, path, _ := strings.Cut(r.Pattern, " ")
			if p, ok := paths[r.Pattern]; ok {
				path = p
			}
			open := r.Access == Open || r.Access == Read && !readToken
			for token, want := range map[string]bool{"": open, "wrong": open, "s3cret": r.Access != Signed} {
				code := request(h, method, path, token, `{"verb":"sync"}`).Code
				if (code == http.StatusOK) != want || !want && code != http.StatusUnauthorized {
					t.Errorf("%s (%s, tokens for reading: %v) with token %q answered %d", r.Pattern, r.Access, readToken, token, code)
				}
			}
		}
	}
}

func TestWithoutTokenFileNothingIsCommanded(t *testing.T) {
	h := Handler(Options{Fleet: &fleet{}})
	if rec := request(h, "POST", "/v1/commands", "", `{"verb":"sync"}`); rec.Code != http.StatusUnauthorized || !strings.Contains(rec.Body.String(), "token_file") {
		t.Errorf("answered %d %s", rec.Code, rec.Body)
	}
}

func TestCommandCarriesWhereItCameFrom(t *testing.T) {
	f, h := newAPI(t, false)
	rec := request(h, "POST", "/v1/commands", "s3cret", `{"verb":"brake","target":"all","reason":"r","by":"eve","from":"forged"}`)
	if rec.Code != http.StatusOK || len(f.asked) != 1 {
		t.Fatalf("answered %d %s", rec.Code, rec.Body)
	}
	if c := f.asked[0]; c.From != "192.0.2.1" || c.By != "eve" || c.Verb != "brake" {
		t.Errorf("the loop got %+v", c)
	}
}

func TestBadCommandsAreRefused(t *testing.T) {
	f, h := newAPI(t, false)
	for _, body := range []string{"", "{}", `{"verb":"brake","colour":1}`, `{"verb":"` + strings.Repeat("x", maxBody) + `"}`} {
		if rec := request(h, "POST", "/v1/commands", "s3cret", body); rec.Code != http.StatusBadRequest {
			t.Errorf("a body of %d bytes answered %d", len(body), rec.Code)
		}
	}
	if len(f.asked) != 0 {
		t.Errorf("the loop got %v", f.asked)
	}
}

func TestRelations(t *testing.T) {
	_, h := newAPI(t, false)
	for path, want := range map[string]string{
		"apps":                              `["apps/shop.api","apps/shop.web"]`,
		"domains/shop.example?to=groups":    `{"of":"domains/shop.example","to":"groups","via":["routes"],"found":["groups/shop.web/prod.dc1"]}`,
		"groups/shop.web/prod.dc1?to=teams": `{"of":"groups/shop.web/prod.dc1","to":"teams","via":["apps"],"found":["teams/shop"]}`,
		"keys/vendor/a%20b?to=owner":        `{"of":"keys/vendor/a b","to":"owner","found":["teams/metal"]}`,
		"consul":                            `["consul/vendor"]`,
		"apps/shop.web?to=used-by":          `{"of":"apps/shop.web","to":"used-by","found":["apps/shop.api"]}`,
	} {
		if rec := request(h, "GET", "/v1/relations/"+path, "", ""); rec.Code != http.StatusOK || strings.TrimSpace(rec.Body.String()) != want {
			t.Errorf("%s answered %d %s", path, rec.Code, rec.Body)
		}
	}
	for path, want := range map[string]string{"apps/web": "did you mean shop.web?", "apples": "no kind of object", "apps/shop.web?to=apples": "no kind"} {
		if rec := request(h, "GET", "/v1/relations/"+path, "", ""); rec.Code != http.StatusNotFound || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%s answered %d %s", path, rec.Code, rec.Body)
		}
	}
}

func TestHistoryFilters(t *testing.T) {
	_, h := newAPI(t, false)
	for query, want := range map[string]int{"": 3, "?about=consul/vendor": 1, "?about=keys/vendor/a+b": 1, "?team=metal": 1, "?app=shop.web": 1, "?about=shop.web/prod.dc1": 1, "?about=shop.api": 1, "?about=domains/shop.example": 1, "?about=teams/shop": 1, "?host=n": 0} {
		var got []schema.HistoryEntry
		rec := request(h, "GET", "/v1/history"+query, "", "")
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || len(got) != want {
			t.Errorf("%q gave %d entries (%v), want %d", query, len(got), err, want)
		}
	}
	for query, want := range map[string]int{"": 4, "?dc=dc1": 2, "?team=shop": 2, "?team=shop&host=n1": 1, "?about=hosts/n1": 1} {
		var got schema.Timeline
		rec := request(h, "GET", "/v1/changes"+query, "", "")
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || len(got.Entries) != want || len(got.Missing) != 1 {
			t.Errorf("%q gave %+v (%v), want %d", query, got, err, want)
		}
	}
	if rec := request(h, "GET", "/v1/history?about=apps/none", "", ""); rec.Code != http.StatusNotFound || !strings.Contains(rec.Body.String(), "there is no apps/none") {
		t.Errorf("the history of nothing answered %d %s", rec.Code, rec.Body)
	}
	for _, query := range []string{"history?team=shpo", "changes?dc=dc9"} {
		if rec := request(h, "GET", "/v1/"+query, "", ""); rec.Code != http.StatusNotFound || !strings.Contains(rec.Body.String(), "there is no ") {
			t.Errorf("%s answered %d %s", query, rec.Code, rec.Body)
		}
	}
	if rec := request(h, "GET", "/v1/history?since=yesterday", "", ""); rec.Code != http.StatusBadRequest {
		t.Errorf("since=yesterday answered %d", rec.Code)
	}
}

// picture is a fleet with a report of its own.
type picture struct {
	fleet
	report schema.Report
}

func (p *picture) Report() *schema.Report { return &p.report }

func TestReadyIsTrue(t *testing.T) {
	now := time.Now()
	good := schema.Report{Turn: now, InForce: "c1", Backends: []schema.Backend{{Driver: "nomad", Instance: "dc1", ReadAt: now}}}
	for name, c := range map[string]struct {
		change func(*schema.Report)
		ready  bool
	}{
		"well":            {func(*schema.Report) {}, true},
		"not leading":     {func(r *schema.Report) { r.Leading = false }, true},
		"blind":           {func(r *schema.Report) { r.Backends = []schema.Backend{{Error: "away"}} }, true},
		"a broken commit": {func(r *schema.Report) { r.InForce, r.Findings = "", []schema.Finding{{}} }, true},
		"stands":          {func(r *schema.Report) { r.Turn = now.Add(-3 * time.Minute) }, false},
		"no journal":      {func(r *schema.Report) { r.Journal.Error = "disk full" }, false},
		"no commit":       {func(r *schema.Report) { r.InForce = "" }, false},
		"not read":        {func(r *schema.Report) { r.Backends = append(r.Backends, schema.Backend{}) }, false},
	} {
		p := &picture{report: good}
		c.change(&p.report)
		if rec := request(Handler(Options{Fleet: p}), "GET", "/readyz", "", ""); (rec.Code == http.StatusOK) != c.ready {
			t.Errorf("%s: readyz answered %d %s", name, rec.Code, rec.Body)
		}
	}
}

func TestRequestsWithoutTheTokenAreTold(t *testing.T) {
	var told []string
	h := Handler(Options{Fleet: &fleet{}, Denied: func(who, what string) { told = append(told, who+" "+what) }})
	request(h, "POST", "/v1/commands", "wrong", `{"verb":"brake"}`)
	request(h, "GET", "/v1/journal", "", "")
	if len(told) != 2 || told[0] != "192.0.2.1 POST /v1/commands" {
		t.Errorf("told %v", told)
	}
}

func TestEveryPageCarriesWhatStands(t *testing.T) {
	p := &picture{report: schema.Report{Pins: []schema.Pin{{App: "shop.web\r\nX: y"}}}}
	rec := request(Handler(Options{Fleet: p}), "GET", "/v1/report", "", "")
	if got := rec.Header().Values(StandingHeader); len(got) != 1 || !strings.Contains(got[0], `shop.web\r\nX: y`) {
		t.Errorf("header %q", got)
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true, "0.0.0.0:1": false, ":1": false, "10.0.0.1:1": false} {
		if Loopback(addr) != want {
			t.Errorf("Loopback(%s) is %v", addr, !want)
		}
	}
}
