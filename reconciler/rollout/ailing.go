package rollout

import (
	"fmt"
	"slices"
	"time"

	"locktide.dev/schema"
)

// ailing says why nothing may begin beside or after what the rollout finished:
// the release that it brought there passes no more, or nobody knows. What is
// finished stays as it is: only what dies there is its own fault for sure (see
// relapse).
func (t *turn) ailing() schema.Reason {
	if t.ails == nil {
		why := t.ail()
		t.ails = &why
	}
	return *t.ails
}

func (t *turn) ail() schema.Reason {
	if t.r.waived(t.s, t.now) {
		return schema.Reason{}
	}
	for i := range t.r.Items {
		it := &t.r.Items[i]
		if it.State != StateDone || it.Paced == nil || !it.Paced.Gated || it.To == (schema.Entry{}) || !it.fresh() || t.restores(it) {
			continue
		}
		if why := t.s.Blind[it.Group]; why != "" {
			t.read(it)
			return schema.Reason{Code: schema.WaitBlind, Message: it.Group + " is finished, and cannot be seen: " + why}
		}
		if t.membersBefore(it, t.now.Add(-t.staleness())) {
			t.read(it)
			return schema.Reason{Code: schema.WaitObserve, Message: fmt.Sprintf("%s is finished, and was last seen %s ago", it.Group, t.now.Sub(t.s.MembersAt[it.Group]).Round(time.Second))}
		}
		b := t.budget(it)
		stands := func(span time.Duration) bool {
			return b.every(b.members, func(x portion) bool { return t.stand(it, x, span) })
		}
		switch {
		case stands(soak(it)):
		case stands(0): // as after break-glass, which sets the soak aside
			t.read(it)
			return schema.Reason{Code: schema.WaitSoak, Message: fmt.Sprintf("%s is finished, and its members soak: %d of %d pass for %s", it.Group, t.sound(it, b.members, soak(it)), b.N, soak(it))}
		default:
			t.read(it)
			return schema.Reason{Code: schema.WaitFailed, Message: fmt.Sprintf("%s is finished, and too many of its members fail since: %d of %d pass on release %s for %s, cap %d",
				it.Group, t.sound(it, b.members, soak(it)), b.N, it.To.Release.Short(), soak(it), b.Cap),
				Next: fmt.Sprintf("members that pass again, another release, locktide abort %s, or past it: locktide override-gates %s", t.r.Partition, t.r.Partition)}
		}
	}
	return schema.Reason{}
}

// stand says whether no more members of a finished item are missing than may be
// out, and one is there.
func (t *turn) stand(it *Item, x portion, span time.Duration) bool {
	n := t.sound(it, x.list, span)
	return x.N-n <= x.Cap && (n > 0 || x.N == 0)
}

// sound counts members of the release that pass, and did for so long: one that
// crashes again and again passes in between. Those that somebody accepted as
// they are count.
func (t *turn) sound(it *Item, members []schema.Member, span time.Duration) int {
	n := 0
	for _, m := range members {
		since := m.Since.Add(span)
		switch {
		case !it.has(m):
		case slices.Contains(it.Accepted, m.ID):
			n++
		case good(*it.Paced, m) && !t.now.Before(since):
			n++
		case good(*it.Paced, m):
			t.wake(since)
		}
	}
	return n
}
