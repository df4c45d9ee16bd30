package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"locktide.dev/schema"
)

// Prometheus is one server, or several replicas that scrape the same.
type Prometheus struct {
	Replicas    []string // base URLs
	Datacenters []string // that it watches; none: all
	TokenFile   string   // bearer token; read at each query
}

const (
	promTimeout = 10 * time.Second
	promBytes   = 1 << 20
	lookback    = 5 * time.Minute // oldest sample that an instant selector takes: Prometheus' own default
)

// value is what one replica said.
type value struct {
	number float64
	empty  bool // the query gave no series
	err    error
}

// prometheus asks all replicas. One that is away is made up for by another;
// when two disagree, the worse one counts.
func (e *Evaluator) prometheus(ctx context.Context, a Ask) schema.Judgment {
	g := a.Question.Gate
	i := slices.IndexFunc(e.config.Prometheus, func(p Prometheus) bool {
		return len(p.Datacenters) == 0 || slices.Contains(p.Datacenters, a.Datacenter)
	})
	if i < 0 {
		return unknown("add it under prometheus in the daemon's configuration", "no Prometheus is configured for datacenter %s", a.Datacenter)
	}
	p := e.config.Prometheus[i]
	query := expand(a)
	said := make([]value, len(p.Replicas))
	each(len(said), func(n int) {
		said[n].number, said[n].empty, said[n].err = e.query(ctx, p, p.Replicas[n], query, a)
	})
	j := schema.Judgment{From: a.Question.Since, To: a.At, Figures: map[string]float64{}, Threshold: bounds(g)}
	var failed []error
	var empty, passed, fell []value
	for n, v := range said {
		switch {
		case v.err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", p.Replicas[n], v.err))
			continue
		case v.empty:
			empty = append(empty, v)
			continue
		case within(g, v.number):
			passed = append(passed, v)
		default:
			fell = append(fell, v)
		}
		if !math.IsInf(v.number, 0) {
			j.Figures["replica"+strconv.Itoa(n+1)] = v.number
		}
	}
	j.Sample = len(passed) + len(fell)
	away := ""
	if len(failed) > 0 {
		away = fmt.Sprintf(" (%d of %d replicas did not answer: %v)", len(failed), len(said), failed[0])
	}
	switch {
	case len(fell) > 0:
		j.Result, j.Why = schema.GateFail, fmt.Sprintf("the query gives %v, want %s%s", fell[0].number, bounds(g), away)
		if len(passed)+len(empty) > 0 {
			j.Why += "; the replicas disagree, and the worse one counts"
		}
	case len(empty) > 0:
		j.Result, j.Why, j.Next = schema.GateTooLittle, "the query gives no series"+away, "traffic, or a query that matches: "+query
	case len(passed) > 0:
		j.Result, j.Why = schema.GatePass, fmt.Sprintf("the query gives %v%s", passed[0].number, away)
	default:
		j.Result, j.Why, j.Next = schema.GateUnknown, fmt.Sprintf("no Prometheus answered: %v", errors.Join(failed...)), "repair Prometheus or the query"
	}
	return j
}

func within(g schema.Gate, v float64) bool {
	return (g.AtMost == nil || v <= *g.AtMost) && (g.AtLeast == nil || v >= *g.AtLeast)
}

func bounds(g schema.Gate) string {
	var out []string
	if g.AtLeast != nil {
		out = append(out, fmt.Sprintf("at least %v", *g.AtLeast))
	}
	if g.AtMost != nil {
		out = append(out, fmt.Sprintf("at most %v", *g.AtMost))
	}
	return strings.Join(out, " and ")
}

// expand puts the question's names into its query, quoted for PromQL strings.
// $range is the time since the question's data may begin: a query over it sees
// nothing from before.
func expand(a Ask) string {
	q := a.Question
	ids := func(list []string) string {
		quoted := make([]string, len(list))
		for i, id := range list {
			quoted[i] = regexp.QuoteMeta(id)
		}
		return strings.Join(quoted, "|")
	}
	quote := func(s string) string {
		return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "'", `\'`, "\n", `\n`).Replace(s)
	}
	return strings.NewReplacer("$group", quote(q.Group), "$app", quote(a.App), "$release", quote(string(q.Release)),
		"$members", quote(ids(q.Members)), "$baseline", quote(ids(q.Baseline)), "$range", seconds(a.span())).Replace(q.Gate.Query)
}

// span is the time that the question's data covers; whole seconds, at least one.
func (a Ask) span() time.Duration {
	return max(time.Second, a.At.Sub(a.Question.Since).Truncate(time.Second))
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) + "s" }

// query sends one instant query. A number that is not one (NaN: 0/0 without
// traffic) is no data.
func (e *Evaluator) query(ctx context.Context, p Prometheus, base, query string, a Ask) (number float64, empty bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, promTimeout)
	defer cancel()
	form := url.Values{"query": {query}, "time": {strconv.FormatFloat(float64(a.At.UnixMilli())/1000, 'f', 3, 64)},
		"timeout": {promTimeout.String()}, "lookback_delta": {seconds(min(a.span(), lookback))}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(base, "/")+"/api/v1/query", strings.NewReader(form.Encode()))
	if err != nil {
		return 0, false, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if p.TokenFile != "" {
		token, err := os.ReadFile(p.TokenFile)
		if err != nil {
			return 0, false, fmt.Errorf("cannot read the token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+string(bytes.TrimSpace(token)))
	}
	res, err := e.plain.Do(req)
	if err != nil {
		return 0, false, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, promBytes))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return 0, false, fmt.Errorf("cannot read the answer: %w", err)
	}
	return result(res.StatusCode, body)
}

// result reads an answer of the HTTP API that must be one number.
func result(status int, body []byte) (number float64, empty bool, err error) {
	var said struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Type   string          `json:"resultType"`
			Result json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return 0, false, fmt.Errorf("status %d and no answer of a Prometheus: %.80q", status, body)
	}
	if said.Status != "success" {
		return 0, false, fmt.Errorf("status %d: %.200s", status, said.Error)
	}
	sample := [2]any{}
	switch said.Data.Type {
	case "scalar":
		err = json.Unmarshal(said.Data.Result, &sample)
	case "vector":
		var series []struct {
			Value [2]any `json:"value"`
		}
		if err = json.Unmarshal(said.Data.Result, &series); err == nil && len(series) == 0 {
			return 0, true, nil
		}
		if len(series) > 1 {
			return 0, false, fmt.Errorf("the query gives %d series, want one: sum them up", len(series))
		}
		if len(series) == 1 {
			sample = series[0].Value
		}
	default:
		return 0, false, fmt.Errorf("the query gives a %s, want one number", said.Data.Type)
	}
	text, ok := sample[1].(string)
	if err != nil || !ok {
		return 0, false, fmt.Errorf("the result is no sample: %.80q", said.Data.Result)
	}
	number, err = strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, false, fmt.Errorf("the result %.40q is no number", text)
	}
	return number, math.IsNaN(number), nil
}
