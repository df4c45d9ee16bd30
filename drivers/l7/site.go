package l7

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// Site is one domain with all that is served under it.
type Site struct {
	Domain    string
	TLS       string
	Locations []Location // sorted: exact first, then longer paths
}

// Location is one path of a site. Variants are tried in order; Default is
// what serves when none matches, nil when the answer is "not found".
type Location struct {
	Path     string
	Exact    bool
	Settings Route // of any of its routes: all have the same
	Variants []Variant
	Default  *Pool
}

// Variant sends requests with certain headers to a pool of its own.
type Variant struct {
	Match map[string]string
	Pool  Pool
}

// Pool is a set of backends under a name that depends on nothing else.
type Pool struct {
	Name string
	To   []Backend
}

// NewPool names the backends.
func NewPool(to []Backend) Pool {
	return Pool{Name: "lt_" + strings.TrimPrefix(string(schema.DigestOf(schema.MustCanonical(to))), "sha256:")[:16], To: to}
}

type place struct {
	domain, path string
	exact        bool
}

// Build arranges routes into sites. Routes that cannot be served together
// come back as errors by name and are left out: of two that claim the same
// domain, path and match, the one with the higher priority stays, then the one
// with fewer matches, then the one that comes first by name.
func Build(routes map[string]Route) ([]Site, map[string]error) {
	failed := map[string]error{}
	var names []string
	for _, name := range sortedKeys(routes) {
		if problems := routes[name].Check(); len(problems) > 0 {
			failed[name] = problems[0]
			continue
		}
		names = append(names, name)
	}
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(routes[b].Priority, routes[a].Priority), cmp.Compare(len(routes[a].Match), len(routes[b].Match)))
	})
	at := map[place][]string{}
	certs := map[string]string{} // domain -> first route
	for _, name := range names {
		r := routes[name]
		if err := clash(routes, name, at, certs); err != nil {
			failed[name] = err
			continue
		}
		for _, d := range r.Domains {
			p := place{d, r.Path, r.Exact}
			at[p] = append(at[p], name)
			certs[d] = name
		}
	}
	byDomain := map[string][]Location{}
	for p, on := range at {
		byDomain[p.domain] = append(byDomain[p.domain], location(p, routes, on))
	}
	var out []Site
	for _, domain := range sortedKeys(byDomain) {
		s := Site{Domain: domain, TLS: routes[certs[domain]].TLS, Locations: byDomain[domain]}
		slices.SortFunc(s.Locations, func(a, b Location) int {
			if a.Exact != b.Exact {
				if a.Exact {
					return -1
				}
				return 1
			}
			return cmp.Or(cmp.Compare(len(b.Path), len(a.Path)), strings.Compare(a.Path, b.Path))
		})
		out = append(out, s)
	}
	return out, failed
}

func clash(routes map[string]Route, name string, at map[place][]string, certs map[string]string) error {
	r := routes[name]
	for _, d := range r.Domains {
		if other, ok := certs[d]; ok && routes[other].TLS != r.TLS {
			return fmt.Errorf("domain %s: the certificate is %q here and %q in route %s: one domain has one", d, r.TLS, routes[other].TLS, other)
		}
		for _, other := range at[place{d, r.Path, r.Exact}] {
			o := routes[other]
			if maps.Equal(o.Match, r.Match) {
				return fmt.Errorf("domain %s, path %s: route %s claims the same", d, r.Path, other)
			}
			if string(schema.MustCanonical(settings(o))) != string(schema.MustCanonical(settings(r))) {
				return fmt.Errorf("domain %s, path %s: route %s has another timeout, rewrite, redirect, retries or body limit; routes that differ by match only must share them", d, r.Path, other)
			}
		}
	}
	return nil
}

// settings is what all routes of one location have in common.
func settings(r Route) Route {
	r.Domains, r.Match, r.To, r.Priority, r.TLS = nil, nil, nil, 0, ""
	return r
}

func location(p place, routes map[string]Route, names []string) Location {
	l := Location{Path: p.path, Exact: p.exact, Settings: settings(routes[names[0]])}
	for _, name := range names {
		r := routes[name]
		pool := NewPool(r.To)
		if len(r.Match) == 0 {
			l.Default = &pool
			continue
		}
		l.Variants = append(l.Variants, Variant{Match: r.Match, Pool: pool})
	}
	slices.SortStableFunc(l.Variants, func(a, b Variant) int { return cmp.Compare(len(b.Match), len(a.Match)) })
	return l
}

// Pools are all pools of the sites, once each, sorted by name.
func Pools(sites []Site) []Pool {
	all := map[string]Pool{}
	for _, s := range sites {
		for _, l := range s.Locations {
			if l.Settings.Redirect != "" {
				continue
			}
			if l.Default != nil {
				all[l.Default.Name] = *l.Default
			}
			for _, v := range l.Variants {
				all[v.Pool.Name] = v.Pool
			}
		}
	}
	out := make([]Pool, 0, len(all))
	for _, name := range sortedKeys(all) {
		out = append(out, all[name])
	}
	return out
}
