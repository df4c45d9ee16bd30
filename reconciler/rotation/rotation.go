// Package rotation decides who serves: the level-triggered path from members
// and bits to proxies. It is pure, and fail-static: without evidence, or when
// too many members or the last one lose their health while they still run, the last
// known state is kept until a later reading confirms the loss.
package rotation

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"locktide.dev/schema"
)

// Limits of fail-static behaviour; zero values mean the defaults.
type Limits struct {
	FlipShare int                  // percent of a group that may lose health in one interval; default 30
	Confirm   time.Duration        // how long a mass loss must last to be believed; default 10 s
	Now       time.Time            // of this decision; zero: nothing is ever confirmed
	ReadAt    time.Time            // when the reading of the members began; zero: now
	Suspect   map[string]time.Time // from Suspects: since when running members lack health; nil: Member.Since says it
	Old       bool                 // the reading may be one of before an outage: nobody is pulled in who did not serve
	Checked   bool                 // members have checks: without evidence nobody is pulled in, and nobody is dropped
}

const (
	defaultFlipShare = 30
	defaultConfirm   = 10 * time.Second
)

// Decide gives the group's members in rotation, sorted by id. Fresh says
// whether members are a complete, recent reading. What is deliberate (a bit,
// a member that stopped or is gone) passes at once; nobody who is held out by
// any bit is ever pulled in.
func Decide(group string, members []schema.Member, bits schema.Bits, last schema.Serving, fresh bool, lim Limits) schema.Serving {
	if !fresh {
		return keep(group, bits, last, members)
	}
	before := map[string]schema.Endpoint{}
	for _, e := range last.Members {
		before[e.ID] = e
	}
	var out schema.Serving
	var lost []schema.Member
	unknown := 0
	for _, m := range members {
		if Held(group, m, bits) {
			continue
		}
		_, served := before[m.ID]
		switch {
		case healthy(m, lim) && (served || !lim.Old):
			out.Members = append(out.Members, schema.Endpoint{ID: m.ID, Address: m.Address, Ports: m.Ports})
		case served && m.Running && !m.Failed && m.Passing == nil:
			out.Members = append(out.Members, before[m.ID]) // no evidence is none against it either
			unknown++
		case served && m.Running && !m.Failed:
			lost = append(lost, m)
		}
	}
	if unknown > 0 {
		out.Blind = fmt.Sprintf("nothing is known of the health of %d of %d members that run; they are kept", unknown, len(last.Members))
	}
	share := cmp.Or(lim.FlipShare, defaultFlipShare)
	many := len(lost) >= 2 && len(lost)*100 > share*len(last.Members)
	if many || len(lost) > 0 && len(out.Members) == 0 { // without anybody every request fails, with a doubtful one perhaps
		kept := 0
		for _, m := range lost {
			if !confirmed(m, lim) {
				out.Members = append(out.Members, before[m.ID])
				kept++
			}
		}
		if kept > 0 {
			out.Blind = fmt.Sprintf("%d of %d members lost their health at once while they still run; kept until a second reading confirms it", kept, len(last.Members))
		}
	}
	sorted(out.Members)
	return out
}

// keep is the last state, less what bits hold out.
func keep(group string, bits schema.Bits, last schema.Serving, members []schema.Member) schema.Serving {
	known := map[string]schema.Member{}
	for _, m := range members {
		known[m.ID] = m
	}
	out := schema.Serving{Blind: cmp.Or(last.Blind, "its members could not be read; the last known state is kept")}
	for _, e := range last.Members {
		m, ok := known[e.ID]
		if !ok {
			m = schema.Member{ID: e.ID}
		}
		if !Held(group, m, bits) {
			out.Members = append(out.Members, e)
		}
	}
	sorted(out.Members)
	return out
}

// Held says whether any owner's bit is down for the member.
func Held(group string, m schema.Member, bits schema.Bits) bool {
	_, down := Holder(group, m, bits)
	return down
}

// Holder gives the bit that is down for the member: the host's, else the
// operator's, else the release's.
func Holder(group string, m schema.Member, bits schema.Bits) (schema.Bit, bool) {
	find := func(set map[string]schema.Bit, names ...string) (schema.Bit, bool) {
		for _, n := range names {
			if bit, down := set[n]; down && n != "" {
				return bit, true
			}
		}
		return schema.Bit{}, false
	}
	if bit, down := find(bits.Hosts, m.Host, m.Node); down {
		return bit, true
	}
	if bit, down := find(bits.Operator, m.ID, m.Host, m.Node, group); down {
		return bit, true
	}
	return find(bits.Release, m.ID)
}

// Suspects carries forward since when running members lack health; the caller
// keeps the result and passes it in Limits.Suspect the next time.
func Suspects(before map[string]time.Time, members []schema.Member, now time.Time, lim Limits) map[string]time.Time {
	out := map[string]time.Time{}
	for _, m := range members {
		if m.Running && !m.Failed && !healthy(m, lim) {
			out[m.ID] = now
			if at, ok := before[m.ID]; ok {
				out[m.ID] = at
			}
		}
	}
	return out
}

// Confirms says when a loss of health is to be believed next, if a reading that
// is newer than the loss shows it then; zero: never. Read says that such a
// reading is due now.
func Confirms(suspects map[string]time.Time, lim Limits) (next time.Time, read bool) {
	for _, since := range suspects {
		at := since.Add(cmp.Or(lim.Confirm, defaultConfirm))
		switch {
		case at.After(lim.Now):
		case lim.readAt().After(since):
			continue
		default:
			at, read = lim.Now.Add(readAgain), true
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next, read
}

const readAgain = time.Second // a second reading is looked for so often

func (lim Limits) readAt() time.Time {
	if lim.ReadAt.IsZero() {
		return lim.Now
	}
	return lim.ReadAt
}

func healthy(m schema.Member, lim Limits) bool {
	if m.Passing == nil {
		return m.Running && !m.Failed && !lim.Checked
	}
	return m.Running && !m.Failed && *m.Passing
}

func confirmed(m schema.Member, lim Limits) bool {
	since := m.Since
	if lim.Suspect != nil {
		at, ok := lim.Suspect[m.ID]
		if !ok {
			return false
		}
		since = at
	}
	return !lim.Now.IsZero() && lim.readAt().After(since) && !lim.Now.Before(since.Add(cmp.Or(lim.Confirm, defaultConfirm)))
}

func sorted(es []schema.Endpoint) {
	slices.SortFunc(es, func(a, b schema.Endpoint) int { return cmp.Compare(a.ID, b.ID) })
}
