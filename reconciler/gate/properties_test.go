package gate_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"locktide.dev/reconciler/gate"
	"locktide.dev/reconciler/gate/accesslog"
	"locktide.dev/schema"
)

// anyTally draws what one side answered in a second.
func anyTally(t *rapid.T) accesslog.Tally {
	n := rapid.SampledFrom([]int{0, 0, 1, 3, 20, 500}).Draw(t, "n")
	tally := accesslog.Tally{N: n, Bad: rapid.SampledFrom([]int{0, 0, n / 50, n}).Draw(t, "bad"), Slow: make([]uint32, 60)}
	tally.Slow[rapid.IntRange(0, 59).Draw(t, "slow")] = uint32(n)
	return tally
}

func anySeconds(t *rapid.T) []accesslog.Second {
	n := rapid.IntRange(0, 60).Draw(t, "seconds")
	var out []accesslog.Second
	for i := range n {
		out = append(out, accesslog.Second{At: int64(i), New: anyTally(t), Old: anyTally(t)})
	}
	return out
}

func totals(seconds []accesslog.Second) (fresh, old accesslog.Tally) {
	for _, s := range seconds {
		fresh.Add(s.New)
		old.Add(s.Old)
	}
	return fresh, old
}

// P5, P33 over any traffic: a pass needs the sample on both sides and a fair
// share of the traffic; a failure is never taken back; equal inputs give equal
// answers.
func TestPropertyCompare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds := anySeconds(t)
		g := schema.Gate{Kind: schema.GateCompare, MinRequests: rapid.SampledFrom([]int{0, 1, 1000}).Draw(t, "min"),
			Quantile: rapid.SampledFrom([]schema.Ratio{0, schema.Percent(95)}).Draw(t, "quantile")}
		n, m := rapid.IntRange(0, 3).Draw(t, "new"), rapid.IntRange(0, 3).Draw(t, "old")
		j := gate.Compare(g, n, m, seconds)
		fresh, old := totals(seconds)
		need := g.MinRequests
		if need == 0 {
			need = 100
		}
		if j.Result == schema.GatePass {
			share := float64(fresh.N) / float64(fresh.N+old.N)
			if fresh.N < need || old.N < need || n == 0 || m == 0 || share < 0.5*float64(n)/float64(n+m) && fresh.N+old.N > 200 {
				t.Fatalf("passes on %d and %d requests of %d and %d members: %+v", fresh.N, old.N, n, m, j)
			}
			if fresh.Bad == fresh.N && old.Bad == 0 && concurrent(seconds) > 20 {
				t.Fatalf("all new answers are bad, no old one, and it passes: %+v", j)
			}
		}
		if again := gate.Compare(g, n, m, seconds); again.Why != j.Why || again.Result != j.Result {
			t.Fatalf("%+v, then %+v", j, again)
		}
		if j.Result == schema.GateFail {
			more := append(seconds, anySeconds(t)...)
			if later := gate.Compare(g, n, m, more); later.Result != schema.GateFail {
				t.Fatalf("more data takes a failure back: %+v", later)
			}
		}
	})
}

// concurrent counts new requests in seconds in which both sides were asked.
func concurrent(seconds []accesslog.Second) (n int) {
	for _, s := range seconds {
		if s.Old.N > 0 {
			n += s.New.N
		}
	}
	return n
}

func TestPropertyLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds := anySeconds(t)
		limit := rapid.SampledFrom([]schema.Ratio{0, schema.Percent(1), schema.Percent(50)}).Draw(t, "errors")
		g := schema.Gate{Kind: schema.GateAccessLog, Errors: &limit, Latency: schema.Duration(rapid.SampledFrom([]int{0, 100}).Draw(t, "ms")) * schema.Duration(time.Millisecond)}
		j := gate.Limits(g, seconds)
		fresh, _ := totals(seconds)
		if j.Result == schema.GatePass && (fresh.N < 100 || float64(fresh.Bad) > limit.Float()*float64(fresh.N)) {
			t.Fatalf("%d errors in %d requests pass %s: %+v", fresh.Bad, fresh.N, limit, j)
		}
		if j.Result == schema.GateFail && fresh.Bad == 0 && g.Latency == 0 {
			t.Fatalf("no error, and it fails: %+v", j)
		}
	})
}

// Only the ignored facts, and those that differ between two old answers, may differ.
func TestPropertyDifferences(t *testing.T) {
	facts := rapid.MapOf(rapid.SampledFrom([]string{"a", "a.b", "a.0.c", "header:X", "status code"}), rapid.SampledFrom([]string{"1", "2"}))
	rapid.Check(t, func(t *rapid.T) {
		was, twice, is := facts.Draw(t, "was"), facts.Draw(t, "twice"), facts.Draw(t, "is")
		if d := gate.Differences(was, was, was, nil); len(d) > 0 {
			t.Fatalf("an answer differs from itself: %q", d)
		}
		got := strings.Join(gate.Differences(was, twice, is, []string{"a.*.c"}), "\n")
		for k := range was {
			value, still := is[k]
			other, steady := twice[k]
			want := (!still || value != was[k]) && steady && other == was[k] && k != "a.0.c"
			found := strings.HasPrefix(got, k+" is ") || strings.Contains(got, "\n"+k+" is ")
			if want != found {
				t.Fatalf("%s: reported %v, want %v: %q", k, found, want, got)
			}
		}
	})
}

// Answers of members and servers may be anything: no panic, no pass by chance.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x02\x08\x01"), []byte(`{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"0"]}]}}`))
	f.Add([]byte("\x00\xff\xff\xff\xff"), []byte(`{"status":"success","data":{"resultType":"scalar","result":[]}}`))
	f.Fuzz(func(t *testing.T, frame, answer []byte) {
		if gate.Serving(frame) == nil && string(frame) != "\x00\x00\x00\x00\x02\x08\x01" {
			t.Fatalf("%q is SERVING", frame)
		}
		if number, empty, err := gate.Result(200, answer); err == nil && !empty && number != number {
			t.Fatalf("%q is NaN and counts", answer)
		}
	})
}
