package cli

import (
	"context"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// targets turns what an operator types into what the daemon understands: a
// bare name becomes a scope (member:, host:, group:, app:), a group becomes
// the keys of its objects that can be adopted.
func (s *shared) targets(ctx context.Context, verb, name string) ([]string, error) {
	switch verb {
	case "hold", "unhold", "brake", "resume", "override-gates", "adopt":
	default:
		return []string{name}, nil
	}
	if name == "" || name == "all" || strings.Contains(name, ":") {
		return []string{name}, nil
	}
	_, r, err := s.report(ctx)
	if err != nil {
		return nil, err
	}
	name = strings.TrimPrefix(strings.TrimPrefix(name, "groups/"), "apps/")
	switch verb {
	case "hold", "unhold":
		return heldBy(r, name)
	case "adopt":
		return adoptable(r, name)
	}
	for _, g := range r.Groups {
		if g.Name == name {
			return []string{"group:" + name}, nil
		}
	}
	return []string{"app:" + name}, nil
}

// heldBy finds a group, host, node or member; of a member the first characters
// are enough when they name only one.
func heldBy(r schema.Report, name string) ([]string, error) {
	var members []string
	for _, g := range r.Groups {
		if g.Name == name {
			return []string{"group:" + name}, nil
		}
		for _, m := range g.Members {
			if m.Node == name || m.Host == name {
				return []string{"host:" + name}, nil
			}
			if strings.HasPrefix(m.ID, name) {
				members = append(members, "member:"+m.ID)
			}
		}
	}
	for _, h := range r.Holds {
		if h.Scope == "host:"+name || h.Scope == "member:"+name {
			return []string{h.Scope}, nil
		}
	}
	switch len(members) {
	case 1:
		return members, nil
	case 0:
		return nil, Fail("`locktide get GROUP` lists members and nodes; host:NAME names a host without members", "there is no member, host or group %s", name)
	}
	return nil, Fail("write more of it", "%s could be any of %d members", name, len(members))
}

func adoptable(r schema.Report, name string) ([]string, error) {
	var keys []string
	for _, o := range r.Objects {
		ours := o.Group == name || slices.Contains(o.Apps, name)
		if ours && (o.State == schema.StateForeign || o.State == schema.StateEjected) {
			keys = append(keys, o.Key.String())
		}
	}
	if len(keys) == 0 {
		return nil, Fail("`locktide diff` shows what is foreign or ejected", "nothing of %s can be adopted", name)
	}
	return keys, nil
}
