package reconciler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// why gives the reasons for which one object is not as desired; it is empty
// only when the object is as Git says. By names the partitions that work on it.
func (l *Loop) why(k schema.Key, by []string) []schema.Reason {
	st := &l.st
	var out []schema.Reason
	for _, id := range by {
		r := st.rollouts[id]
		for _, it := range r.Items {
			if it.Key != k {
				continue
			}
			if refusal, ok := st.refusals[k]; ok {
				out = append(out, refusal)
			}
			if why, ok := st.steps[id].Why[k]; ok {
				out = append(out, why)
			} else if r := st.steps[id].Reason; r.Code != "" && it.State != "done" {
				out = append(out, r)
			}
			if v := r.Verdict; v != nil {
				why := schema.Reason{Code: schema.WaitFailed, Message: v.String()}
				if v.Group == "" { // an operator wants it
					why.Code = schema.ReasonRollback
				}
				out = append(out, why)
			}
		}
	}
	if l.backendOf(k) == nil {
		out = append(out, unconfigured(k))
	}
	if w, ok := st.waits[k]; ok && len(out) == 0 {
		out = append(out, w)
	}
	head, inHead := st.head.Find(k)
	target, inTarget := st.target[k]
	live := st.live[k]
	if len(out) == 0 && (inHead != inTarget || head.Entry.Digest != target.Digest) {
		out = append(out, l.withheld(k, inHead))
	}
	unread := live.State == "" || live.State == schema.StateUnknown
	if len(out) == 0 && (inTarget || unread && len(by) > 0) {
		switch live.State {
		case schema.StateSame:
		case schema.StateEjected:
			out = append(out, schema.Reason{Code: schema.WaitEjected, Message: "a human took it over", Next: "locktide adopt " + k.String()})
		case "", schema.StateUnknown:
			message := "it was not read yet"
			if r := l.backendOf(k); r != nil && r.err != "" {
				message = r.backend + ": " + r.err
			}
			out = append(out, schema.Reason{Code: schema.WaitBackend, Message: message})
		default:
			out = append(out, schema.Reason{Code: schema.ReasonDrifted, Message: string(live.State) + " " + live.Reason})
		}
	}
	if len(out) > 0 {
		if st.appendErr != "" {
			out = append(out, schema.Reason{Code: "Journal", Message: st.appendErr})
		}
		if !st.leading {
			out = append(out, schema.Reason{Code: schema.WaitLease, Message: "this daemon does not lead; the lease is held by " + orElse(st.holder, "nobody yet")})
		}
		if why := l.braked(); why != "" {
			out = append(out, schema.Reason{Code: schema.WaitBrake, Message: why, Next: l.unbrake()})
		}
	}
	return out
}

func unconfigured(k schema.Key) schema.Reason {
	return schema.Reason{Code: schema.WaitIncompatible, Message: "no backend is configured for " + k.String() + ": it is left as it is", Next: "name it in the daemon's configuration"}
}

// withheld says why the plan does not bring an object to what Git says.
func (l *Loop) withheld(k schema.Key, inHead bool) schema.Reason {
	codes := map[string]string{"observed": schema.WaitObserve, "frozen": schema.WaitFrozen, "incomplete": schema.WaitFrozen, "unread": schema.WaitBackend, "tombstone-wanted": schema.WaitApproval}
	general := ""
	if !inHead {
		general = "still-read"
		if r := l.backendOf(k); r != nil && !l.readable(l.st.now)[r.backend] {
			general = "unread"
		}
		if !l.complete() {
			general = "incomplete"
		}
	}
	notes := l.st.lastPlan.Notes
	i := slices.IndexFunc(notes, func(n schema.Finding) bool { return strings.Contains(n.Message, k.String()) })
	if i < 0 {
		i = slices.IndexFunc(notes, func(n schema.Finding) bool { return n.Code == general })
	}
	if i >= 0 {
		return schema.Reason{Code: cmp.Or(codes[notes[i].Code], schema.WaitOrder), Message: notes[i].Message, Next: notes[i].Next}
	}
	return schema.Reason{Code: schema.ReasonChanged, Message: "Git and the target differ; the next plan takes it up"}
}

// Explain says why what ref names is not as desired: a group (group/X or
// groups/X), an app (app/X), any other definition, a key or entry of Consul
// (keys/X, entries/KIND/X), an object key, or a partition; empty: everything.
func (l *Loop) Explain(ref string) []schema.Reason {
	r := l.Report()
	name := ref
	for _, prefix := range []string{"groups/", "group/", "apps/", "app/", "routes/", "route/"} {
		name = strings.TrimPrefix(name, prefix)
	}
	thing, rawName, raw := schema.ConsulObject(schema.Ref(ref))
	var out []schema.Reason
	known, queued := name == "", map[schema.Key]bool{}
	add := func(list []schema.Reason, about string) {
		for _, why := range list {
			if about != "" {
				why.Message = about + ": " + why.Message
			}
			if !slices.Contains(out, why) {
				out = append(out, why)
			}
		}
	}
	for _, p := range r.Partitions {
		if name == "" || p.ID == bare(name) {
			known = true
			add(p.Why, p.ID)
		}
		for _, j := range p.Gates {
			if (name == "" || p.ID == name || j.Group == name) && j.Result != schema.GatePass {
				known = true
				add([]schema.Reason{j.Reason()}, "")
			}
		}
	}
	for _, o := range r.Objects {
		matches := name == "" || o.Key.String() == name || o.Group == name || slices.Contains(o.Apps, name) || raw && o.Key.Kind.Thing() == thing && o.Key.Name == rawName
		for _, from := range o.From {
			_, def := from.Split()
			matches = matches || string(from) == ref || def == name
		}
		if matches {
			known = true
			add(o.Why, o.Key.String())
			queued[o.Key] = slices.ContainsFunc(o.Why, func(why schema.Reason) bool { return why.Code == schema.WaitOrder })
		}
	}
	for _, p := range r.Partitions { // who comes after others waits for what they wait for
		if !slices.ContainsFunc(p.Items, func(it schema.ItemReport) bool { return queued[it.Key] }) {
			continue
		}
		for _, it := range p.Items {
			if it.State != rollout.StateDone && it.Why.Code != "" && it.Why.Code != schema.WaitOrder {
				add([]schema.Reason{it.Why}, it.Key.String())
			}
		}
	}
	for _, host := range sortedKeys(r.HoldsWait) {
		if name == "" || ref == "hosts/"+host || ref == host {
			known = true
			add([]schema.Reason{r.HoldsWait[host]}, "the hold of hosts/"+host)
		}
	}
	if name != "" {
		list, found := explainMembers(r, name)
		known = known || found
		add(list, "")
	}
	for _, g := range r.Groups {
		for _, m := range g.Members {
			if m.Exposed != "" && (name == "" || name == g.Name || name == g.App || name == m.ID) {
				known = true
				add([]schema.Reason{{Code: schema.WaitExposed, Message: fmt.Sprintf("member %s is held out by %s, which is not in effect in Consul: %s", m.ID, m.Out[0].Owner, m.Exposed),
					Next: "its consumers that read Consul still use it: make the agent reachable (docs/proxy.md)"}}, "")
			}
		}
	}
	if len(out) == 0 && name == "" {
		add(r.Because, "")
	}
	here := slices.ContainsFunc(r.Objects, func(o schema.ObjectReport) bool { return slices.Contains(o.From, schema.Ref(ref)) })
	if why := l.elsewhere(schema.Ref(ref), here); len(why) > 0 {
		known = true
		add(why, "")
	}
	if !known {
		out = []schema.Reason{{Code: schema.WaitNotDefined, Message: "there is no app, group, route, consul definition or object " + ref + " in the commit in force, and no member or host with members", Next: "locktide get lists the groups"}}
	}
	return out
}

// elsewhere says which of the backends that a definition names are not this
// daemon's; of one that has something here, which nobody has at all.
func (l *Loop) elsewhere(ref schema.Ref, here bool) (out []schema.Reason) {
	f, cfg := l.fleet.Load(), l.cfg.Policy
	kind, _ := ref.Split()
	for _, name := range cfg.Unserved(f, ref) {
		message, next := cfg.UnknownVia(kind, name)
		out = append(out, schema.Reason{Code: schema.WaitUnserved, Message: fmt.Sprintf("%s: %s: %s; nothing of it is there", f.Positions[ref], ref, message), Next: next})
	}
	if len(out) == 0 && !here && f.Defines(ref) && (kind == "routes" || kind == "consul") {
		out = append(out, schema.Reason{Code: schema.WaitUnserved, Message: fmt.Sprintf("%s: %s: nothing of it is for a backend of this daemon", f.Positions[ref], ref),
			Next: "ask the daemon that serves what its via names"})
	}
	return out
}
