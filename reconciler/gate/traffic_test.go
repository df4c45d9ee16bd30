package gate_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"locktide.dev/reconciler/gate"
	"locktide.dev/reconciler/gate/accesslog"
	"locktide.dev/schema"
)

// side is how one release answers: requests per second, share of errors, and
// latency around ms.
type side struct {
	perSecond int
	errors    float64
	ms        int
}

// ceilings of the first histogram steps, in milliseconds.
var ceilings = func() (out []int) {
	for s := range 128 {
		out = append(out, accesslog.Ceiling(s))
	}
	return out
}()

func (s side) second(r *rand.Rand) accesslog.Tally {
	var t accesslog.Tally
	for range s.perSecond {
		t.N++
		if r.Float64() < s.errors {
			t.Bad++
		}
		took := int(float64(s.ms) * (0.5 + r.ExpFloat64()))
		at, _ := slices.BinarySearch(ceilings, took)
		for len(t.Slow) <= at {
			t.Slow = append(t.Slow, 0)
		}
		t.Slow[at]++
	}
	return t
}

func bake(r *rand.Rand, seconds int, fresh, old side) []accesslog.Second {
	out := make([]accesslog.Second, seconds)
	for i := range out {
		out[i] = accesslog.Second{At: since.Unix() + int64(i), New: fresh.second(r), Old: old.second(r)}
	}
	return out
}

func ratio(percent int) *schema.Ratio {
	r := schema.Percent(percent)
	return &r
}

// P33 for the whole gate, errors and latency together: 2,000 bakes of equals.
func TestCompareOfEquals(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 1))
	g := schema.Gate{Kind: schema.GateCompare, Quantile: schema.Percent(95)}
	aborted, held := 0, 0
	for range 2000 {
		same := side{perSecond: 2 + r.IntN(6), errors: 0.02, ms: 40}
		switch gate.Compare(g, 1, 1, bake(r, 60, same, same)).Result {
		case schema.GateFail:
			aborted++
		case schema.GatePass:
		default:
			held++
		}
	}
	t.Logf("%d of 2000 aborted, %d held", aborted, held)
	if aborted > 20 || held > 4 {
		t.Errorf("%d of 2000 bakes of equals aborted (at most 20), %d were held", aborted, held)
	}
}

func TestCompareFinds(t *testing.T) {
	g := schema.Gate{Kind: schema.GateCompare, Quantile: schema.Percent(95)}
	for _, c := range []struct {
		name       string
		fresh, old side
		seconds    int
	}{
		{"1 % to 6 % errors in 2,000 requests", side{10, 0.06, 40}, side{10, 0.01, 40}, 100},
		{"twice as slow", side{10, 0.01, 80}, side{10, 0.01, 40}, 100},
	} {
		r := rand.New(rand.NewPCG(22, 1))
		found := 0
		for range 500 {
			if gate.Compare(g, 1, 1, bake(r, c.seconds, c.fresh, c.old)).Result == schema.GateFail {
				found++
			}
		}
		t.Logf("%s: %d of 500 found", c.name, found)
		if found < 475 {
			t.Errorf("%s: only %d of 500 found", c.name, found)
		}
	}
}

// P5, P33: no traffic, too little of it, or a starved bastion never advance.
func TestCompareWithoutDataNeverPasses(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 1))
	g := schema.Gate{Kind: schema.GateCompare}
	ok := side{5, 0.01, 40}
	for _, c := range []struct {
		name    string
		n, m    int
		seconds []accesslog.Second
		want    schema.GateResult
		why     string
	}{
		{"enough", 1, 1, bake(r, 60, ok, ok), schema.GatePass, ""},
		{"nothing", 1, 1, nil, schema.GateTooLittle, "in 0"},
		{"nothing to new members", 1, 1, bake(r, 600, side{}, ok), schema.GateTooLittle, "their share is 50.0 %"},
		{"nothing to the baseline", 1, 1, bake(r, 600, ok, side{}), schema.GateTooLittle, "100 are needed"},
		{"19 requests", 1, 1, bake(r, 19, side{1, 0, 4}, side{1, 0, 4}), schema.GateTooLittle, "100 are needed"},
		{"a fifth of its share", 1, 1, bake(r, 600, side{1, 0, 4}, ok), schema.GateTooLittle, "16.7 %"},
		{"one of five members", 1, 4, bake(r, 200, side{1, 0, 4}, side{4, 0, 4}), schema.GatePass, ""},
		{"no baseline", 1, 0, bake(r, 60, ok, ok), schema.GateTooLittle, ""},
	} {
		j := gate.Compare(g, c.n, c.m, c.seconds)
		if j.Result != c.want || !strings.Contains(j.Why, c.why) {
			t.Errorf("%s: %s %q", c.name, j.Result, j.Why)
		}
	}
}

func TestLimits(t *testing.T) {
	r := rand.New(rand.NewPCG(24, 1))
	for _, c := range []struct {
		name    string
		g       schema.Gate
		traffic side
		seconds int
		want    schema.GateResult
		why     string
	}{
		{"no traffic", schema.Gate{Errors: ratio(1)}, side{}, 600, schema.GateTooLittle, "0 requests"},
		{"few", schema.Gate{Errors: ratio(1)}, side{1, 0, 4}, 99, schema.GateTooLittle, "100 are needed"},
		{"enough", schema.Gate{Errors: ratio(1)}, side{1, 0, 4}, 100, schema.GatePass, ""},
		{"fewer are enough", schema.Gate{Errors: ratio(1), MinRequests: 10}, side{1, 0, 4}, 10, schema.GatePass, ""},
		{"all fail", schema.Gate{Errors: ratio(1)}, side{1, 1, 4}, 5, schema.GateFail, "100.00 % errors"},
		{"6 % for 1 %", schema.Gate{Errors: ratio(1)}, side{10, 0.06, 4}, 60, schema.GateFail, "errors of 600"},
		{"none allowed", schema.Gate{Errors: ratio(0)}, side{1, 1, 4}, 2, schema.GateFail, ""},
		{"slow", schema.Gate{Latency: schema.Duration(100 * time.Millisecond)}, side{10, 0, 200}, 60, schema.GateFail, "slower than 100ms"},
		{"fast", schema.Gate{Latency: schema.Duration(time.Second)}, side{10, 0.5, 20}, 60, schema.GatePass, ""},
		{"fast and wrong", schema.Gate{Latency: schema.Duration(time.Second), Errors: ratio(5)}, side{10, 0.5, 20}, 60, schema.GateFail, ""},
	} {
		if j := gate.Limits(c.g, bake(r, c.seconds, c.traffic, side{})); j.Result != c.want || !strings.Contains(j.Why, c.why) {
			t.Errorf("%s: %s %q", c.name, j.Result, j.Why)
		}
	}
	chance := []accesslog.Second{{New: accesslog.Tally{N: 150, Bad: 2}}}
	if j := gate.Limits(schema.Gate{Errors: ratio(1)}, chance); j.Result != schema.GateTooLittle || !strings.Contains(j.Next, "chance") {
		t.Errorf("2 errors in 150 at 1 %%: %+v", j)
	}
}

func TestTrafficFromALogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	var text strings.Builder
	for i := range 300 {
		for _, m := range []struct{ addr, status string }{{"10.0.0.1:80", []string{"500", "200"}[min(1, i%3)]}, {"10.0.0.2:80", "200"}} {
			fmt.Fprintf(&text, "%d.100\tshop\t200\t0.004\t9\t%s\t%s\tGET\t/\t0.003\t/item/%d\n", since.Unix()+int64(i/3)-10, m.addr, m.status, i%5)
		}
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	log := accesslog.New([]string{path})
	defer func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}()
	c := gate.Config{Log: log}
	fresh, old := []schema.Member{member(t, "a", "10.0.0.1:80")}, []schema.Member{member(t, "b", "10.0.0.2:80")}
	j := expect(t, c, ask(schema.Gate{Kind: schema.GateAccessLog, Errors: ratio(1)}, fresh, nil), schema.GateFail, "33.33 % errors of 270")
	if j.From != since || j.To.After(at) || j.Figures["errors"] < 0.33 || j.Sample != 270 {
		t.Errorf("got %+v", j)
	}
	expect(t, c, ask(schema.Gate{Kind: schema.GateAccessLog, Errors: ratio(1)}, old, nil), schema.GatePass, "0.00 %")
	expect(t, c, ask(schema.Gate{Kind: schema.GateCompare}, fresh, old), schema.GateFail, "baseline 0.00 %")
	expect(t, c, ask(schema.Gate{Kind: schema.GateCompare}, old, fresh), schema.GatePass, "")
	expect(t, gate.Config{}, ask(schema.Gate{Kind: schema.GateCompare}, fresh, old), schema.GateUnknown, "no access log")
	expect(t, gate.Config{Log: brokenLog{}}, ask(schema.Gate{Kind: schema.GateCompare}, fresh, old), schema.GateUnknown, "disk is gone")
}

type brokenLog struct{}

func (brokenLog) Window(context.Context, time.Time, time.Time, []string, []string) ([]accesslog.Second, error) {
	return nil, errors.New("the disk is gone")
}

func (brokenLog) Recent(context.Context, time.Time, []string, int) ([]string, error) {
	return []string{"/mirrored"}, nil
}

// T19: the same requests to old and new, differences reported but the ignored
// and those that two old answers show already.
func TestDiff(t *testing.T) {
	var requests atomic.Int64
	release := func(price, extra string) string {
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			n := requests.Add(1)
			w.Header().Set("X-Instance", fmt.Sprint(n))
			if r.URL.Path == "/text" {
				fmt.Fprint(w, price)
				return
			}
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			fmt.Fprintf(w, `{"items": [{"id": %d, "price": %s%s}], "status": "ok"}`, n, price, extra)
		})
	}
	old := []schema.Member{member(t, "b", release("3", "")), member(t, "c", release("3", ""))}
	same, other := []schema.Member{member(t, "a", release("3", ""))}, []schema.Member{member(t, "a", release("3.0", `, "tax": 1`))}
	g := schema.Gate{Kind: schema.GateDiff, Requests: []string{"/items?page=1", "/text"}}
	expect(t, gate.Config{}, ask(g, same, old), schema.GatePass, "2 of 2 requests are answered alike")
	j := expect(t, gate.Config{}, ask(g, other, old), schema.GateFail, `GET /items?page=1: items.0.price is "json.Number 3.0", was "json.Number 3"; GET /items?page=1: items.0.tax is new`)
	if j.Figures["differing"] != 2 || j.Sample != 2 {
		t.Errorf("got %+v", j)
	}
	g.Ignore = []string{"items.*.tax", "items.*.price", "body"}
	expect(t, gate.Config{}, ask(g, other, old), schema.GatePass, "")
	g.Ignore = []string{"items"}
	expect(t, gate.Config{}, ask(g, other, old), schema.GateFail, `GET /text: body is "3.0"`)
	gone := []schema.Member{member(t, "a", closed(t))}
	expect(t, gate.Config{}, ask(g, gone, old), schema.GateFail, "no answer")
	expect(t, gate.Config{}, ask(g, same, gone[:0]), schema.GateTooLittle, "no member of the old release")
	expect(t, gate.Config{}, ask(g, same, []schema.Member{member(t, "d", closed(t))}), schema.GateUnknown, "the old release does not answer")
	expect(t, gate.Config{}, ask(schema.Gate{Kind: schema.GateDiff, Mirror: 5}, same, old), schema.GateTooLittle, "no requests")
	expect(t, gate.Config{Log: brokenLog{}}, ask(schema.Gate{Kind: schema.GateDiff, Mirror: 5}, same, old), schema.GatePass, "1 of 1")
}

func TestUnknownKindDoesNotPass(t *testing.T) {
	expect(t, gate.Config{}, ask(schema.Gate{Kind: "crystal-ball"}, []schema.Member{{ID: "a"}}, nil), schema.GateUnknown, "crystal-ball")
}

// evenly gives seconds in which both sides answer equally much, at their own
// latency, and the new one with some errors.
func evenly(seconds, each, bad int, fresh, old int) []accesslog.Second {
	tally := func(step, bad int) accesslog.Tally {
		out := accesslog.Tally{N: each, Bad: bad, Slow: make([]uint32, 60)}
		out.Slow[step] = uint32(each)
		return out
	}
	var out []accesslog.Second
	for i := range seconds {
		b := 0
		if i < bad {
			b = 1
		}
		out = append(out, accesslog.Second{At: int64(i), New: tally(fresh, b), Old: tally(old, 0)})
	}
	return out
}

// Two tests share alpha: errors that just reject alone do not beside a test of
// latency, of which each has half.
func TestTwoTestsShareAlpha(t *testing.T) {
	alone, both := schema.Gate{Kind: schema.GateCompare}, schema.Gate{Kind: schema.GateCompare, Quantile: schema.Percent(95)}
	between := false
	for bad := range 60 {
		seconds := evenly(60, 20, bad, 5, 5)
		a, b := gate.Compare(alone, 1, 1, seconds), gate.Compare(both, 1, 1, seconds)
		if ratio := b.Figures["evidence"] / a.Figures["evidence"]; bad > 10 && math.Abs(ratio-math.Log(100)/math.Log(200)) > 1e-9 {
			t.Fatalf("%d errors: evidence %v alone, %v beside latency", bad, a.Figures["evidence"], b.Figures["evidence"])
		}
		between = between || a.Result == schema.GateFail && b.Result != schema.GateFail
	}
	if !between {
		t.Error("no number of errors tells the two apart")
	}
}

// How slow is too slow is what the baseline showed before, never the new side.
func TestLatencyIsMeasuredByTheBaseline(t *testing.T) {
	g := schema.Gate{Kind: schema.GateCompare, Quantile: schema.Percent(95)}
	for _, c := range []struct {
		fresh, old int
		want       schema.GateResult
	}{{30, 10, schema.GateFail}, {10, 30, schema.GatePass}, {10, 10, schema.GatePass}} {
		if j := gate.Compare(g, 1, 1, evenly(60, 20, 0, c.fresh, c.old)); j.Result != c.want {
			t.Errorf("steps %d against %d: %s: %s", c.fresh, c.old, j.Result, j.Why)
		}
	}
}
