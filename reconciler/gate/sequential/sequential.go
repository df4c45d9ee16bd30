// Package sequential decides on counts that are looked at while they grow. Its
// figures are logarithms of e-processes: whatever the moment at which somebody
// stops to look, the chance that one ever exceeds ln(1/alpha) although the
// hypothesis holds is at most alpha (Ville's inequality). So a gate may look
// after every request, and again after a restart, without more false alarms.
//
// The promise assumes that requests fail independently, given their rate at
// that moment; rates may change over time, as long as both sides change alike.
// All functions are pure and total.
package sequential

import "math"

// Count is a number of trials and how many of them were bad.
type Count struct{ N, Bad int }

// Block is what both sides did in the same short time, oldest first in a list.
type Block struct{ New, Old Count }

// Threshold is the evidence, a natural logarithm, that rejects at rate alpha.
func Threshold(alpha float64) float64 { return -math.Log(alpha) }

// odds ratios of new against old that Worse looks for, each with equal weight.
var odds = [...]float64{1.5, 2, 4, 8, 16, 64}

// Worse gives the evidence that new trials are bad more often than old ones
// that ran beside them. It is the largest that it ever was, so more data never
// takes a rejection back. Prior is the share of bad trials to expect before
// any are seen; a wrong one costs power, not validity.
//
// Method: the e-variable for 2 x 2 tables by blocks of Turner, Ly and Grünwald,
// "Generic E-variables for exact sequential k-sample tests that allow for
// optional stopping" (Journal of Statistical Planning and Inference 230, 2024),
// exact for any sizes and any common rate, mixed over odds ratios. The common
// rate of the alternatives is learned from earlier blocks only.
func Worse(blocks []Block, prior float64) float64 {
	const weight = 50 // trials that the prior is worth
	var each [len(odds)]float64
	best := 0.0
	trials, bad := weight, weight*clamp(prior)
	for _, b := range blocks {
		if b.New.N > 0 && b.Old.N > 0 {
			rate := clamp(bad / float64(trials))
			for i, r := range odds {
				worse, better := split(b, rate, r)
				each[i] += ratio(b.New, worse, rate) + ratio(b.Old, better, rate)
			}
			best = math.Max(best, mean(each[:]))
		}
		trials += b.New.N + b.Old.N
		bad += float64(b.New.Bad + b.Old.Bad)
	}
	return best
}

// split gives the rates of new and old trials that have the odds ratio r and
// whose mean over the block's trials is rate.
func split(b Block, rate, r float64) (worse, better float64) {
	m, n := float64(b.New.N), float64(b.Old.N)
	// m*r*x/(1+(r-1)*x) + n*x = (m+n)*rate, a quadratic equation in x > 0.
	qa, qb, qc := n*(r-1), m*r+n-(m+n)*rate*(r-1), -(m+n)*rate
	root := math.Sqrt(qb*qb - 4*qa*qc)
	if qb >= 0 {
		better = -2 * qc / (qb + root)
	} else {
		better = (root - qb) / (2 * qa)
	}
	better = clamp(better)
	return clamp(((m+n)*rate - n*better) / m), better
}

// Above gives the evidence that the share of bad trials exceeds limit: a
// likelihood ratio against limit, mixed over larger shares, which is a
// supermartingale under every share up to limit (Robbins, "Statistical methods
// related to the law of the iterated logarithm", 1970). Unlike Worse it is the
// evidence of now.
func Above(c Count, limit float64) float64 {
	limit = clamp(limit)
	var each [len(odds)]float64
	for i, r := range odds {
		each[i] = ratio(c, limit*r/(1+(r-1)*limit), limit)
	}
	return mean(each[:])
}

// Starved gives the evidence that fewer trials than share are of the first
// kind, part of all, and materially so: by about a tenth or more. It is the
// anytime-valid form of the check for a wrong traffic split (Lindon and Malek,
// "Anytime-valid inference for multinomial count data", NeurIPS 2022).
func Starved(part, all int, share float64) float64 {
	share = clamp(share)
	c := Count{N: all, Bad: part}
	return mean([]float64{ratio(c, share/2, share), ratio(c, share*0.8, share)})
}

// ratio is the logarithm of the likelihood ratio of rate p against q.
func ratio(c Count, p, q float64) float64 {
	bad, good := float64(c.Bad), float64(c.N-c.Bad)
	return bad*math.Log(p/q) + good*math.Log((1-p)/(1-q))
}

// mean is ln of the mean of the exponentials.
func mean(logs []float64) float64 {
	top := math.Inf(-1)
	for _, l := range logs {
		top = math.Max(top, l)
	}
	sum := 0.0
	for _, l := range logs {
		sum += math.Exp(l - top)
	}
	return top + math.Log(sum/float64(len(logs)))
}

// clamp keeps a rate where its logarithms are finite.
func clamp(p float64) float64 {
	if !(p > 1e-9) { // also NaN
		return 1e-9
	}
	return math.Min(p, 1-1e-9)
}
