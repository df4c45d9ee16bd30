package rollout

import (
	"cmp"
	"slices"

	"locktide.dev/schema"
)

// Budget is a group's capacity by the one rule: members that are out, plus
// those in rotation that an action touches, are at most Cap, and at least one
// of two or more stays. Members above N (a surge) make up for touched ones.
type Budget struct {
	N       int // desired members
	Cap     int // members that may be out at once
	Serving int // members in rotation
	Out     int // members that are missing from rotation, for any reason
	Free    int // members in rotation that may be taken now

	floor   int
	members []schema.Member // by name index, as the backend replaces them
	in      map[string]bool // in rotation
}

// Capacity gives a group's budget. Live is the live desired count, which
// counts for autoscaled and system groups (0: unknown); held names members,
// hosts and nodes that somebody holds out; back widens the share to a third.
func Capacity(p schema.Paced, live int, members []schema.Member, held map[string]bool, back bool) Budget {
	return capacity(p, desired(p, live, len(members)), members, held, back, 0)
}

func capacity(p schema.Paced, n int, members []schema.Member, held map[string]bool, back bool, round int) Budget {
	b := Budget{N: n, Cap: limit(p, n, back, round), members: slices.Clone(members), in: map[string]bool{}}
	if n >= 2 && !p.Pacing.AllowZero {
		b.floor = 1
	}
	for _, m := range members {
		if m.Serving && m.Running && !held[m.ID] && !held[m.Host] && !held[m.Node] {
			b.in[m.ID] = true
		}
	}
	slices.SortStableFunc(b.members, func(x, y schema.Member) int {
		if p.System && b.in[x.ID] != b.in[y.ID] { // the order of nodes is unknown: expect the worst
			if b.in[x.ID] {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(x.Index, y.Index), cmp.Compare(x.ID, y.ID))
	})
	b.Serving = len(b.in)
	b.Out = max(0, n-b.Serving)
	b.Free = max(0, min(b.Cap-b.Out+max(0, b.Serving-n), b.Serving-b.floor))
	return b
}

// Victims gives the first n members, as the backend takes them, that are not
// on the release.
func (b Budget) Victims(release schema.Digest, n int) []schema.Member {
	var out []schema.Member
	for _, m := range b.members {
		if m.Release != release && len(out) < n {
			out = append(out, m)
		}
	}
	return out
}

// Touches counts those of the members that are in rotation.
func (b Budget) Touches(members []schema.Member) int {
	n := 0
	for _, m := range members {
		if b.in[m.ID] {
			n++
		}
	}
	return n
}

// Fits says whether members may be taken together. Members that are out
// already cost nothing.
func (b Budget) Fits(members []schema.Member) bool {
	in := b.Touches(members)
	if in == 0 {
		return true
	}
	out := max(0, b.Out-(len(members)-in))
	cost := in - max(0, b.Serving-b.N)
	return out+cost <= b.Cap && b.Serving-in >= b.floor
}

func desired(p schema.Paced, live, listed int) int {
	switch {
	case p.System && live > 0:
		return live
	case p.System:
		return listed
	case p.Autoscaled:
		if live == 0 {
			live = p.Count
		}
		return min(max(live, p.Min, 1), max(p.Max, p.Min, 1))
	}
	return p.Count
}

const (
	defaultShare = 25 // percent out at once
	backShare    = 33 // percent out at once when going back
	hardShare    = 50 // percent that no setting exceeds
)

// limit is cap: max(1, floor(N x r)).
func limit(p schema.Paced, n int, back bool, round int) int {
	if p.Storage {
		return 1
	}
	own := p.Pacing.MaxUnavailable
	if own.IsZero() {
		own = schema.Share{Percent: defaultShare}
	}
	c := own.Of(n)
	switch {
	case back:
		c = max(c, schema.Share{Percent: backShare}.Of(n))
	case len(p.Pacing.Batches) > 0:
		c = share(p, round).Of(n)
	}
	return max(1, min(c, schema.Share{Percent: hardShare}.Of(n)))
}

// share of batch round (from 1); the last one repeats.
func share(p schema.Paced, round int) schema.Share {
	bs := p.Pacing.Batches
	return bs[min(max(round, 1), len(bs))-1]
}
