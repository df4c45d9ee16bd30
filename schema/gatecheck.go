package schema

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Problem is a field of a definition that is wrong.
type Problem struct{ Field, Message string }

// gateFields are the fields that each kind reads, besides kind, too_little and
// bake_limit.
var gateFields = map[GateKind][]string{
	GateHTTP:       {"port", "path", "header", "status", "body", "timeout", "grace"},
	GateTCP:        {"port", "timeout", "grace"},
	GateGRPC:       {"port", "service", "timeout", "grace"},
	GateScript:     {},
	GateConsul:     {},
	GateDiff:       {"port", "header", "timeout", "requests", "mirror", "ignore"},
	GatePrometheus: {"query", "at_most", "at_least"},
	GateAccessLog:  {"port", "errors", "latency", "quantile", "alpha", "min_requests"},
	GateCompare:    {"port", "quantile", "alpha", "min_requests"},
}

const (
	maxGateText    = 4096 // bytes of a query or an expression
	maxGateList    = 100  // requests, mirrored requests, ignored names
	maxGateTimeout = 30 * time.Second
)

// headerName is a token of HTTP.
var headerName = regexp.MustCompile("^[a-zA-Z0-9!#$%&'*+.^_`|~-]+$")

// requestPath is what may follow the host in a request line.
var requestPath = regexp.MustCompile(`^/[!-~]*$`)

// Problems lists what is wrong with the gate of a group that runs b.
func (g Gate) Problems(b Body) []Problem {
	var out []Problem
	wrong := func(field, format string, args ...any) {
		out = append(out, Problem{field, fmt.Sprintf(format, args...)})
	}
	fields, known := gateFields[g.Kind]
	if !known {
		wrong("kind", "kind is missing: want one of %s", strings.Join(gateKinds(), ", "))
		return out
	}
	v := reflect.ValueOf(g)
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if !v.Field(i).IsZero() && name != "kind" && name != "too_little" && name != "bake_limit" && !slices.Contains(fields, name) {
			wrong(name, "a gate of kind %s does not read %s: it reads %s", g.Kind, name, strings.Join(append(slices.Clone(fields), "too_little", "bake_limit"), ", "))
		}
	}
	g.probeProblems(b, wrong)
	g.trafficProblems(wrong)
	return out
}

func gateKinds() []string {
	var out []string
	for k := range gateFields {
		out = append(out, string(k))
	}
	slices.Sort(out)
	return out
}

func (g Gate) probeProblems(b Body, wrong func(field, format string, args ...any)) {
	if _, ok := b.Ports[g.Port]; g.Port != "" && !ok && b.Raw == nil {
		wrong("port", "the group has no port %q", g.Port)
	}
	if g.Path != "" && !requestPath.MatchString(g.Path) {
		wrong("path", "%.80q is not a path: want for example /ready", g.Path)
	}
	for name, value := range g.Header {
		if !headerName.MatchString(name) || strings.ContainsAny(value, "\r\n\x00") {
			wrong("header", "%.80q is no header, or its value has a line break", name)
		}
	}
	if g.Status != 0 && (g.Status < 100 || g.Status > 599) {
		wrong("status", "%d is not a status: want 100 to 599", g.Status)
	}
	if _, err := regexp.Compile(g.Body); err != nil || len(g.Body) > maxGateText {
		wrong("body", "not a regular expression (RE2) of at most %d bytes: %v", maxGateText, err)
	}
	if len(g.Service) > 127 {
		wrong("service", "longer than 127 bytes")
	}
	if g.Timeout.Std() > maxGateTimeout {
		wrong("timeout", "%s is longer than %s", g.Timeout.Std(), maxGateTimeout)
	}
	if g.Kind == GateScript && !hasScript(b) {
		wrong("kind", "the group has no service check with script: the gate reads its result, the daemon executes nothing")
	}
	if g.Kind == GateDiff && len(g.Requests) == 0 && g.Mirror == 0 {
		wrong("requests", "a gate of kind diff needs requests, or mirror")
	}
	for _, r := range g.Requests {
		if !requestPath.MatchString(r) {
			wrong("requests", "%.80q is not a path with query: want for example /items?page=1", r)
		}
	}
	if len(g.Requests) > maxGateList || g.Mirror > maxGateList || len(g.Ignore) > maxGateList {
		wrong("requests", "more than %d requests, mirrored requests or ignored names", maxGateList)
	}
}

func (g Gate) trafficProblems(wrong func(field, format string, args ...any)) {
	if g.Kind == GatePrometheus {
		if g.Query == "" || len(g.Query) > maxGateText {
			wrong("query", "want a PromQL query of at most %d bytes", maxGateText)
		}
		if strings.Count(g.Query, "[") != strings.Count(g.Query, "[$range]") {
			wrong("query", "a range selector that is not [$range] could see the time before the change")
		}
		if g.AtMost == nil && g.AtLeast == nil {
			wrong("at_most", "a gate of kind prometheus needs at_most or at_least")
		}
		if g.AtMost != nil && g.AtLeast != nil && *g.AtMost < *g.AtLeast {
			wrong("at_most", "at_most %v is smaller than at_least %v: nothing passes", *g.AtMost, *g.AtLeast)
		}
	}
	if g.Kind == GateAccessLog && g.Errors == nil && g.Latency == 0 {
		wrong("errors", "a gate of kind accesslog needs errors or latency")
	}
	if g.Errors != nil && *g.Errors >= Percent(100) {
		wrong("errors", "%s lets everything pass", *g.Errors)
	}
	if g.Kind == GateAccessLog && g.Quantile != 0 && g.Latency == 0 {
		wrong("quantile", "a quantile without latency judges nothing")
	}
	if g.Quantile != 0 && (g.Quantile < Percent(50) || g.Quantile > Percent(100)-1000) {
		wrong("quantile", "%s is not between 50%% and 99.9%%", g.Quantile)
	}
	if g.Alpha > Percent(20) {
		wrong("alpha", "%s of good releases would fail: want at most 20%%", g.Alpha)
	}
	if g.MinRequests > 1_000_000 {
		wrong("min_requests", "%d is more than a million", g.MinRequests)
	}
}

func hasScript(b Body) bool {
	if b.Raw != nil {
		return true // a raw job says itself what it checks
	}
	for _, s := range b.Services {
		for _, c := range s.Checks {
			if len(c.Script) > 0 {
				return true
			}
		}
	}
	return false
}
