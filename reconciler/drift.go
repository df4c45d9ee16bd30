package reconciler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/reconciler/planner"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// judgeDrift looks at every object with news that no rollout works on: what
// differs from the target is shown at once, and repaired by the same machine
// that rolls out, from the target to the target.
func (l *Loop) judgeDrift(now time.Time) {
	st := &l.st
	moved := st.unjudged
	st.unjudged = map[schema.Key]bool{}
	for _, k := range sortKeys(moved) {
		live, read := st.live[k]
		entry, targeted := st.target[k]
		if busy := len(st.holders.keys[k]) > 0; busy || !targeted {
			delete(st.drift, k)
			continue
		}
		if !read || live.State == schema.StateEjected || live.State == schema.StateUnknown || !l.tells(k, entry.Digest) {
			continue
		}
		halfway := l.halfway(k)
		if (live.State == schema.StateSame && !halfway) || live.State == schema.StatePresent {
			delete(st.drift, k)
			delete(st.repair, k)
			continue
		}
		if _, known := st.drift[k]; !known {
			st.drift[k] = now
			if halfway {
				live.Reason = "a replacement stands half-way and nobody drives it"
			}
			h := schema.HistoryEntry{Writer: orElse(live.Writer, "unknown writer"), What: "drift: " + string(live.State) + " " + live.Reason, Key: &k}
			if o, ok := l.body(entry.Body); ok {
				h.App, h.Group = partitionOf(&o), o.Group
			}
			l.note(h)
		}
	}
}

// partitionOf names the partition in which an object is repaired by itself.
func partitionOf(o *schema.Object) string {
	if len(o.Apps) > 0 {
		return o.Apps[0]
	}
	return planner.Alone(o.Key, o)
}

// halfway says whether a paced object's gates are still closed although no
// rollout works on it: the record of its rollout was lost.
func (l *Loop) halfway(k schema.Key) bool {
	live := l.st.live[k]
	if live.State != schema.StateSame || live.Progress == nil || live.Progress.Parked {
		return false
	}
	o, ok := l.body(l.st.target[k].Body)
	return ok && o.Paced != nil && o.Paced.Gated
}

func orElse(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// repairDrift starts a repair for what has drifted for long enough.
func (l *Loop) repairDrift(now time.Time) {
	st := &l.st
	if l.observing() || !st.leading {
		return
	}
	byPartition := map[string][]schema.Item{}
	apps := map[string][]string{}
	for _, k := range sortKeys(st.drift) {
		if st.learn[l.backendNamed(k)] != nil {
			continue
		}
		if why := l.keepsDrift(k, now); why.Code != "" {
			st.waits[k] = why
			continue
		}
		entry := st.target[k]
		o, ok := l.body(entry.Body)
		if !ok {
			continue
		}
		id := partitionOf(&o)
		if _, running := st.rollouts[id]; running {
			continue
		}
		verb := schema.VerbUpdate
		if st.live[k].State == schema.StateAbsent {
			verb = schema.VerbCreate
		}
		apps[id] = o.Apps[:min(1, len(o.Apps))]
		byPartition[id] = append(byPartition[id], schema.Item{Key: k, Verb: verb, From: entry, To: entry, Layer: o.Layer, Rank: o.Rank,
			Step: o.Step, Group: o.Group, Reason: schema.Reason{Code: schema.ReasonDrifted, Message: strings.TrimSpace(string(st.live[k].State) + " " + st.live[k].Reason)}})
		delete(st.waits, k)
	}
	for _, id := range sortedKeys(byPartition) {
		items := byPartition[id]
		sortItems(items)
		r := rollout.Start(schema.Partition{ID: id, Apps: apps[id], Items: items}, l.body, st.meta.InForce, now)
		l.keep(r)
		st.news[id] = true
		l.note(schema.HistoryEntry{Writer: "locktide", What: "repairs drift of " + plural(len(items), "object"), App: id})
	}
}

// keepsDrift says why an object's drift is not repaired yet.
func (l *Loop) keepsDrift(k schema.Key, now time.Time) schema.Reason {
	st := &l.st
	live := st.live[k]
	if live.State == schema.StateForeign {
		return schema.Reason{Code: schema.WaitForeign, Message: "a foreign object stands under our name: " + live.Reason, Next: "locktide adopt " + k.String()}
	}
	o, ok := l.body(st.target[k].Body)
	if !ok || st.repair[k] || o.Paced == nil {
		return schema.Reason{}
	}
	if o.Paced.Pacing.Mode == "observe" {
		return schema.Reason{Code: schema.WaitObserve, Message: "its mode is observe", Next: "locktide repair " + o.Group}
	}
	if l.halfway(k) {
		return schema.Reason{}
	}
	if live.State == schema.StateAbsent && !strings.Contains(live.Reason, "stopped") {
		return schema.Reason{} // lost, not stopped by a hand: capacity comes back at once
	}
	after := o.Paced.Pacing.RepairAfter.Std()
	if after == 0 {
		after = 15 * time.Minute
	}
	if due := st.drift[k].Add(after); now.Before(due) {
		return schema.Reason{Code: schema.WaitRepair, Message: fmt.Sprintf("changed by %s; repaired at %s", orElse(live.Writer, "another writer"),
			due.UTC().Format(time.RFC3339)), Next: "locktide repair " + o.Group + ", or put the change into Git to keep it"}
	}
	return schema.Reason{}
}

func sortItems(items []schema.Item) {
	slices.SortFunc(items, func(a, b schema.Item) int {
		for _, d := range []int{int(a.Layer) - int(b.Layer), a.Rank - b.Rank, a.Step - b.Step} {
			if d != 0 {
				return d
			}
		}
		return a.Key.Compare(b.Key)
	})
}
