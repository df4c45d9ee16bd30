package foreign

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"locktide.dev/drivers/l7"
)

// server is a virtual server: domains that are served alike.
type server struct {
	at, name    string
	plain, tls  string // address it listens on
	domains     []string
	routes      []Route
	bad         []problem
	answersNone bool // it is what our proxy does for an unknown name
}

// problem is something that no route can say.
type problem struct{ at, why string }

func (s *server) fail(at, format string, args ...any) {
	s.bad = append(s.bad, problem{at, fmt.Sprintf(format, args...)})
}

// checked is what is wrong with a route whose targets are not known yet.
func checked(r Route) []l7.Problem {
	if len(r.Servers) > 0 {
		r.To = []l7.Backend{{}}
	}
	return r.Check()
}

// arrange keeps the servers that one instance can serve together.
func (c *Config) arrange(all []server) {
	plain, tls := common(all, func(s server) string { return s.plain }), common(all, func(s server) string { return s.tls })
	slices.SortStableFunc(all, func(a, b server) int { // a domain with TLS is served by that on both ports
		return cmp.Compare(b.tls, a.tls)
	})
	taken := map[string]string{}
	c.at = map[place]int{}
	for _, s := range all {
		if s.answersNone {
			continue
		}
		if len(s.bad) == 0 {
			switch {
			case s.plain != "" && s.plain != plain:
				s.fail(s.at, "it listens on %s, most of the others on %s: give it an instance of its own", s.plain, plain)
			case s.tls != "" && s.tls != tls:
				s.fail(s.at, "it listens on %s, most of the others on %s: give it an instance of its own", s.tls, tls)
			}
		}
		for _, domain := range s.domains {
			if other, clash := taken[domain]; clash {
				s.fail(s.at, "%s is served by %s already, on both ports if with TLS", domain, other)
				break
			}
		}
		if len(s.bad) > 0 {
			for _, p := range s.bad {
				c.refuse(p.at, s.name, "%s", p.why)
			}
			continue
		}
		for _, domain := range s.domains {
			taken[domain] = s.at
		}
		for _, r := range s.routes {
			for _, domain := range r.Domains {
				c.at[place{domain, r.Path, r.Exact}] = len(c.Routes)
			}
			c.Routes = append(c.Routes, r)
		}
	}
}

// common gives the address on which most servers listen.
func common(all []server, of func(server) string) string {
	count := map[string]int{}
	for _, s := range all {
		if a := of(s); a != "" && !s.answersNone {
			count[a]++
		}
	}
	best := ""
	for _, a := range slices.Sorted(maps.Keys(count)) {
		if best == "" || count[a] > count[best] {
			best = a
		}
	}
	return best
}
