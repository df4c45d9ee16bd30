package gate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"locktide.dev/schema"
)

const (
	diffBytes = 1 << 20 // of each answer that is compared
	shown     = 5       // differences in the text of a judgment
)

// volatile headers differ between any two answers.
var volatile = []string{"Date", "Age", "Expires", "Last-Modified", "Content-Length", "Connection", "Keep-Alive", "Transfer-Encoding",
	"Set-Cookie", "Etag", "X-Request-Id", "Traceparent", "Tracestate", "Server-Timing"}

// diff sends the same GET requests to a new and to an old member and compares
// status, headers and bodies. Each request goes to old members twice: where
// two old answers differ already, new ones may.
func (e *Evaluator) diff(ctx context.Context, a Ask) schema.Judgment {
	g := a.Question.Gate
	fresh, err := endpoints(a.Members, g.Port)
	if err != nil {
		return unknown("name the gate's port", "%v", err)
	}
	old, err := endpoints(a.Baseline, g.Port)
	if err != nil {
		return unknown("name the gate's port", "%v", err)
	}
	if len(old) == 0 {
		return schema.Judgment{Result: schema.GateTooLittle, From: a.Question.Since, To: a.At, Why: "there is no member of the old release to compare with"}
	}
	requests := slices.Clone(g.Requests)
	if g.Mirror > 0 && e.config.Log != nil {
		more, err := e.config.Log.Recent(ctx, a.At, old, g.Mirror)
		if err != nil {
			return unknown("", "%v", err)
		}
		requests = append(requests, more...)
	}
	if len(requests) == 0 {
		return schema.Judgment{Result: schema.GateTooLittle, From: a.Question.Since, To: a.At, Why: "there are no requests to compare by",
			Next: "requests in the gate, or mirror with access_logs in the daemon's configuration"}
	}
	began := time.Now()
	found := make([][]string, len(requests))
	failed := make([]error, len(requests))
	each(len(requests), func(i int) {
		found[i], failed[i] = e.differ(ctx, g, requests[i], fresh[i%len(fresh)], old[i%len(old)], old[(i+1)%len(old)])
	})
	j := schema.Judgment{Result: schema.GatePass, From: a.At, To: a.At.Add(time.Since(began)), Sample: len(requests), Threshold: "no difference besides the ignored"}
	var all []string
	differing := 0
	for i, d := range found {
		if failed[i] != nil {
			return unknown("", "GET %s: %v", requests[i], failed[i])
		}
		if len(d) > 0 {
			differing++
		}
		for _, what := range d {
			all = append(all, "GET "+requests[i]+": "+what)
		}
	}
	j.Figures = map[string]float64{"requests": float64(len(requests)), "differing": float64(differing)}
	j.Why = fmt.Sprintf("%d of %d requests are answered alike", len(requests)-differing, len(requests))
	if differing > 0 {
		j.Result, j.Next = schema.GateFail, "name what may differ in the gate's ignore"
		j.Why = fmt.Sprintf("%d of %d requests are answered differently: %s", differing, len(requests), strings.Join(all[:min(len(all), shown)], "; "))
	}
	return j
}

// differ gives the differences that one request shows. An old member that does
// not answer is an error: there is nothing to compare with.
func (e *Evaluator) differ(ctx context.Context, g schema.Gate, path, fresh, old, again string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*cmp.Or(g.Timeout.Std(), defaultTimeout))
	defer cancel()
	is, isErr := e.fetch(ctx, fresh, path, g.Header, diffBytes)
	was, err := e.fetch(ctx, old, path, g.Header, diffBytes)
	if err != nil {
		return nil, fmt.Errorf("the old release does not answer: %w", err)
	}
	twice, err := e.fetch(ctx, again, path, g.Header, diffBytes)
	if err != nil {
		return nil, fmt.Errorf("the old release does not answer: %w", err)
	}
	if isErr != nil {
		return []string{"no answer: " + isErr.Error()}, nil
	}
	return Differences(facts(was), facts(twice), facts(is), g.Ignore), nil
}

// facts flattens an answer: status code, header:NAME, and the leaves of a JSON body
// by path, or the body as a whole.
func facts(a answer) map[string]string {
	out := map[string]string{"status code": strconv.Itoa(a.status)}
	for name, values := range a.header {
		if !slices.Contains(volatile, name) {
			out["header:"+name] = strings.Join(values, ", ")
		}
	}
	kind, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json")) {
		dec := json.NewDecoder(bytes.NewReader(a.body))
		dec.UseNumber()
		var v any
		if dec.Decode(&v) == nil {
			flatten(out, "", v)
			return out
		}
	}
	out["body"] = string(a.body)
	return out
}

func flatten(out map[string]string, path string, v any) {
	join := func(key string) string {
		if path == "" {
			return key
		}
		return path + "." + key
	}
	switch x := v.(type) {
	case map[string]any:
		for k, inner := range x {
			flatten(out, join(k), inner)
		}
	case []any:
		out[join("length")] = strconv.Itoa(len(x))
		for i, inner := range x {
			flatten(out, join(strconv.Itoa(i)), inner)
		}
	default:
		out[path] = fmt.Sprintf("%T %v", x, x)
	}
}

// Differences lists, sorted, the facts in which is differs from was. Facts in
// which two old answers differ, and those that ignore names, do not count.
func Differences(was, twice, is map[string]string, ignore []string) []string {
	all := map[string]bool{}
	for _, m := range []map[string]string{was, is} {
		for k := range m {
			all[k] = true
		}
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		old, had := was[k]
		other, hadTwice := twice[k]
		now, has := is[k]
		noise := had != hadTwice || old != other
		if had == has && old == now || noise || ignored(k, ignore) {
			continue
		}
		switch {
		case !has:
			out = append(out, fmt.Sprintf("%s is gone (was %.40q)", k, old))
		case !had:
			out = append(out, fmt.Sprintf("%s is new (%.40q)", k, now))
		default:
			out = append(out, fmt.Sprintf("%s is %.40q, was %.40q", k, now, old))
		}
	}
	return out
}

// ignored says whether a pattern names a fact: a whole path, or its beginning;
// * stands for one step.
func ignored(fact string, patterns []string) bool {
	if name, header := strings.CutPrefix(fact, "header:"); header {
		return slices.ContainsFunc(patterns, func(p string) bool {
			want, ok := strings.CutPrefix(p, "header:")
			return ok && http.CanonicalHeaderKey(want) == name
		})
	}
	steps := strings.Split(fact, ".")
	return slices.ContainsFunc(patterns, func(p string) bool {
		want := strings.Split(p, ".")
		if len(want) > len(steps) {
			return false
		}
		for i, w := range want {
			if w != "*" && w != steps[i] {
				return false
			}
		}
		return true
	})
}
