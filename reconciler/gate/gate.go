// Package gate answers questions about a release: it asks members, Consul's
// verdict, Prometheus and access logs, within bounded time and bytes, and
// gives a Judgment with its figures. It decides nothing else: what a judgment
// means for a rollout is the rollout's business. What cannot be asked, or is
// too little, is never a pass. The statistics are in package sequential.
package gate

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"locktide.dev/reconciler/gate/accesslog"
	"locktide.dev/schema"
)

// Log is where traffic is counted; *accesslog.Reader is one.
type Log interface {
	Window(ctx context.Context, since, until time.Time, fresh, old []string) ([]accesslog.Second, error)
	Recent(ctx context.Context, now time.Time, addrs []string, n int) ([]string, error)
}

// Config says where data comes from.
type Config struct {
	Prometheus []Prometheus
	Log        Log // nil: none is configured
}

// Ask is a question with what is known of those that it is about.
type Ask struct {
	Question   schema.Question
	App        string
	Datacenter string
	Members    []schema.Member // of the question's, those that are known
	Baseline   []schema.Member
	ReadAt     time.Time // of the members
	At         time.Time // when it is asked: no data from later counts
}

// Evaluator answers. It is safe for concurrent use.
type Evaluator struct {
	config Config
	plain  *http.Client // HTTP/1.1 and Prometheus
	h2     *http.Client // gRPC: HTTP/2 without TLS
}

// New gives an evaluator; it opens nothing before it is asked.
func New(c Config) *Evaluator {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	dial := (&net.Dialer{}).DialContext
	h2 := &http.Transport{DialContext: dial, Protocols: new(http.Protocols), DisableCompression: true, IdleConnTimeout: time.Second}
	h2.Protocols.SetUnencryptedHTTP2(true)
	return &Evaluator{config: c,
		plain: &http.Client{CheckRedirect: stay, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10}},
		h2:    &http.Client{CheckRedirect: stay, Transport: h2}}
}

// Defaults of a gate.
const (
	defaultTimeout     = 2 * time.Second
	defaultMinRequests = 100
	defaultQuantile    = 99 // percent
	defaultAlpha       = 1  // percent
)

// Judge answers a question. It never fails and never outlives ctx by much: what
// could not be found out is GateUnknown.
func (e *Evaluator) Judge(ctx context.Context, a Ask) schema.Judgment {
	q := a.Question
	j := schema.Judgment{Result: schema.GateUnknown, Why: "it was not asked"}
	switch missing := a.missing(); {
	case len(q.Members) == 0 && q.Gate.Kind != schema.GatePeak:
		j.Why = "there are no members to ask"
	case missing != "":
		j.Why = fmt.Sprintf("member %s is not known (any more)", missing)
	default:
		j = e.ask(ctx, a)
	}
	j.Question, j.Name, j.Group, j.At = q.ID, q.Name, q.Group, a.At
	return j
}

func (e *Evaluator) ask(ctx context.Context, a Ask) schema.Judgment {
	switch a.Question.Gate.Kind {
	case schema.GateHTTP, schema.GateTCP, schema.GateGRPC:
		return e.probe(ctx, a)
	case schema.GateConsul, schema.GateScript:
		return checks(a)
	case schema.GatePrometheus, schema.GatePeak:
		return e.prometheus(ctx, a)
	case schema.GateAccessLog, schema.GateCompare:
		return e.traffic(ctx, a)
	case schema.GateDiff:
		return e.diff(ctx, a)
	}
	return schema.Judgment{Result: schema.GateUnknown, Why: fmt.Sprintf("this version knows no gate of kind %q", a.Question.Gate.Kind), Next: "upgrade Locktide, or use another kind"}
}

// missing gives a member of the question that is not known, or "".
func (a Ask) missing() string {
	known := map[string]bool{}
	for _, m := range slices.Concat(a.Members, a.Baseline) {
		known[m.ID] = true
	}
	for _, id := range slices.Concat(a.Question.Members, a.Question.Baseline) {
		if !known[id] {
			return id
		}
	}
	return ""
}

// endpoint gives a member's host:port for a port label ("": its only one, or http).
func endpoint(m schema.Member, label string) (string, error) {
	port, ok := m.Ports[label]
	switch {
	case label != "":
	case len(m.Ports) == 1:
		for _, p := range m.Ports {
			port, ok = p, true
		}
	default:
		port, ok = m.Ports["http"]
	}
	if !ok || m.Address == "" {
		return "", fmt.Errorf("member %s has no known address with port %s (it has %s)", m.ID, cmp.Or(label, "http"), strings.Join(slices.Sorted(maps.Keys(m.Ports)), ", "))
	}
	return net.JoinHostPort(m.Address, strconv.Itoa(port)), nil
}

func endpoints(ms []schema.Member, label string) ([]string, error) {
	var out []string
	for _, m := range ms {
		addr, err := endpoint(m, label)
		if err != nil {
			return nil, err
		}
		out = append(out, addr)
	}
	return out, nil
}

func unknown(next, format string, args ...any) schema.Judgment {
	return schema.Judgment{Result: schema.GateUnknown, Why: fmt.Sprintf(format, args...), Next: next}
}

// checks gives the verdict of Consul's checks, scripts among them: they run
// inside the allocation, and all that is read here is what they said.
func checks(a Ask) schema.Judgment {
	j := schema.Judgment{Result: schema.GatePass, From: a.Question.Since, To: a.ReadAt, Threshold: "all members pass", Why: "all Consul checks pass"}
	if a.ReadAt.Before(a.Question.Since) {
		return unknown("", "the members were last read before the question's time")
	}
	passing := 0
	for _, m := range a.Members {
		switch {
		case m.Failed || m.Restarts > 0:
			j.Result, j.Why = schema.GateFail, fmt.Sprintf("member %s restarted or died: %s", m.ID, cmp.Or(m.Why, "no reason told"))
		case m.Passing == nil && j.Result == schema.GatePass:
			j.Result, j.Why = schema.GateUnknown, fmt.Sprintf("member %s has no Consul checks yet", m.ID)
		case m.Passing != nil && !*m.Passing && j.Result != schema.GateFail:
			j.Result, j.Why = schema.GateFail, fmt.Sprintf("member %s does not pass its Consul checks", m.ID)
		case m.Passing != nil && *m.Passing:
			passing++
		}
	}
	j.Sample, j.Figures = len(a.Members), map[string]float64{"passing": float64(passing)}
	return j
}
