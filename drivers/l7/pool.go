package l7

import (
	"cmp"
	"net/netip"
	"slices"

	"locktide.dev/schema"
)

// Server is one member as a pool addresses it.
type Server struct {
	Group   string
	ID      string
	Address netip.AddrPort
	Weight  int // >= 1, relative inside the pool
}

// Servers gives the pool's servers for a membership, sorted by group and id.
// Members whose address, port or id is not usable are left out.
func (p Pool) Servers(groups map[string]schema.Serving) []Server {
	shares, weighted := make([][]Server, len(p.To)), false
	for i, b := range p.To {
		weighted = weighted || b.Weight > 0
		for _, g := range b.Groups {
			for _, e := range groups[g].Members {
				if s, ok := server(g, b.Port, e); ok {
					shares[i] = append(shares[i], s)
				}
			}
		}
	}
	common := 1
	for _, s := range shares {
		if weighted && len(s) > 0 {
			common = min(common/gcd(common, len(s))*len(s), 5040)
		}
	}
	var out []Server
	divisor := 0
	for i, servers := range shares {
		for _, s := range servers {
			s.Weight = 1
			if weighted {
				s.Weight = max(1, max(1, p.To[i].Weight)*common/len(servers))
			}
			divisor = gcd(divisor, s.Weight)
			out = append(out, s)
		}
	}
	for i := range out {
		out[i].Weight /= divisor
	}
	slices.SortFunc(out, func(a, b Server) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.ID, b.ID), a.Address.Compare(b.Address))
	})
	return slices.Compact(out)
}

func server(group, port string, e schema.Endpoint) (Server, bool) {
	addr, err := netip.ParseAddr(e.Address)
	number, ok := e.Ports[port]
	for i, label := range sortedKeys(e.Ports) {
		if n := e.Ports[label]; !ok && (i == 0 || n == number) {
			number = n
		} else if !ok {
			return Server{}, false // several ports, none by that label
		}
	}
	if err != nil || addr.Zone() != "" || number < 1 || number > 65535 || !tokenPattern.MatchString(e.ID) {
		return Server{}, false
	}
	return Server{Group: group, ID: e.ID, Address: netip.AddrPortFrom(addr, uint16(number))}, true
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Serving lists, for every group that some pool names, the members that the
// pools really hold.
func Serving(pools []Pool, groups map[string]schema.Serving) map[string][]string {
	out := map[string][]string{}
	for _, p := range pools {
		for _, b := range p.To {
			for _, g := range b.Groups {
				if out[g] == nil {
					out[g] = []string{}
				}
			}
		}
		for _, s := range p.Servers(groups) {
			if !slices.Contains(out[s.Group], s.ID) {
				out[s.Group] = append(out[s.Group], s.ID)
			}
		}
	}
	for _, ids := range out {
		slices.Sort(ids)
	}
	return out
}
