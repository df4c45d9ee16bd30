package schema

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// GateKind says what a gate asks.
type GateKind string

// Gate kinds. Probes ask the members themselves and work out of rotation;
// traffic gates judge what users got and need members that serve.
const (
	GateHTTP       GateKind = "http"       // probe: one request, its status, headers and body
	GateTCP        GateKind = "tcp"        // probe: a connection
	GateGRPC       GateKind = "grpc"       // probe: the gRPC health protocol
	GateScript     GateKind = "script"     // probe: a script check of the service, run inside the allocation; the daemon executes nothing
	GateConsul     GateKind = "consul"     // probe: all Consul checks pass
	GateDiff       GateKind = "diff"       // probe: the same requests to old and new members, answers compared
	GatePrometheus GateKind = "prometheus" // traffic: an instant query
	GateAccessLog  GateKind = "accesslog"  // traffic: share of errors and slow answers in the proxies' access logs
	GateCompare    GateKind = "compare"    // traffic: new members against a concurrent baseline, sequentially
	GatePeak       GateKind = "peak"       // of a plan, not of a release: a group's recent peak (Pacing.Peak) against what its members carry
)

// Gate is one check that a release must pass, as defined under rollout.gates.
type Gate struct {
	Kind GateKind `json:"kind"`

	Port    string            `json:"port,omitempty"`    // label; default: the only one, or "http"
	Path    string            `json:"path,omitempty"`    // http: default "/"
	Header  map[string]string `json:"header,omitempty"`  // http, diff: sent along
	Status  int               `json:"status,omitempty"`  // http: default any of 200 to 299
	Body    string            `json:"body,omitempty"`    // http: RE2 that the first 64 KiB must match
	Service string            `json:"service,omitempty"` // grpc: health service; "" the whole server
	Timeout Duration          `json:"timeout,omitempty"` // of one attempt; default 2s
	Grace   Duration          `json:"grace,omitempty"`   // http, tcp, grpc: after a member came up, in which a bad answer does not count

	Query   string   `json:"query,omitempty"`    // prometheus: PromQL that gives one number
	AtMost  *float64 `json:"at_most,omitempty"`  // prometheus: largest number that passes
	AtLeast *float64 `json:"at_least,omitempty"` // prometheus: smallest number that passes

	Errors      *Ratio   `json:"errors,omitempty"`       // accesslog: largest share of 5xx answers
	Latency     Duration `json:"latency,omitempty"`      // accesslog: Quantile of answers is not slower
	Quantile    Ratio    `json:"quantile,omitempty"`     // accesslog, compare: of latency; default 99% for accesslog; compare: without it errors alone are compared
	Alpha       Ratio    `json:"alpha,omitempty"`        // accesslog, compare: rate of false failures; default 1%
	MinRequests int      `json:"min_requests,omitempty"` // accesslog, compare: fewer are too little; default 100

	Requests []string `json:"requests,omitempty"` // diff: "/path?query", sent with GET
	Mirror   int      `json:"mirror,omitempty"`   // diff: that many distinct GET requests of the access log besides
	Ignore   []string `json:"ignore,omitempty"`   // diff: "header:NAME", "body", or JSON paths such as "items.*.id"

	TooLittle string   `json:"too_little,omitempty"` // after BakeLimit with too little data: hold (default: brake), operator (wait for continue)
	BakeLimit Duration `json:"bake_limit,omitempty"` // default 1h
}

// Probe says whether the gate asks members themselves, so that it can be asked
// while they are out of rotation.
func (g Gate) Probe() bool {
	switch g.Kind {
	case GatePrometheus, GateAccessLog, GateCompare:
		return false
	}
	return true
}

// ReadsLog says whether the gate judges what proxies log of each request.
func (g Gate) ReadsLog() bool { return g.Kind == GateAccessLog || g.Kind == GateCompare }

// ReadsChecks says whether the gate judges what is read of members anyway: the
// results of their Consul checks.
func (g Gate) ReadsChecks() bool { return g.Kind == GateConsul || g.Kind == GateScript }

// Compares says whether the gate needs baseline members beside the new ones.
func (g Gate) Compares() bool { return g.Kind == GateCompare || g.Kind == GateDiff }

// Ratio is a share with up to four decimals of a percent: "1%", "0.5%"; it
// counts millionths.
type Ratio int

// Percent gives the ratio of n percent.
func Percent(n int) Ratio { return Ratio(n * 10_000) }

// Float gives the share of one.
func (r Ratio) Float() float64 { return float64(r) / 1e6 }

func (r Ratio) String() string {
	return strconv.FormatFloat(float64(r)/1e4, 'f', -1, 64) + "%"
}

// MarshalText writes for example "0.5%".
func (r Ratio) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads "0%" to "100%".
func (r *Ratio) UnmarshalText(b []byte) error {
	number, percent := strings.CutSuffix(string(b), "%")
	_, decimals, _ := strings.Cut(number, ".")
	v, err := strconv.ParseFloat(number, 64)
	if !percent || err != nil || !(v >= 0 && v <= 100) || len(decimals) > 4 || strings.Trim(number, "0123456789.") != "" {
		return fmt.Errorf("%q is not a ratio: want for example \"1%%\" or \"0.5%%\", at most four decimals", b)
	}
	*r = Ratio(v*1e4 + 0.5)
	return nil
}

// Question asks a gate about members of one release. ID is the digest of all
// that decides the answer, so the same question has the same ID.
type Question struct {
	ID       Digest        `json:"id"`
	Name     string        `json:"name"` // of the gate
	Gate     Gate          `json:"gate"`
	Key      Key           `json:"key"` // object whose members they are
	Group    string        `json:"group"`
	Release  Digest        `json:"release,omitempty"`  // of Members
	Members  []string      `json:"members"`            // ids, sorted
	Baseline []string      `json:"baseline,omitempty"` // ids of the old release, running beside them; sorted
	Since    time.Time     `json:"since"`              // only data from after that counts
	MaxAge   time.Duration `json:"max_age,omitempty"`  // an older answer is asked for again; 0: 10 s
}

// Sealed gives the question with its ID, over all but MaxAge.
func (q Question) Sealed() Question {
	of := q
	of.ID, of.MaxAge, of.Since = "", 0, q.Since.UTC()
	q.ID = DigestOf(MustCanonical(of))
	return q
}

// GateResult is what a gate found.
type GateResult string

// Gate results. Only GatePass lets a release on: too little data and no
// answer are never a pass.
const (
	GatePass      GateResult = "pass"
	GateFail      GateResult = "fail"
	GateTooLittle GateResult = "too_little" // data, but not enough of it, or traffic split wrongly
	GateUnknown   GateResult = "unknown"    // no answer: the source is away, or members are not known
)

// Judgment is the answer to a Question, with its evidence.
type Judgment struct {
	Question  Digest             `json:"question"`
	Name      string             `json:"name"` // of the gate
	Group     string             `json:"group"`
	Result    GateResult         `json:"result"`
	At        time.Time          `json:"at"`            // when it was asked
	From      time.Time          `json:"from,omitzero"` // data from here
	To        time.Time          `json:"to,omitzero"`   // to here
	Figures   map[string]float64 `json:"figures,omitempty"`
	Sample    int                `json:"sample,omitempty"`    // what was counted: requests, answers, members
	Threshold string             `json:"threshold,omitempty"` // what the figures are held against
	Why       string             `json:"why"`
	Next      string             `json:"next,omitempty"`
}

// Lets says whether j is a pass of q on data that is wholly from after q.Since
// and reaches until; everything else blocks.
func (j Judgment) Lets(q Question, until time.Time) bool {
	return j.Result == GatePass && j.Question == q.ID && !j.From.IsZero() && !j.From.Before(q.Since) && !j.To.Before(until)
}

// Reason says what the gate found, with figures, threshold and sample.
func (j Judgment) Reason() Reason {
	var b strings.Builder
	fmt.Fprintf(&b, "gate %s of %s: %s: %s", j.Name, j.Group, j.Result, j.Why)
	if j.Threshold != "" {
		fmt.Fprintf(&b, " (wanted: %s; sample %d", j.Threshold, j.Sample)
		for _, name := range slices.Sorted(maps.Keys(j.Figures)) {
			fmt.Fprintf(&b, ", %s %s", name, strconv.FormatFloat(j.Figures[name], 'g', 4, 64))
		}
		b.WriteString(")")
	}
	return Reason{Code: WaitGate, Message: b.String(), Next: j.Next}
}
