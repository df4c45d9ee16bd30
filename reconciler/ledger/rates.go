package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"locktide.dev/schema"
)

// Rate counts what was done lately, in steps of five minutes, so that it is
// small however much was done. A step counts until all of it is an hour ago.
type Rate struct {
	First int64 `json:"first,omitempty"` // step that N begins with, since 1970
	N     []int `json:"n,omitempty"`
}

const (
	step    = 5 * time.Minute
	perHour = int64(hour/step) + 1 // steps that may have seen a part of the last hour
)

func stepOf(t time.Time) int64 { return t.Unix() / int64(step/time.Second) }

// at gives the rate as it counts at now. What a clock that was set back has
// still to come counts as done now.
func (r Rate) at(now time.Time) Rate {
	last := stepOf(now)
	if skip := last - perHour + 1 - r.First; skip > 0 {
		r.First, r.N = r.First+skip, r.N[min(skip, int64(len(r.N))):]
	}
	if ahead := r.First + int64(len(r.N)) - 1 - last; ahead > 0 && len(r.N) > 0 {
		early := max(0, int64(len(r.N))-ahead-1)
		r.First, r.N = min(r.First, last), append(slices.Clone(r.N[:early]), sum(r.N[early:]))
	}
	if len(r.N) == 0 {
		return Rate{}
	}
	return r
}

func sum(list []int) (n int) {
	for _, x := range list {
		n += x
	}
	return n
}

// Of is how much of the last hour counts at now.
func (r Rate) Of(now time.Time) int { return sum(r.at(now).N) }

// with gives the rate with n more done at now.
func (r Rate) with(n int, now time.Time) Rate {
	r = r.at(now)
	if len(r.N) == 0 {
		r.First = stepOf(now)
	}
	list := make([]int, stepOf(now)-r.First+1)
	copy(list, r.N)
	list[len(list)-1] += n
	r.N = list
	return r
}

// frees is when at most room of it count any more.
func (r Rate) frees(room int, now time.Time) time.Time {
	r = r.at(now)
	for i, left := 0, sum(r.N); i < len(r.N); i++ {
		if left -= r.N[i]; left <= room {
			return time.Unix((r.First+int64(i)+perHour)*int64(step/time.Second), 0)
		}
	}
	return now
}

// Same says whether two rates are the same.
func (r Rate) Same(o Rate) bool { return r.First == o.First && slices.Equal(r.N, o.N) }

func datacenterRate(name string) string { return "datacenter:" + name }

func kindRate(kind schema.Kind) string { return "kind:" + string(kind) }

// placeOf is an action's datacenter, or the backend of what belongs to none.
func placeOf(a schema.Action) string { return cmp.Or(a.Charge.Datacenter, a.Key.Instance) }

// rate holds what takes members to the rates of its group, datacenter and kind.
// A rollout begins only where its whole group may still be replaced, so that it
// does not stop half-way for it.
func (l *Ledger) rate(a schema.Action, info Info, lim Limits, now time.Time) (schema.Reason, bool) {
	n, whole, group := a.Charge.Members, a.Charge.Members, l.Groups.Get(a.Charge.Group)
	if a.Charge.Opens && !l.Open.Has(a.Rollout) {
		whole = max(n, a.Charge.Of)
	}
	for _, x := range []struct {
		of, setting  string
		rate         Rate
		limit, takes int
	}{
		{"group " + a.Charge.Group, "turnovers_per_hour", group.Hour, lim.Turnovers * max(a.Charge.Of, n, group.Of), whole},
		{"datacenter " + a.Charge.Datacenter, "datacenter_members_per_hour", l.Rates[datacenterRate(a.Charge.Datacenter)], lim.DatacenterMembers, n},
		{"kind " + string(a.Key.Kind), "kind_members_per_hour", l.Rates[kindRate(a.Key.Kind)], lim.KindMembers, n},
	} {
		used := x.rate.Of(now)
		if used == 0 || used+x.takes <= x.limit { // what is larger than a limit goes when nothing else does
			continue
		}
		return schema.Reason{Code: schema.WaitRate, Message: fmt.Sprintf("%d of %d members that may be taken in an hour from %s are used, and it takes %d; it goes on at %s",
			used, x.limit, x.of, x.takes, x.rate.frees(max(0, x.limit-x.takes), now).UTC().Format(time.TimeOnly)),
			Next: fmt.Sprintf("time, or limits.%s of the daemon; what goes back does not wait: locktide rollback %s", x.setting, info.Partition)}, false
	}
	return schema.Reason{}, true
}

// take books the members that an action takes, once per decision.
func (l *Ledger) take(a schema.Action, now time.Time) {
	was, n := l.Groups.Get(a.Charge.Group), a.Charge.Members
	if n == 0 || a.Charge.Group == "" {
		return
	}
	if was.ID == a.ID { // sent again, after a crash
		was.At = now
		l.Groups = l.Groups.With(a.Charge.Group, was)
		return
	}
	l.Groups = l.Groups.With(a.Charge.Group, Taken{ID: a.ID, Rollout: a.Rollout, Members: n, At: now, Hour: was.Hour.with(n, now), Of: max(was.Of, a.Charge.Of)})
	for _, name := range []string{datacenterRate(a.Charge.Datacenter), kindRate(a.Key.Kind)} {
		l.Rates[name] = l.Rates[name].with(n, now)
	}
}

// deletion holds deletions to what may go in an hour, of a kind and in a datacenter.
func (l *Ledger) deletion(a schema.Action, owned int, lim Limits) (schema.Reason, bool) {
	var kind, place []Stamp
	for k, stamps := range l.Deletes {
		for _, s := range stamps {
			if s.Key == a.Key { // tried again
				return schema.Reason{}, true
			}
			if k == a.Key.Kind {
				kind = append(kind, s)
			}
			if s.Datacenter == placeOf(a) {
				place = append(place, s)
			}
		}
	}
	for _, x := range []struct {
		of, next string
		stamps   []Stamp
		limit    int
	}{
		{"of " + string(a.Key.Kind), "", kind, lim.Deletions.Of(owned)},
		{"in " + placeOf(a), ", or limits.datacenter_deletions_per_hour of the daemon", place, lim.DatacenterDeletions},
	} {
		if len(x.stamps) >= x.limit {
			first := slices.MinFunc(x.stamps, func(a, b Stamp) int { return a.At.Compare(b.At) })
			return schema.Reason{Code: schema.WaitCap, Message: fmt.Sprintf("%d of %d deletions %s in this hour are used; the next is free at %s",
				len(x.stamps), x.limit, x.of, first.At.Add(hour).UTC().Format(time.TimeOnly)), Next: "a tombstone (remove) or an approval" + x.next}, false
		}
	}
	return schema.Reason{}, true
}

// delete books a deletion; one that is tried again is one.
func (l *Ledger) delete(a schema.Action, now time.Time) {
	if !slices.ContainsFunc(l.Deletes[a.Key.Kind], func(s Stamp) bool { return s.Key == a.Key }) {
		l.Deletes[a.Key.Kind] = append(l.Deletes[a.Key.Kind], Stamp{a.Key, placeOf(a), now})
	}
}
