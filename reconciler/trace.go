package reconciler

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// Trace says which route serves a URL with these headers, by which proxies,
// and which members of which groups answer there as the proxies confirm it.
func (l *Loop) Trace(ctx context.Context, address string, headers map[string]string) (schema.Trace, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return schema.Trace{}, fmt.Errorf("%q is no URL: write for example https://shop.example/cart", address)
	}
	path := u.Path
	if path == "" {
		path = "/"
	}
	answer := make(chan schema.Trace, 1)
	l.post(func() { answer <- l.trace(u.Hostname(), path, headers) })
	select {
	case t := <-answer:
		t.URL = u.Scheme + "://" + u.Hostname() + path
		groups := map[string]schema.GroupReport{}
		for _, g := range l.Report().Groups {
			groups[g.Name] = g
		}
		for i := range t.Targets {
			t.Targets[i].Now = groups[t.Targets[i].Group]
		}
		return t, nil
	case <-ctx.Done():
		return schema.Trace{}, ctx.Err()
	case <-l.stopping:
		return schema.Trace{}, context.Canceled
	}
}

func (l *Loop) trace(host, path string, headers map[string]string) schema.Trace {
	st := &l.st
	out := schema.Trace{}
	if st.fleet == nil {
		out.Why = "no commit is in force"
		return out
	}
	name, served := match(st.fleet.Routes, host, path, headers)
	if name == "" {
		out.Why = fmt.Sprintf("no route serves %s", host)
		if served {
			out.Why = fmt.Sprintf("routes serve %s, but none this path with these headers", host)
		}
		return out
	}
	r := st.fleet.Routes[name]
	out.Route = schema.NewRef("routes", name)
	out.At, out.Path, out.Match, out.Redirect = st.fleet.Positions[out.Route], r.Path, r.Match, r.Redirect
	weight := map[string]int{}
	for _, k := range slices.SortedFunc(st.head.Keys(), schema.Key.Compare) {
		o := st.head.Get(k).Object
		if !slices.Contains(o.From, out.Route) {
			continue
		}
		p := schema.TraceProxy{Key: k, State: orUnknown(st.live[k].State), ReadAt: st.readAt[k]}
		if b := l.backendOf(k); b != nil {
			p.ProxyReport = schema.ProxyReport{Name: b.backend, Error: b.err}
			if f := st.feeds[b.backend]; f != nil {
				p.At, p.Revision = f.at, f.confirmed
				p.Error = orElse(p.Error, f.err)
			}
		}
		out.Proxies = append(out.Proxies, p)
		for _, g := range o.Serves {
			weight[g] = l.weight(r, g)
		}
	}
	for _, g := range sortedKeys(weight) {
		out.Targets = append(out.Targets, schema.TraceTarget{Group: g, Weight: weight[g]})
	}
	return out
}

func orUnknown(s schema.State) schema.State {
	if s == "" {
		return schema.StateUnknown
	}
	return s
}

// weight of the target that a group is served for.
func (l *Loop) weight(r schema.Route, group string) int {
	for _, t := range r.To {
		if g, ok := l.group(group); t.Group == group || (ok && t.App == g.App) {
			return t.Weight
		}
	}
	return 0
}

// match finds the route of a request as the proxies do: an exact path before
// the longest prefix, there the one with the most headers that all match.
// served says whether any route has the domain.
func match(routes map[string]schema.Route, host, path string, headers map[string]string) (best string, served bool) {
	better := func(a, b schema.Route) bool {
		switch {
		case a.Exact != b.Exact:
			return a.Exact
		case len(a.Path) != len(b.Path):
			return len(a.Path) > len(b.Path)
		}
		return len(a.Match) > len(b.Match)
	}
	for _, name := range sortedKeys(routes) {
		r := routes[name]
		if !slices.ContainsFunc(r.Domains, func(d string) bool { return strings.EqualFold(d, host) }) {
			continue
		}
		served = true
		prefix := strings.TrimSuffix(r.Path, "/")
		fits := path == r.Path || (!r.Exact && (path == prefix || strings.HasPrefix(path, prefix+"/")))
		for h, v := range r.Match {
			fits = fits && header(headers, h) == v
		}
		if fits && (best == "" || better(r, routes[best])) {
			best = name
		}
	}
	return best, served
}

func header(headers map[string]string, name string) string {
	for h, v := range headers {
		if strings.EqualFold(h, name) {
			return v
		}
	}
	return ""
}
