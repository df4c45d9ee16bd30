package reconciler

import (
	"fmt"
	"slices"
	"time"

	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// progress fills in where a rollout's groups stand: members done, starting and
// next, by name, and an estimate of the time that is left.
func (l *Loop) progress(p *schema.PartitionReport, r rollout.Rollout, m *members, held map[string]bool, now time.Time) {
	var left time.Duration
	known, begun := true, false
	for i, it := range r.Items {
		if it.Paced == nil || !it.Paced.Gated || it.To == (schema.Entry{}) {
			continue
		}
		begun = begun || it.Started
		x := &p.Items[i]
		list := m.groups[it.Group]
		b := rollout.Capacity(*it.Paced, l.st.live[it.Key], list, held, r.Restores(it))
		window := it.Parallel
		if window == 0 {
			window = b.Cap
		}
		x.Members = max(b.N, len(list))
		var waiting []schema.Member
		for _, y := range list {
			switch {
			case y.Release != it.To.Release && slices.Contains(it.Flight, y.ID):
				x.Starting = append(x.Starting, y.ID)
			case y.Release != it.To.Release:
				waiting = append(waiting, y)
			case it.State != rollout.StateDone && (y.Approved == nil || !*y.Approved) && !slices.Contains(it.Known, y.ID): // who was there stays
				x.Starting = append(x.Starting, y.ID)
			default:
				x.Done++
			}
		}
		if it.State == rollout.StateDone {
			continue
		}
		for _, v := range b.Victims(it.To.Release, window, it.Flight...) {
			x.Next = append(x.Next, v.ID)
		}
		batches := b.Batches(waiting, window)
		x.Batches = it.Round + batches
		each := pause(it.Paced.Pacing)
		if it.Round > 0 && !it.StagedAt.IsZero() {
			each = max(each, now.Sub(r.Started)/time.Duration(it.Round))
		} else {
			known = known && it.Round == 0 && len(list) > 0
		}
		left += each * time.Duration(max(1, batches+min(1, len(x.Starting))))
	}
	active := r.Phase == rollout.PhaseRolling || r.Phase == rollout.PhaseBack
	if known && begun && active && left > 0 {
		p.ETA = now.Add(left)
	}
	p.IfContinue, p.IfAbort = ifContinue(r, p.Items), l.ifAbort(r, m, held)
}

// pause is the least that a batch takes.
func pause(p schema.Pacing) time.Duration {
	soak := p.Soak.Std()
	if soak == 0 {
		soak = 15 * time.Second
	}
	return soak + p.Wait.Std()
}

func ifContinue(r rollout.Rollout, items []schema.ItemReport) string {
	switch r.Phase {
	case rollout.PhaseBraked:
		n, next := 0, 0
		for _, x := range items {
			n, next = n+len(x.Starting), next+len(x.Next)
		}
		return fmt.Sprintf("accepts %s that are not well yet and goes on with the next %d", plural(n, "member"), next)
	case rollout.PhaseIncomplete:
		return "calls it done with the failed members as they are"
	}
	return ""
}

// ifAbort says what going back would take.
func (l *Loop) ifAbort(r rollout.Rollout, m *members, held map[string]bool) string {
	if r.Back || (r.Phase != rollout.PhaseRolling && r.Phase != rollout.PhaseBraked && r.Phase != rollout.PhaseIncomplete) {
		return ""
	}
	back, most, undone := 0, 0, 0
	for _, it := range r.Items {
		if !it.Started {
			continue
		}
		undone++
		if it.Paced == nil || it.To == (schema.Entry{}) || it.From.Release == it.To.Release {
			continue
		}
		paced := it.Paced
		if it.Was != nil {
			paced = it.Was
		}
		b := rollout.Capacity(*paced, l.st.live[it.Key], m.groups[it.Group], held, rollout.RestoreShare)
		most = max(most, b.Cap)
		for _, y := range m.groups[it.Group] {
			if y.Release == it.To.Release {
				back++
			}
		}
	}
	if undone == 0 {
		return "ends it; nothing was changed yet"
	}
	if back == 0 {
		return fmt.Sprintf("takes %s back; no member is replaced", plural(undone, "object"))
	}
	return fmt.Sprintf("takes %s back: %s replaced again, at most %d of a group at once", plural(undone, "object"), plural(back, "member"), most)
}
