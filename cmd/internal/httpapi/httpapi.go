// Package httpapi serves the daemon's API: the same Report that the command
// line prints, and the operator's commands. Routes are one table with the
// access level of each; nothing is reachable that is not in it.
package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"locktide.dev/reconciler/relations"
	"locktide.dev/schema"
)

// Fleet is what the API shows and commands.
type Fleet interface {
	Report() *schema.Report // as of now
	Recent() *schema.Report // never waits for a busy loop, unless what it has is old
	Plan() schema.Plan
	Explain(ref string) []schema.Reason
	Relations() *relations.Index
	History(since time.Time) []schema.HistoryEntry
	Changes(ctx context.Context, since time.Time) ([]schema.HistoryEntry, []string)
	Trace(ctx context.Context, url string, headers map[string]string) (schema.Trace, error)
	Diagnose(ctx context.Context) []schema.Diagnosis
	Backup(ctx context.Context, w io.Writer) error
	Do(ctx context.Context, c schema.Command) schema.Answer
}

// Access is who may use a route.
type Access string

// Access levels. Open tells no more than whether the daemon lives; Read shows
// the report, secrets masked, to whoever reaches the listener; Write needs
// the token; Signed needs a body that is signed with a forge's secret.
const (
	Open   Access = "open"
	Read   Access = "read"
	Write  Access = "write"
	Signed Access = "signed"
)

// Limits of requests.
const (
	maxBody     = 64 << 10
	readTimeout = 10 * time.Second
	// An answer may wait for the loop's turn and be large.
	writeTimeout = time.Minute
)

// Options of the server.
type Options struct {
	Fleet   Fleet
	Metrics http.Handler
	// TokenFile holds the token of write routes and is read at each of them;
	// "" refuses them all.
	TokenFile string
	// People have tokens of their own, which do all that the one of TokenFile
	// does, and say who it is.
	People []Person
	// ReadToken demands the token for Read routes too: set it when the
	// listener is not on loopback.
	ReadToken bool
	// Doctor checks the daemon's surroundings; nil: the loop alone is checked.
	Doctor func(ctx context.Context) []schema.Diagnosis
	// Webhook takes pushes of a forge; nil: none.
	Webhook *Webhook
	// Denied is told of requests without the token; nil: nobody is.
	Denied func(who, what string)
	Now    func() time.Time
}

// Route is one line of the table.
type Route struct {
	Pattern string // as http.ServeMux has it
	Access  Access
	handle  func(*api, http.ResponseWriter, *http.Request)
	// often: asked so often that nobody may wait for the loop.
	often bool
}

// Routes is the whole table.
func Routes() []Route {
	return []Route{
		{"GET /healthz", Open, (*api).healthz, false},
		{"GET /readyz", Open, (*api).readyz, false},
		{"GET /metrics", Read, (*api).metrics, false},
		{"GET /v1/report", Read, (*api).report, false},
		{"GET /v1/plan", Read, (*api).plan, false},
		{"GET /v1/history", Read, (*api).history, true},
		{"GET /v1/changes", Read, (*api).changes, false},
		{"GET /v1/explain/{ref...}", Read, (*api).explain, false},
		{"GET /v1/groups/{name...}", Read, (*api).group, false},
		{"GET /v1/relations/{ref...}", Read, (*api).relations, true},
		{"GET /v1/trace", Read, (*api).trace, false},
		{"GET /v1/doctor", Read, (*api).doctor, false},
		{"GET /v1/journal", Write, (*api).journal, false},
		{"POST /v1/commands", Write, (*api).command, false},
		{"POST /v1/webhook", Signed, (*api).webhook, false},
	}
}

// StandingHeader carries Report.Standing on every answer that shows the
// fleet, one line each, so that no page is read without it.
const StandingHeader = "Locktide-Standing"

type api struct{ Options }

// New gives the server; it does not listen yet.
func New(o Options) *http.Server {
	return &http.Server{
		Handler:           Handler(o),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
}

// Handler gives the routes with their access checks.
func Handler(o Options) http.Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &api{o}
	if a.Webhook != nil {
		a.Webhook.reading = make(chan struct{}, hooksAtOnce)
	}
	mux := http.NewServeMux()
	for _, r := range Routes() {
		mux.HandleFunc(r.Pattern, func(w http.ResponseWriter, req *http.Request) {
			who, err := a.allowed(r.Access, req)
			if err != nil {
				if a.Denied != nil {
					a.Denied(hostOf(req), req.Method+" "+req.URL.Path)
				}
				w.Header().Set("WWW-Authenticate", "Bearer")
				fail(w, http.StatusUnauthorized, *err)
				return
			}
			if r.Access == Read && r.often {
				a.stand(w, a.Fleet.Recent())
			} else if r.Access == Read {
				a.stand(w, a.Fleet.Report())
			}
			r.handle(a, w, req.WithContext(context.WithValue(req.Context(), person{}, who)))
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		fail(w, http.StatusNotFound, schema.Failure{Kind: schema.FailInvalid,
			Message: fmt.Sprintf("there is no %s %s", req.Method, req.URL.Path), Next: "docs/operating.md lists the API"})
	})
	return mux
}

func (a *api) stand(w http.ResponseWriter, r *schema.Report) {
	if r != nil {
		for _, line := range r.Standing() {
			q := strconv.QuoteToASCII(line) // a reason may hold anything
			w.Header().Add(StandingHeader, q[1:len(q)-1])
		}
	}
}

func (a *api) healthz(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "ok")
}

// readyz says whether the report can be trusted and work can be done: the
// loop turns, every backend was asked once, the journal can be written. A
// daemon that does not lead, or is blind for a backend and says so, is ready.
func (a *api) readyz(w http.ResponseWriter, _ *http.Request) {
	r := a.Fleet.Report()
	why := ""
	switch {
	case r == nil || r.Turn.IsZero() || a.Now().Sub(r.Turn) > 2*time.Minute:
		why = "the loop has not turned in the last 2 minutes"
	case r.Journal.Error != "":
		why = r.Journal.Error
	case r.InForce == "" && r.FetchError == "" && len(r.Findings) == 0:
		why = "no commit was read yet"
	default:
		for _, b := range r.Backends {
			if b.ReadAt.IsZero() && b.Error == "" {
				why = b.Driver + " " + b.Instance + " was not read yet"
			}
		}
	}
	if why != "" {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// doctor checks the daemon and, with its tokens, its surroundings.
func (a *api) doctor(w http.ResponseWriter, req *http.Request) {
	out := a.Fleet.Diagnose(req.Context())
	if a.Doctor != nil {
		out = append(out, a.Doctor(req.Context())...)
	}
	answer(w, out)
}

// journal exports the record while the loop goes on.
func (a *api) journal(w http.ResponseWriter, req *http.Request) {
	var all bytes.Buffer // so that a failure is an error and no torn file
	if err := a.Fleet.Backup(req.Context(), &all); err != nil {
		fail(w, http.StatusServiceUnavailable, schema.Failure{Kind: schema.FailUnavailable, Message: err.Error()})
		return
	}
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(all.Len())) // the client sees whether it is whole
	if _, err := all.WriteTo(w); err != nil {
		return
	}
}

// hostOf is where a request came from; what the client says is no evidence.
func hostOf(req *http.Request) string {
	if host, _, err := net.SplitHostPort(req.RemoteAddr); err == nil {
		return host
	}
	return req.RemoteAddr
}

func (a *api) metrics(w http.ResponseWriter, req *http.Request) { a.Metrics.ServeHTTP(w, req) }

func (a *api) report(w http.ResponseWriter, _ *http.Request) { answer(w, a.Fleet.Report()) }

func (a *api) plan(w http.ResponseWriter, _ *http.Request) { answer(w, a.Fleet.Plan()) }

func (a *api) explain(w http.ResponseWriter, req *http.Request) {
	why := a.Fleet.Explain(req.PathValue("ref"))
	if why == nil {
		why = []schema.Reason{}
	}
	answer(w, why)
}

func (a *api) group(w http.ResponseWriter, req *http.Request) {
	name := req.PathValue("name")
	for _, g := range a.Fleet.Report().Groups {
		if g.Name == name {
			answer(w, g)
			return
		}
	}
	fail(w, http.StatusNotFound, schema.Failure{Kind: schema.FailInvalid, Message: "there is no group " + name, Next: "GET /v1/report lists the groups"})
}

// trace follows a request: url, and header=Name: value, as often as there are.
func (a *api) trace(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	headers := map[string]string{}
	for _, h := range q["header"] {
		name, value, _ := strings.Cut(h, ":")
		headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	t, err := a.Fleet.Trace(req.Context(), q.Get("url"), headers)
	if err != nil {
		fail(w, http.StatusBadRequest, schema.Failure{Kind: schema.FailInvalid, Message: err.Error()})
		return
	}
	answer(w, t)
}

func (a *api) command(w http.ResponseWriter, req *http.Request) {
	var c schema.Command
	dec := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil || c.Verb == "" {
		message := "the command has no verb"
		if err != nil {
			message = "cannot read the command: " + err.Error()
		}
		fail(w, http.StatusBadRequest, schema.Failure{Kind: schema.FailInvalid, Message: message, Next: "use the locktide of the daemon's version"})
		return
	}
	c.From = hostOf(req)
	if who, ok := req.Context().Value(person{}).(*Person); ok && who != nil {
		c.By, c.Roles, c.Emails, c.Teams, c.Proven = who.Name, who.Roles, who.Emails, who.Teams, true
	} else if c.By == "" {
		c.By = "token"
	}
	answer(w, a.Fleet.Do(req.Context(), c))
}

func answer(w http.ResponseWriter, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		fail(w, http.StatusInternalServerError, schema.Failure{Kind: schema.FailInvalid, Message: "cannot encode the answer: " + err.Error()})
		return
	}
	write(w, http.StatusOK, raw)
}

func fail(w http.ResponseWriter, status int, f schema.Failure) {
	raw, err := json.Marshal(f)
	if err != nil {
		raw = []byte(`{"kind":"invalid","message":"internal error"}`)
	}
	write(w, status, raw)
}

func write(w http.ResponseWriter, status int, raw []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprintln(w, string(raw))
}

// Loopback says whether addr can be reached from this machine only.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
