package reconciler

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// Changes gives the timeline of all writers since a time, oldest first: the
// journal's own, and what the backends tell of others (humans' versions,
// autoscalers, their own restarts). Backends are asked only here, when
// somebody looks; missing says which could not tell.
func (l *Loop) Changes(ctx context.Context, since time.Time) (all []schema.HistoryEntry, missing []string) {
	all = l.History(since)
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, d := range l.cfg.Drivers {
		w, ok := d.(drivers.Writer)
		if !ok {
			continue
		}
		asked.Go(func() {
			call, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
			defer cancel()
			theirs, err := w.Changes(call, since)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = append(missing, backendName(d)+": "+err.Error())
			}
			all = append(all, theirs...)
		})
	}
	asked.Wait()
	slices.Sort(missing)
	slices.SortStableFunc(all, func(a, b schema.HistoryEntry) int { return a.At.Compare(b.At) })
	all = attributed(all)
	complete(all, l.Report())
	return all, missing
}

// complete names app and group where a backend knows only the object, and
// counts the members that each foreign write replaced.
func complete(all []schema.HistoryEntry, r *schema.Report) {
	objects := map[schema.Key]schema.ObjectReport{}
	for _, o := range r.Objects {
		objects[o.Key] = o
	}
	members := map[schema.Key][]schema.MemberReport{}
	for _, g := range r.Groups {
		for _, m := range g.Members {
			members[m.Key] = append(members[m.Key], m)
		}
	}
	next := map[schema.Key]time.Time{} // the write that follows
	for i := len(all) - 1; i >= 0; i-- {
		h := &all[i]
		if h.Key == nil {
			continue
		}
		if o, ok := objects[*h.Key]; ok {
			h.Group = orElse(h.Group, o.Group)
			if h.App == "" && len(o.Apps) > 0 {
				h.App = o.Apps[0]
			}
		}
		if strings.HasPrefix(h.What, "drift") || h.Writer == "nomad" {
			continue
		}
		if h.Writer == "foreign" || h.Writer == "autoscaler" {
			for _, m := range members[*h.Key] {
				if end := next[*h.Key]; !m.Created.Before(h.At) && (end.IsZero() || m.Created.Before(end)) {
					h.Starts++
				}
			}
		}
		next[*h.Key] = h.At
	}
}
