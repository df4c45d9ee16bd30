package reconciler

import (
	"fmt"
	"slices"
	"strings"

	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// mostMembers bounds how many members of a group an explanation names.
const mostMembers = 5

// shortID is the length from which the beginning of a member's id names it, as
// the command line prints it.
const shortID = 8

// explainMembers says why members do not serve: those of a group or app, one by
// its id, or those of a host. Known says whether there are such.
func explainMembers(r *schema.Report, name string) (out []schema.Reason, known bool) {
	host := strings.TrimPrefix(name, "hosts/")
	id := strings.TrimPrefix(name, "members/")
	rolls := map[string]bool{}
	for _, p := range r.Partitions {
		for _, it := range p.Items {
			rolls[it.Group] = rolls[it.Group] || it.State != rollout.StateDone
		}
	}
	for _, g := range r.Groups {
		whole, more := name == g.Name || name == g.App, 0
		if whole && g.Desired == 0 { // nobody has to serve
			continue
		}
		for _, m := range g.Members {
			if !whole && m.Node != host && m.Host != host && !(len(id) >= shortID && strings.HasPrefix(m.ID, id)) {
				continue
			}
			known = true
			why, serves := notServing(m)
			if serves || whole && rolls[g.Name] && why.Code != schema.WaitHeld { // its rollout says more
				continue
			}
			if whole && len(out) >= mostMembers {
				more++
				continue
			}
			out = append(out, why)
		}
		if more > 0 {
			out = append(out, schema.Reason{Code: schema.WaitCapacity, Message: fmt.Sprintf("%s of %s are out of rotation besides", plural(more, "member"), g.Name), Next: "locktide out"})
		}
	}
	return out, known
}

// notServing gives why a member is out of rotation, and what brings it back.
func notServing(m schema.MemberReport) (why schema.Reason, serves bool) {
	who := fmt.Sprintf("member %s of %s on %s ", m.ID, m.Group, orElse(m.Host, m.Node))
	i := slices.IndexFunc(m.Out, func(o schema.HoldReport) bool { return !strings.HasPrefix(o.Scope, "health:") })
	switch {
	case i >= 0:
		hold := m.Out[i]
		kind, name, _ := strings.Cut(hold.Scope, ":")
		why = schema.Reason{Code: schema.WaitHeld, Message: who + "is held out of rotation by " + hold.Owner + ": " + hold.Reason}
		switch {
		case kind == "host":
			why.Next = "the hold of hosts/" + name + " taken out of Git"
		case kind == "release":
			why.Next = "its rollout: locktide rollout " + m.Group
		case hold.Drain:
			why.Next = "locktide undrain " + name
		default:
			why.Next = "locktide unhold " + name
		}
	case m.Failed || !m.Running:
		why = schema.Reason{Code: schema.WaitFailed, Message: who + "does not run: " + orElse(m.Why, "starting")}
	case m.Passing != nil && !*m.Passing:
		why = schema.Reason{Code: schema.WaitFailed, Message: who + "does not pass its checks"}
	case !m.Serving:
		why = schema.Reason{Code: schema.WaitConfirm, Message: who + "runs; who consumes it has not confirmed that it serves"}
	default:
		return why, true
	}
	if why.Next == "" {
		why.Next = "itself, once it is well; locktide get " + m.Group + " shows it"
	}
	return why, false
}
