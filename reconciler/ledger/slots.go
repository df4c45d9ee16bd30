package ledger

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"locktide.dev/schema"
)

// Slot is an open disruptive rollout. It has a place in each datacenter where it
// works, and gives it back before it waits for one elsewhere: nobody waits for
// somebody who waits.
type Slot struct {
	At          time.Time `json:"at"`
	Fleet       string    `json:"fleet,omitempty"`
	Datacenters []string  `json:"datacenters"`
	Commit      string    `json:"commit,omitempty"`
	Judged      bool      `json:"judged,omitempty"` // its commit counts it as failed already
}

// Same says whether two slots are the same.
func (s Slot) Same(o Slot) bool {
	return s.At.Equal(o.At) && s.Fleet == o.Fleet && slices.Equal(s.Datacenters, o.Datacenters) && s.Commit == o.Commit && s.Judged == o.Judged
}

// used counts the open slots. It never changes: versions of a ledger share it.
type used struct{ fleets, datacenters map[string]int }

// with counts a slot in (n 1) or out (-1).
func (u used) with(s Slot, n int) used {
	count := func(m map[string]int, names ...string) map[string]int {
		out := maps.Clone(m)
		if out == nil {
			out = map[string]int{}
		}
		for _, name := range names {
			out[name] += n
		}
		return out
	}
	return used{count(u.fleets, s.Fleet), count(u.datacenters, s.Datacenters...)}
}

func (l *Ledger) setSlot(rollout string, s Slot) {
	l.freeSlot(rollout)
	l.Open, l.used = l.Open.With(rollout, s), l.used.with(s, 1)
}

func (l *Ledger) freeSlot(rollout string) (s Slot, open bool) {
	if s, open = l.Open.Find(rollout); open {
		l.Open, l.used = l.Open.Without(rollout), l.used.with(s, -1)
	}
	return s, open
}

// open records an open disruptive rollout; one that is open already is not
// counted again.
func (l *Ledger) open(rollout string, info Info, now time.Time) {
	if l.Open.Has(rollout) {
		return
	}
	l.setSlot(rollout, Slot{At: now, Fleet: info.Fleet, Commit: info.Commit})
	if info.Commit != "" {
		c := l.Commits.Get(info.Commit)
		c.At, c.Started, c.InWave, c.Wave = now, c.Started+1, c.InWave+1, max(1, c.Wave)
		l.Commits = l.Commits.With(info.Commit, c)
	}
}

// slot says whether a rollout may open.
func (l *Ledger) slot(info Info, env *admission) (schema.Reason, bool) {
	if why, ok := l.commit(info, env); !ok && !env.off.noCommit {
		return why, false
	}
	c, inFleet := l.Commits.Get(info.Commit), l.used.fleets[info.Fleet]
	switch {
	case info.Commit != "" && c.InWave >= max(1, c.Wave) && !env.off.noSlow:
		return schema.Reason{Code: schema.WaitSlowStart, Message: fmt.Sprintf("commit %s spreads in waves; this one has %d, %d are well", short(info.Commit), c.Wave, c.Clean),
			Next: "the end of those of its rollouts that run (locktide status)"}, false
	case inFleet >= env.Limits.Fleet && !env.off.noSlots:
		return schema.Reason{Code: schema.WaitFleet, Message: fmt.Sprintf("%d of %d disruptive rollouts are open", inFleet, env.Limits.Fleet),
			Next: "one of them ends (locktide status); or limits.rollouts of the daemon"}, false
	}
	return schema.Reason{}, true
}

// place says whether a rollout may work in an action's datacenter. One that may
// not, and works nowhere else just now, gives back the places that it has.
func (l *Ledger) place(a schema.Action, info Info, env *admission) (schema.Reason, bool) {
	datacenter := a.Charge.Datacenter
	s, open := l.Open.Find(a.Rollout)
	if datacenter == "" || slices.Contains(s.Datacenters, datacenter) || info.Back || !open && !a.Charge.Opens || env.off.noSlots {
		return schema.Reason{}, true
	}
	n, limit := l.used.datacenters[datacenter], env.Limits.Datacenter
	if n < limit {
		return schema.Reason{}, true
	}
	if open && !env.off.noReturn {
		l.setSlot(a.Rollout, s.in(info.WorksIn))
	}
	return schema.Reason{Code: schema.WaitFleet, Message: fmt.Sprintf("%d of %d disruptive rollouts are open in %s", n, limit, datacenter),
		Next: "one of them ends, or leaves " + datacenter + "; or limits.rollouts_per_datacenter of the daemon"}, false
}

// in gives the slot with those of its places that are among datacenters.
func (s Slot) in(datacenters []string) Slot {
	s.Datacenters = slices.DeleteFunc(slices.Clone(s.Datacenters), func(dc string) bool { return !slices.Contains(datacenters, dc) })
	return s
}

// enter books that an open rollout works in a datacenter, and no more where it
// is done.
func (l *Ledger) enter(a schema.Action, info Info) {
	s, open := l.Open.Find(a.Rollout)
	if !open || a.Charge.Datacenter == "" || slices.Contains(s.Datacenters, a.Charge.Datacenter) {
		return
	}
	s = s.in(info.WorksIn)
	s.Datacenters = append(s.Datacenters, a.Charge.Datacenter)
	l.setSlot(a.Rollout, s)
}

// End frees a rollout's slot and judges its commit: a wave whose rollouts all
// ended well doubles the next one, up to slowStart (0: its default), any
// failure repeats its size. Ending what is not open changes nothing.
func (l *Ledger) End(rollout string, failed bool, slowStart int) {
	if s, open := l.freeSlot(rollout); open && !s.Judged {
		l.judge(s.Commit, failed, slowStart)
	}
}

// Stand judges the commit of a rollout that failed and stands until somebody
// decides: it keeps its slot, and holds up no other of its commit.
func (l *Ledger) Stand(rollout string, slowStart int) {
	s, open := l.Open.Find(rollout)
	if !open || s.Judged {
		return
	}
	s.Judged = true
	l.setSlot(rollout, s)
	l.judge(s.Commit, true, slowStart)
}

// Drop frees the slot of a rollout that came to no end of its own (a newer
// commit or an operator took it away): that says nothing of its commit.
func (l *Ledger) Drop(rollout string) {
	s, open := l.freeSlot(rollout)
	if c, ok := l.Commits.Find(s.Commit); open && ok && !s.Judged {
		c.Started, c.InWave = max(0, c.Started-1), max(0, c.InWave-1)
		l.Commits = l.Commits.With(s.Commit, c)
	}
}
