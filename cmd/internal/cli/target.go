package cli

import (
	"context"
	"strings"

	"locktide.dev/schema"
)

// target turns what an operator types into what the daemon understands: a
// bare name becomes a scope (member:, host:, group:, app:).
func (s *shared) target(ctx context.Context, verb, name string) (string, error) {
	switch verb {
	case "hold", "unhold", "brake", "resume", "override-gates":
	default:
		return name, nil
	}
	if name == "" || name == "all" || strings.Contains(name, ":") {
		return name, nil
	}
	_, r, err := s.report(ctx)
	if err != nil {
		return "", err
	}
	name = strings.TrimPrefix(strings.TrimPrefix(name, "groups/"), "apps/")
	if verb == "hold" || verb == "unhold" {
		return heldBy(r, name)
	}
	for _, g := range r.Groups {
		if g.Name == name {
			return "group:" + name, nil
		}
	}
	return "app:" + name, nil
}

// heldBy finds a group, host, node or member; of a member the first characters
// are enough when they name only one.
func heldBy(r schema.Report, name string) (string, error) {
	var members []string
	for _, g := range r.Groups {
		if g.Name == name {
			return "group:" + name, nil
		}
		for _, m := range g.Members {
			if m.Node == name || m.Host == name {
				return "host:" + name, nil
			}
			if strings.HasPrefix(m.ID, name) {
				members = append(members, "member:"+m.ID)
			}
		}
	}
	for _, h := range r.Holds {
		if h.Scope == "host:"+name || h.Scope == "member:"+name {
			return h.Scope, nil
		}
	}
	if len(members) == 0 { // who was held first at a place is gone
		for _, h := range r.Holds {
			if h.First != "" && strings.HasPrefix(h.First, name) {
				members = append(members, h.Scope)
			}
		}
	}
	switch len(members) {
	case 1:
		return members[0], nil
	case 0:
		return "", Fail("`locktide get GROUP` lists members and nodes; host:NAME names a host without members", "there is no member, host or group %s", name)
	}
	return "", Fail("write more of it", "%s could be any of %d members", name, len(members))
}
