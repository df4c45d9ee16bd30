package rollout

import (
	"cmp"
	"maps"
	"slices"

	"locktide.dev/schema"
)

// Budget is a group's capacity by the one rule: members that are out, plus
// those in rotation that an action touches, are at most Cap, and at least one
// of two or more stays. Members above N (a surge, or those that a lower count
// gives up) make up for touched ones. A member that is still coming up counts
// on the worse side: it may serve when an action that takes it arrives, and it
// may not when one that relies on it does.
type Budget struct {
	N       int // desired members
	Cap     int // members that may be out at once
	Serving int // members in rotation
	Out     int // members that are missing from rotation, for any reason
	Free    int // members in rotation that may be taken now

	floor   int
	batch   int             // members in rotation that one batch takes at most
	members []schema.Member // by name index, as the backend replaces them
	in      map[string]bool // in rotation
	coming  map[string]bool // not in rotation, but may be at any moment
	counted map[string]bool // out, and whoever is taken in their place does not make up for it
	leaving []schema.Member // in rotation, or may be, as long as a drain has not moved them; to be replaced
	places  map[string]int  // in the order of the backend, while somebody is leaving

	// Of a job with several parts, by name: the rule holds in each of them, and
	// the figures above are their sums.
	parts map[string]*Budget
}

// Shares of a group's members, in percent, that may be out at once while it
// goes back to what was good, unless its own is larger.
const (
	RestoreShare = 33
	FastShare    = 50 // where an operator asked for it
)

// Capacity gives a group's budget. Live is the last reading, whose desired
// count counts for autoscaled and system groups; held names members, hosts,
// nodes and groups that somebody holds out; restores is the share, in percent, of one
// that goes back to what was good (0: it does not).
func Capacity(p schema.Paced, live schema.LiveObject, members []schema.Member, held map[string]bool, restores int) Budget {
	return byPart(p, live.Count, live.Counts, members, func(p schema.Paced, live int, members []schema.Member) Budget {
		return capacity(p, desired(p, live, len(members)), members, held, restores, 0)
	})
}

// comingUp gives the members that are out and may be in rotation by the time a
// write takes effect: they pass and are not confirmed yet, or start and have
// neither failed nor had longer than timeout; or they are held and their proxy
// has not let them go yet.
func (b Budget) comingUp(p schema.Paced, held map[string]bool, bits map[string]schema.Bit, late func(schema.Member) bool) map[string]bool {
	out := map[string]bool{}
	for _, m := range b.members {
		_, down := bits[m.ID]
		dead := !good(p, m) && (m.Failed || m.Restarts > 0 || late(m))
		if IsHeld(held, m) || down {
			if m.Serving && m.Running {
				out[m.ID] = true
			}
		} else if !b.in[m.ID] && !dead {
			out[m.ID] = true
		}
	}
	return out
}

// leave expects the worst of members on nodes from which their backend moves
// them away: they may be gone when the window comes to them, so that it takes
// others; and those that serve may not when others are taken. Those that are to
// be replaced may be there still as well (stay).
func (b *Budget) leave(nodes map[string]bool, replaced func(schema.Member) bool) {
	leaves := func(m schema.Member) bool { return m.Node != "" && nodes[m.Node] }
	for i, m := range b.members {
		if leaves(m) && replaced(m) && m.Serving && m.Running {
			b.leaving = append(b.leaving, m)
		}
		if len(nodes) > 0 {
			if b.places == nil {
				b.places = map[string]int{}
			}
			b.places[m.ID] = i
		}
	}
	maps.DeleteFunc(b.in, func(id string, _ bool) bool {
		return slices.ContainsFunc(b.members, func(m schema.Member) bool { return m.ID == id && leaves(m) })
	})
	b.Serving = len(b.in)
	b.Out = max(0, b.N-b.Serving)
	slices.SortStableFunc(b.members, func(x, y schema.Member) int {
		switch {
		case leaves(x) == leaves(y):
			return 0
		case leaves(x):
			return 1
		}
		return -1
	})
}

// IsHeld says whether a member is held out of rotation: itself, its host or
// node, or its group as a whole.
func IsHeld(held map[string]bool, m schema.Member) bool {
	return held[m.ID] || held[m.Host] || held[m.Node] || held[m.Group]
}

func capacity(p schema.Paced, n int, members []schema.Member, held map[string]bool, restores, round int) Budget {
	b := Budget{N: n, Cap: limit(p, n, restores, round), in: map[string]bool{}}
	if n >= 2 && !p.Pacing.AllowZero {
		b.floor = 1
	}
	for _, m := range members {
		if m.Serving && m.Running && !IsHeld(held, m) {
			b.in[m.ID] = true
		}
	}
	b.members = ordered(p, members, b.in)
	b.Serving = len(b.in)
	b.Out, b.batch = max(0, n-b.Serving), b.Cap
	b.Free = max(0, min(b.Cap-b.Out+max(0, b.Serving-n), b.Serving-b.floor))
	return b
}

// ordered gives members as the backend replaces them.
func ordered(p schema.Paced, members []schema.Member, in map[string]bool) []schema.Member {
	out := slices.Clone(members)
	slices.SortStableFunc(out, func(x, y schema.Member) int {
		if p.System && in[x.ID] != in[y.ID] { // the order of nodes is unknown: expect the worst
			if in[x.ID] {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(x.Index, y.Index), cmp.Compare(x.ID, y.ID))
	})
	return out
}

// Victims gives those whom a window of n takes, as the backend takes them, of
// the members that are not on the release; but not those who are taken already.
func (b Budget) Victims(release schema.Digest, n int, already ...string) []schema.Member {
	return b.front(slices.DeleteFunc(slices.Clone(b.members), func(m schema.Member) bool {
		return m.Release == release || slices.Contains(already, m.ID)
	}), n)
}

// Batches is how many windows of n the members need.
func (b Budget) Batches(members []schema.Member, n int) int { return (b.longest(members) + n - 1) / n }

// Touches counts those of the members that are in rotation.
func (b Budget) Touches(members []schema.Member) int { return among(b.in, members) }

func among(set map[string]bool, members []schema.Member) int {
	n := 0
	for _, m := range members {
		if set[m.ID] {
			n++
		}
	}
	return n
}

// Fits says whether members may be taken together. Members that are out for
// good cost nothing, and being taken no longer count as out. Two kinds do: those
// that the rollout withdrew itself, or it could take as many again, and those
// whose successors are held as they are.
func (b Budget) Fits(members []schema.Member) bool {
	if len(b.parts) > 0 {
		return b.every(members, func(x portion) bool { return x.Fits(x.list) })
	}
	coming := among(b.coming, members)
	serving, in := b.Serving+coming, b.Touches(members)+coming
	if in == 0 {
		return true
	}
	out := max(0, b.N-serving-(len(members)-in-among(b.counted, members)))
	cost := in - max(0, serving-b.N)
	return out+cost <= b.Cap && serving-in >= b.floor
}

// fitsWindow is Fits for those whom a window takes beside others: whether or not
// those that a drain moves away are gone by then.
func (b Budget) fitsWindow(always, window []schema.Member) bool {
	return b.every(nil, func(x portion) bool {
		always, window := x.own(always), x.own(window)
		still, stay := x.stay(always, window)
		return x.Fits(join(always, window)) && still.Fits(join(always, stay))
	})
}

// stay gives the budget if nobody has left yet, and whom a window takes then.
func (b Budget) stay(always, window []schema.Member) (Budget, []schema.Member) {
	if len(b.leaving) == 0 {
		return b, window
	}
	there := slices.Clone(window)
	b.in = maps.Clone(b.in)
	for _, m := range b.leaving {
		if !b.in[m.ID] && !b.coming[m.ID] {
			b.in[m.ID] = true
			b.Serving++
		}
		if !contains(always, m) && !contains(window, m) {
			there = append(there, m)
		}
	}
	slices.SortFunc(there, func(x, y schema.Member) int { return cmp.Compare(b.places[x.ID], b.places[y.ID]) })
	return b, there[:len(window)]
}

// fitsBatch is Fits for a batch: however many a lower count gives up, no more
// are replaced at once than a batch of the group as it is may have.
func (b Budget) fitsBatch(always, batch []schema.Member) bool {
	for name, part := range b.parts {
		if !part.fitsBatch(of(always, name), of(batch, name)) {
			return false
		}
	}
	return len(b.parts) > 0 || b.Touches(batch) <= b.batch && b.fitsWindow(always, batch)
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
	hardShare    = 50 // percent that no setting exceeds
)

// limit is cap: max(1, floor(N x r)).
func limit(p schema.Paced, n int, restores, round int) int {
	if p.Storage {
		return 1
	}
	own := p.Pacing.MaxUnavailable
	if own.IsZero() {
		own = schema.Share{Percent: defaultShare}
	}
	c := own.Of(n)
	switch {
	case restores > 0:
		most := max(c, schema.Share{Percent: restores}.Of(n))
		if slow := throttle(p, restores); slow == nil {
			c = most
		} else if own := slow.MaxUnavailable; !own.IsZero() {
			c = min(own.Of(n), most)
		}
	case len(p.Pacing.Batches) > 0:
		c = share(p, round).Of(n)
	}
	return max(1, min(c, schema.Share{Percent: hardShare}.Of(n)))
}

// throttle is what slows an item down that goes back; nil: nothing does, or an
// operator asked for it to be fast.
func throttle(p schema.Paced, restores int) *schema.Throttle {
	if restores <= 0 || restores >= FastShare {
		return nil
	}
	return p.Pacing.Throttle
}

// share of batch round (from 1); the last one repeats.
func share(p schema.Paced, round int) schema.Share {
	bs := p.Pacing.Batches
	return bs[min(max(round, 1), len(bs))-1]
}
