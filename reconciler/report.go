package reconciler

import (
	"fmt"
	"slices"
	"time"

	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// publish makes the report of the last turn; it is skipped when the last one
// is young and large, so that its cost stays a small part of the loop's time.
func (l *Loop) publish() {
	st := &l.st
	now, began := st.now, time.Now()
	if last := l.report.Load(); !l.moved.Load() || len(st.target) > 500 && began.Sub(last.At) < max(time.Second, 20*st.reportCost) {
		return
	}
	l.moved.Store(false)
	defer func() { st.reportCost = time.Since(began) }()
	m := l.members()
	r := &schema.Report{At: now, Owner: l.cfg.Owner, Head: st.newest, InForce: st.meta.InForce, Fetched: st.fetched, FetchError: st.fetchErr,
		Turn: now, Epoch: st.epoch, Holder: st.holder, Version: l.cfg.Version, Leading: st.leading, Observe: l.observing(), Findings: st.findings, Frozen: st.frozen,
		Awaits: st.lastPlan.Awaits, Quarantine: map[schema.Digest]schema.Verdict{}, Brakes: l.brakes(), Pins: l.pinned(), Overrides: l.setAside(), NoWayBack: st.noWayBack,
		Journal: schema.JournalReport{AppendAt: st.appended, Took: st.appendTook, Backup: st.meta.Backup, Error: st.appendErr}}
	if e, ok := l.cfg.Store.(Exporter); ok {
		r.Journal.Bytes = e.Size()
	}
	for d, v := range st.quarantine {
		r.Quarantine[d] = v
	}
	for _, name := range sortedKeys(st.readings) {
		x := st.readings[name]
		driver, instance := x.driver.Name()
		r.Backends = append(r.Backends, schema.Backend{Driver: driver, Instance: instance, ReadAt: x.at, Error: x.err})
		b := &r.Backends[len(r.Backends)-1]
		if y := st.learn[name]; y != nil {
			b.Unlearned = y.why
		}
		if x.running {
			b.AskedAt = x.began
		}
		if f := st.feeds[name]; f != nil {
			b.FedAt = f.at
		}
		if f := st.feeds[name]; f != nil && f.err != "" && x.err == "" {
			r.Backends[len(r.Backends)-1].Error = f.err
		}
	}
	for _, k := range sortedKeys(st.operator) {
		r.Holds = append(r.Holds, schema.HoldReport{Scope: k, Bit: st.operator[k]})
	}
	r.HoldsWait = l.holdsWait()
	l.reportRollouts(r, m)
	l.reportObjects(r)
	l.reportGroups(r, m)
	r.Health, r.Because = l.health(r)
	if st.fleet != nil {
		l.fleet.Store(st.fleet)
	}
	l.report.Store(r)
	past := attributed(slices.Concat(st.history, st.fresh))
	l.past.Store(&past)
}

func (l *Loop) reportRollouts(r *schema.Report, m *members) {
	st := &l.st
	held := l.held()
	for _, id := range sortedKeys(st.rollouts) {
		x := st.rollouts[id]
		p := schema.PartitionReport{ID: id, Rollout: x.ID, Phase: x.Phase, Back: x.Back, Started: x.Started, Commit: x.Commit, Gates: l.judgments(id)}
		step := st.steps[id]
		if step.Reason.Code != "" {
			p.Why = append(p.Why, step.Reason)
		}
		for _, it := range x.Items {
			why := step.Why[it.Key]
			if refusal, ok := st.refusals[it.Key]; ok {
				why = refusal
				p.Why = append(p.Why, refusal)
			}
			p.Items = append(p.Items, schema.ItemReport{Key: it.Key, Verb: it.Verb, State: it.State, Batch: it.Round, Why: why, Group: it.Group})
		}
		l.progress(&p, x, m, held, r.At)
		r.Partitions = append(r.Partitions, p)
	}
	for _, id := range sortedKeys(st.refused) {
		x := st.refused[id]
		p := schema.PartitionReport{ID: id, Phase: orElse(x.Phase, rollout.PhaseFailed), Commit: x.Verdict.Commit, Why: []schema.Reason{x.Why}}
		if x.Rollout != nil {
			p.Started, p.Commit = x.Rollout.Started, x.Rollout.Commit
			p.IfContinue, p.IfAbort = ifContinue(*x.Rollout, nil), l.ifAbort(*x.Rollout, m, held)
		}
		r.Partitions = append(r.Partitions, p)
	}
}

func (l *Loop) reportObjects(r *schema.Report) {
	st := &l.st
	keys := make(map[schema.Key]bool, len(st.target))
	for k := range st.head.Keys() {
		keys[k] = true
	}
	for k := range st.target {
		keys[k] = true
	}
	by := map[schema.Key][]string{}
	for _, id := range sortedKeys(st.rollouts) {
		for _, it := range st.rollouts[id].Items {
			keys[it.Key] = true
			by[it.Key] = append(by[it.Key], id)
		}
	}
	r.Objects = make([]schema.ObjectReport, 0, len(keys))
	for _, k := range sortKeys(keys) {
		live := st.live[k]
		o := schema.ObjectReport{Key: k, State: live.State, ReadAt: st.readAt[k], Since: st.drift[k], Diff: live.Diff, Writer: live.Writer, Why: l.why(k, by[k])}
		if o.State == "" {
			o.State = schema.StateUnknown
		}
		entry, known := st.target[k]
		if known {
			o.Target = entry.Digest
		}
		if w, ok := st.head.Find(k); ok {
			o.Head = w.Entry.Digest
			entry = w.Entry
		}
		if body, ok := l.body(entry.Body); ok {
			o.Group, o.Apps, o.From, o.Release = body.Group, body.Apps, body.From, body.Release
		}
		r.Objects = append(r.Objects, o)
	}
}

func (l *Loop) reportGroups(r *schema.Report, m *members) {
	st := &l.st
	bits := l.bits()
	held := l.held()
	routed := m.routed
	r.Groups = make([]schema.GroupReport, 0, len(m.groups))
	for _, k := range sortKeys(st.target) {
		o, ok := l.body(st.target[k].Body)
		if !ok || o.Paced == nil || o.Group == "" {
			continue
		}
		list := m.groups[o.Group]
		b := rollout.Capacity(*o.Paced, st.live[k], list, held, 0)
		g := schema.GroupReport{Name: o.Group, Desired: b.N, Serving: b.Serving, Cap: b.Cap, Free: b.Free, Blind: l.blind(m, o.Group)}
		if !o.Paced.Gated { // it runs when it is due: nobody has to serve
			g.Desired, g.Cap, g.Free = 0, 0, 0
		}
		if len(o.Apps) > 0 {
			g.App = o.Apps[0]
		}
		if def, ok := l.group(o.Group); ok {
			g.Release, g.DC = l.version(def, o.Group, k), def.Datacenter
			g.Team = orElse(def.Owner, st.fleet.Apps[def.App].Owner)
			g.Contact = st.fleet.Teams[g.Team].Contact
		}
		g.ReadAt = m.at(o.Group)
		if b := l.backendOf(k); g.ReadAt.IsZero() && b != nil {
			g.ReadAt = b.at // it has no members, and this reading says so
		}
		for _, f := range routed[o.Group] {
			g.Proxies = append(g.Proxies, schema.ProxyReport{Name: f.backend, At: f.at, Error: f.err})
		}
		for _, x := range list {
			mr := schema.MemberReport{Member: x}
			if st.fleet != nil {
				mr.Rack = st.fleet.Hosts[orElse(x.Host, x.Node)].Rack
			}
			for _, f := range routed[o.Group] {
				if slices.Contains(f.serving[o.Group], x.ID) {
					mr.In = append(mr.In, f.backend)
				}
			}
			for _, c := range []struct {
				scope string
				bits  map[string]schema.Bit
				names []string
			}{{"host", bits.Hosts, []string{x.Host, x.Node}}, {"operator", bits.Operator, []string{x.ID, x.Host, x.Node, x.Group}}, {"release", bits.Release, []string{x.ID}}} {
				for _, name := range c.names {
					if bit, down := c.bits[name]; down && name != "" {
						mr.Out = append(mr.Out, schema.HoldReport{Scope: c.scope + ":" + name, Bit: bit})
						break
					}
				}
			}
			if len(mr.Out) > 0 {
				mr.Exposed = l.exposed(x, m)
			}
			if x.Passing != nil && !*x.Passing {
				mr.Out = append(mr.Out, schema.HoldReport{Scope: "health:" + x.ID, Bit: schema.Bit{Owner: "checks", Reason: "not passing", Since: x.Since}})
			}
			g.Members = append(g.Members, mr)
		}
		back := 0
		for _, x := range st.goods[g.App] {
			to := schema.GoodReport{At: x.At, Commit: x.Commit, Release: x.Snapshot[k].Release, Version: x.Releases[o.Group]}
			if !l.leaves(g.App, x) {
				back++
				to.Back = back
			}
			g.Goods = append(g.Goods, to)
		}
		r.Groups = append(r.Groups, g)
	}
}

// version is what people call the release that a group is driven at: as it was
// called when it was good, else as its definition says.
func (l *Loop) version(def schema.Group, group string, k schema.Key) string {
	for _, g := range l.st.goods[def.App] {
		if g.Snapshot[k].Release == l.st.target[k].Release && g.Releases[group] != "" {
			return g.Releases[group]
		}
	}
	return def.Release
}

// health sums the report up in one word, and says why it is not HEALTHY.
func (l *Loop) health(r *schema.Report) (string, []schema.Reason) {
	st := &l.st
	var because []schema.Reason
	word := ""
	add := func(w, code, message, next string) {
		if word == "" {
			word = w
		}
		because = append(because, schema.Reason{Code: code, Message: message, Next: next})
	}
	if !r.Leading {
		add("NOT LEADING", schema.WaitLease, "held by "+orElse(st.holder, "nobody yet"), "")
	}
	if st.appendErr != "" {
		add("DEGRADED", "Journal", st.appendErr, "make the journal writable: nothing is dispatched meanwhile")
	}
	for _, b := range r.Brakes {
		next := b.Lift()
		if b.At.IsZero() {
			next = l.unbrake()
		}
		add("BRAKED", schema.WaitBrake, b.Scope+" by "+b.By+": "+b.Reason, next)
	}
	for _, b := range r.Backends {
		if b.Error != "" {
			add("BLIND", schema.WaitBackend, b.Driver+":"+b.Instance+": "+b.Error, "")
		} else if b.ReadAt.IsZero() {
			add("STARTING", schema.WaitBackend, b.Driver+":"+b.Instance+" is not read yet", "")
		} else if b.Unlearned != "" && r.Leading {
			add("STARTING", schema.WaitBackend, b.Driver+":"+b.Instance+": "+b.Unlearned, "")
		}
	}
	if st.meta.InForce == "" {
		add("STARTING", "NoCommit", "no commit is in force", "")
	}
	if st.fetchErr != "" {
		add("DEGRADED", "Fetch", st.fetchErr, "")
	}
	if schema.AnyDenied(st.findings) {
		add("DEGRADED", schema.WaitPolicy, firstDenied(st.findings), "fix the commit; the last good one stays in force")
	}
	if r.Observe {
		add("OBSERVING", schema.WaitObserve, "nothing is written", "locktide resume --all")
	}
	for _, text := range r.Overdue() {
		add("DEGRADED", "Overdue", text, "release it, or give it a new --for")
	}
	for _, id := range sortedKeys(st.refused) {
		add("DEGRADED", st.refused[id].Why.Code, id+" "+st.refused[id].Why.Message, st.refused[id].Why.Next)
	}
	orphans := 0
	for k := range st.target {
		if l.backendOf(k) == nil {
			orphans++
		}
	}
	if orphans > 0 {
		add("DEGRADED", schema.WaitIncompatible, fmt.Sprintf("%d objects are on backends that are not configured: they are left as they are", orphans), "name the backends in the daemon's configuration")
	}
	for _, host := range sortedKeys(r.HoldsWait) {
		why := r.HoldsWait[host]
		add("PROGRESSING", why.Code, "the hold of hosts/"+host+" waits: "+why.Message, why.Next)
	}
	if len(r.Awaits) > 0 {
		add("AWAITING", schema.WaitApproval, r.Awaits[0].Why, "locktide approve "+r.Awaits[0].Digest.Short())
	}
	for _, p := range r.Partitions {
		if _, running := st.rollouts[p.ID]; running {
			word2 := "PROGRESSING"
			if p.Phase == rollout.PhaseBraked {
				word2 = "BRAKED"
			}
			message := p.Phase
			if len(p.Why) > 0 {
				message += ": " + p.Why[0].Message
			}
			add(word2, "Rollout", p.ID+" "+message, "locktide explain "+p.ID)
		}
	}
	if n := len(st.drift); n > 0 {
		add("DRIFTED", schema.ReasonDrifted, fmt.Sprintf("%d objects differ from their target", n), "locktide diff")
	}
	for _, g := range r.Groups {
		if floor := max(g.Desired-g.Cap, min(1, g.Desired)); g.Serving < floor && g.Blind == "" {
			add("DEGRADED", schema.WaitCapacity, fmt.Sprintf("%s: %d of %d members serve, its floor is %d", g.Name, g.Serving, g.Desired, floor), "locktide out")
		}
	}
	observed := 0
	for _, n := range st.lastPlan.Notes {
		if n.Code == "observed" {
			observed++
		}
	}
	if observed > 0 {
		add("OBSERVING", schema.WaitObserve, fmt.Sprintf("%s of groups of mode observe differ from Git and are not written", plural(observed, "object")), "locktide plan")
	}
	if !st.lastPlan.Empty() && word == "" {
		add("PROGRESSING", "Planned", fmt.Sprintf("%d partitions are to be changed", len(st.lastPlan.Partitions)), "locktide plan")
	}
	if word == "" {
		return "HEALTHY", nil
	}
	return word, because
}
