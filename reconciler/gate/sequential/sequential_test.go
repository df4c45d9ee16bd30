package sequential_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"locktide.dev/reconciler/gate/sequential"
)

const alpha = 0.01

func draw(r *rand.Rand, n int, p float64) sequential.Count {
	c := sequential.Count{N: n}
	for range n {
		if r.Float64() < p {
			c.Bad++
		}
	}
	return c
}

// bakes counts those of n bakes in which somebody who looks after every block
// would see Worse reject; rates gives both sides' rate at block i.
func bakes(n, blocks int, seed uint64, size func(*rand.Rand) (int, int), rates func(i int) (fresh, old float64)) (rejected, requests int) {
	r := rand.New(rand.NewPCG(seed, 1))
	for range n {
		var all []sequential.Block
		for i := range blocks {
			a, b := size(r)
			pa, pb := rates(i)
			all = append(all, sequential.Block{New: draw(r, a, pa), Old: draw(r, b, pb)})
			requests += a + b
		}
		if sequential.Worse(all, 0.01) >= sequential.Threshold(alpha) {
			rejected++
		}
	}
	return rejected, requests / n
}

func one(*rand.Rand) (int, int)      { return 1, 1 }
func burst(r *rand.Rand) (int, int)  { return r.IntN(20), r.IntN(20) }
func uneven(r *rand.Rand) (int, int) { return 1 + r.IntN(3), 20 }

// P33: a bake of equals aborts at no more than alpha, although somebody looks
// after every block: at rare and frequent errors, and when both sides' rate
// jumps in the middle.
func TestEqualsAbortAtMostAtAlpha(t *testing.T) {
	flat := func(p float64) func(int) (float64, float64) {
		return func(int) (float64, float64) { return p, p }
	}
	for _, c := range []struct {
		name  string
		size  func(*rand.Rand) (int, int)
		rates func(int) (float64, float64)
	}{
		{"0.1 %, one by one", one, flat(0.001)}, {"1 %, one by one", one, flat(0.01)}, {"10 %, bursts", burst, flat(0.1)},
		{"50 %, bursts", burst, flat(0.5)}, {"5 %, uneven", uneven, flat(0.05)},
		{"an outage of what both use", burst, func(i int) (float64, float64) {
			if i > 80 && i < 110 {
				return 0.7, 0.7
			}
			return 0.01, 0.01
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n, _ := bakes(2000, 200, 11, c.size, c.rates)
			t.Logf("%d of 2000 aborted (declared at most %d)", n, int(2000*alpha))
			if n > 2000*alpha {
				t.Errorf("%d of 2000 equal bakes aborted, more than %v", n, alpha)
			}
		})
	}
}

func TestARiseIsFound(t *testing.T) {
	for _, c := range []struct {
		name       string
		size       func(*rand.Rand) (int, int)
		blocks     int
		fresh, old float64
	}{
		{"1 % to 6 % within 2,000 requests of both", one, 1000, 0.06, 0.01},
		{"1 % to 6 % in bursts", burst, 105, 0.06, 0.01},
		{"0.1 % to 6 %", one, 500, 0.06, 0.001},
		{"all fail, 40 requests", one, 20, 1, 0.001},
		{"30 % to 60 %", one, 200, 0.6, 0.3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n, requests := bakes(600, c.blocks, 7, c.size, func(int) (float64, float64) { return c.fresh, c.old })
			t.Logf("%.2f %% found within %d requests", float64(n)/6, requests)
			if n < 570 || requests > 2050 {
				t.Errorf("%d of 600 found within %d requests, want 95 %%", n, requests)
			}
		})
	}
}

// Better releases never fail, and a side without a counterpart proves nothing.
func TestWorseIsOneSidedAndConcurrent(t *testing.T) {
	n, _ := bakes(500, 300, 3, burst, func(int) (float64, float64) { return 0.01, 0.06 })
	if n > 0 {
		t.Errorf("%d of 500 better releases failed", n)
	}
	alone := []sequential.Block{{New: sequential.Count{N: 1000, Bad: 1000}}, {Old: sequential.Count{N: 1000}}}
	if e := sequential.Worse(alone, 0.01); e != 0 {
		t.Errorf("evidence %v without concurrent requests", e)
	}
}

func TestMoreDataNeverTakesARejectionBack(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	last := 0.0
	var all []sequential.Block
	for i := range 400 {
		p := 0.3
		if i > 50 {
			p = 0
		}
		all = append(all, sequential.Block{New: draw(r, 5, p), Old: draw(r, 5, 0.01)})
		if e := sequential.Worse(all, 0.01); e < last {
			t.Fatalf("block %d: %v after %v", i, e, last)
		} else {
			last = e
		}
	}
}

func TestAboveALimit(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	above := func(p, limit float64, n int) (crossed int) {
		for range 1000 {
			c, ever := sequential.Count{}, false
			for range n {
				d := draw(r, 1, p)
				c.N, c.Bad = c.N+1, c.Bad+d.Bad
				ever = ever || sequential.Above(c, limit) >= sequential.Threshold(alpha)
			}
			if ever {
				crossed++
			}
		}
		return crossed
	}
	for _, c := range []struct{ p, limit float64 }{{0.01, 0.01}, {0.005, 0.01}, {0.2, 0.2}} {
		if n := above(c.p, c.limit, 600); n > 1000*alpha {
			t.Errorf("share %v against limit %v: %d of 1000 crossed", c.p, c.limit, n)
		}
	}
	if n := above(0.06, 0.01, 500); n < 950 {
		t.Errorf("6 %% against 1 %%: only %d of 1000 found", n)
	}
}

func TestStarved(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 1))
	starved := func(share, real float64, n int) (found int) {
		for range 2000 {
			part, ever := 0, false
			for i := range n {
				if r.Float64() < real {
					part++
				}
				ever = ever || sequential.Starved(part, i+1, share) >= sequential.Threshold(alpha)
			}
			if ever {
				found++
			}
		}
		return found
	}
	if n := starved(0.5, 0.5, 1000); n > 2000*alpha {
		t.Errorf("%d of 2000 even splits called starved", n)
	}
	if n := starved(0.5, 0.25, 200); n < 1900 {
		t.Errorf("half of its share: only %d of 2000 found", n)
	}
	if e := sequential.Starved(20, 10000, 0.5); e < sequential.Threshold(0.001) {
		t.Errorf("20 of 10,000: %v", e)
	}
	if e := sequential.Starved(0, 0, 0.5); e != 0 {
		t.Errorf("nothing: %v", e)
	}
}

func FuzzTotal(f *testing.F) {
	f.Add(1, 0, 1, 1, 0.01)
	f.Fuzz(func(t *testing.T, n, bad, m, worse int, p float64) {
		n, m = abs(n)%100000, abs(m)%100000
		b := sequential.Block{New: sequential.Count{N: n, Bad: abs(worse) % (n + 1)}, Old: sequential.Count{N: m, Bad: abs(bad) % (m + 1)}}
		for _, e := range []float64{sequential.Worse([]sequential.Block{b, b}, p), sequential.Above(b.New, p), sequential.Starved(b.New.N, n+m, p)} {
			if math.IsNaN(e) || math.IsInf(e, 0) {
				t.Fatalf("%+v %v: %v", b, p, e)
			}
		}
	})
}

func abs(n int) int {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

// Worse is what its method says, computed the slow way: the rates of an
// alternative by bisection, their mean known from earlier blocks alone.
func TestWorseIsItsMethod(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		prior := []float64{0.001, 0.01, 0.2, 0.7}[r.IntN(4)]
		var blocks []sequential.Block
		for range 1 + r.IntN(6) {
			blocks = append(blocks, sequential.Block{New: draw(r, r.IntN(60), r.Float64()), Old: draw(r, r.IntN(60), r.Float64()/2)})
		}
		if got, want := sequential.Worse(blocks, prior), slowly(blocks, prior); math.Abs(got-want) > 1e-6*(1+want) {
			t.Fatalf("evidence %v, want %v: prior %v, %v", got, want, prior, blocks)
		}
	}
}

func slowly(blocks []sequential.Block, prior float64) (best float64) {
	odds := []float64{1.5, 2, 4, 8, 16, 64}
	products := make([]float64, len(odds))
	trials, bad := 50.0, 50*prior
	likely := func(c sequential.Count, p float64) float64 {
		return float64(c.Bad)*math.Log(p) + float64(c.N-c.Bad)*math.Log(1-p)
	}
	for _, b := range blocks {
		if b.New.N > 0 && b.Old.N > 0 {
			m, n, rate, sum := float64(b.New.N), float64(b.Old.N), bad/trials, 0.0
			for i, r := range odds {
				lo, hi := 0.0, 1.0
				for range 200 { // old is at mid, new at the odds ratio from it
					mid := (lo + hi) / 2
					if (m*r*mid/(1+(r-1)*mid)+n*mid)/(m+n) < rate {
						lo = mid
					} else {
						hi = mid
					}
				}
				products[i] += likely(b.New, r*lo/(1+(r-1)*lo)) + likely(b.Old, lo) - likely(b.New, rate) - likely(b.Old, rate)
				sum += math.Exp(products[i]) / float64(len(odds))
			}
			best = max(best, math.Log(sum))
		}
		trials, bad = trials+float64(b.New.N+b.Old.N), bad+float64(b.New.Bad+b.Old.Bad)
	}
	return best
}
