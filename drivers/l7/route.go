// Package l7 is what drivers of layer-7 proxies share: a proxy-neutral model
// of routes without members, its validation, the pools of members, and
// generations on disk. Every value of the model has a character class and is
// refused outside it, never escaped: data can never become proxy syntax.
package l7

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// Route is one route as a proxy serves it; it names groups, never members.
type Route struct {
	Domains  []string          `json:"domains"`
	Path     string            `json:"path"`            // starts with a slash
	Exact    bool              `json:"exact,omitempty"` // else a prefix of whole segments
	Priority int               `json:"priority,omitempty"`
	Match    map[string]string `json:"match,omitempty"` // header -> value, all must be equal
	To       []Backend         `json:"to,omitempty"`
	Timeout  int64             `json:"timeout_ms,omitempty"` // between two reads of the answer; 0: the proxy's default
	Retries  int               `json:"retries,omitempty"`    // on other members, idempotent requests only; 0: default
	TLS      string            `json:"tls,omitempty"`        // name of a certificate
	Rewrite  string            `json:"rewrite,omitempty"`    // replaces Path in what the member sees
	Redirect string            `json:"redirect,omitempty"`   // instead of To: a path or an http(s) URL
	MaxBody  int64             `json:"max_body_bytes,omitempty"`
}

// Backend is a share of a route's traffic. Weight 0: all members of all
// backends without weight are equal; else the share of the backend as a whole.
type Backend struct {
	Groups []string `json:"groups"` // sorted
	Port   string   `json:"port,omitempty"`
	Weight int      `json:"weight,omitempty"`
}

// Problem is a value that the model does not allow.
type Problem struct{ Field, Message string }

func (p Problem) Error() string { return p.Field + ": " + p.Message }

var (
	domainPattern   = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	pathPattern     = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)
	headerPattern   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,62}$`)
	valuePattern    = regexp.MustCompile(`^[A-Za-z0-9._~/:@+,=-]{1,256}$`)
	redirectPattern = regexp.MustCompile(`^(https?://[a-z0-9.-]{1,253}(:[0-9]{1,5})?)?/[A-Za-z0-9._~/?&=%+,:@-]*$`)
	tokenPattern    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	groupPattern    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*/[a-z0-9][a-z0-9._-]*$`)
)

// Check gives every value that is outside its class, in a stable order.
func (r Route) Check() []Problem {
	var out []Problem
	bad := func(field, format string, args ...any) {
		out = append(out, Problem{field, fmt.Sprintf(format, args...)})
	}
	if len(r.Domains) == 0 {
		bad("domains", "a route needs at least one domain")
	}
	for _, d := range r.Domains {
		if len(d) > 253 || !domainPattern.MatchString(d) {
			bad("domains", "%q is no domain: want lower-case labels joined by dots, a leading *. allowed", d)
		}
	}
	if !goodPath(r.Path) {
		bad("path", "%q is no path: want a slash, then letters, digits and ._~/- without empty or dot segments", r.Path)
	}
	if r.Rewrite != "" && !goodPath(r.Rewrite) {
		bad("rewrite", "%q is no path: want a slash, then letters, digits and ._~/- without empty or dot segments", r.Rewrite)
	}
	for _, h := range sortedKeys(r.Match) {
		if !headerPattern.MatchString(h) {
			bad("match", "%q is no header name", h)
		}
		if !valuePattern.MatchString(r.Match[h]) {
			bad("match", "header %s: the value %q has characters outside letters, digits and ._~/:@+,=-", h, r.Match[h])
		}
	}
	if r.Redirect != "" && (len(r.Redirect) > 2048 || !redirectPattern.MatchString(r.Redirect)) {
		bad("redirect", "%q is neither a path nor an http(s) URL with a path", r.Redirect)
	}
	if r.TLS != "" && !tokenPattern.MatchString(r.TLS) {
		bad("tls", "%q is no name of a certificate", r.TLS)
	}
	if (r.Redirect == "") == (len(r.To) == 0) {
		bad("to", "a route needs either targets or a redirect")
	}
	for _, b := range r.To {
		for _, g := range b.Groups {
			if !groupPattern.MatchString(g) {
				bad("to", "%q is no group name", g)
			}
		}
		if b.Port != "" && !tokenPattern.MatchString(b.Port) {
			bad("to", "%q is no port label", b.Port)
		}
		if b.Weight < 0 || b.Weight > 10000 {
			bad("to", "weight %d: want 0 to 10000", b.Weight)
		}
	}
	if r.Timeout < 0 || r.MaxBody < 0 {
		bad("timeout", "timeout and max_body_bytes must not be negative")
	}
	if r.Retries < 0 || r.Retries > 10 {
		bad("retries", "%d retries: want 0 to 10", r.Retries)
	}
	return out
}

func goodPath(p string) bool {
	if len(p) > 1024 || !pathPattern.MatchString(p) || strings.Contains(p, "//") {
		return false
	}
	for s := range strings.SplitSeq(p, "/") {
		if s == "." || s == ".." {
			return false
		}
	}
	return true
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Groups are all groups that the route may send traffic to, sorted.
func (r Route) Groups() []string {
	var out []string
	for _, b := range r.To {
		out = append(out, b.Groups...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Resolve gives the route that a definition means for a proxy that serves the
// datacenters for which serves is true, and what is wrong with it. A target
// by app means its groups there in the stage, "prod" unless written.
func Resolve(v *schema.View, ref schema.Ref, def schema.Route, serves func(datacenter string) bool) (Route, []Problem) {
	r := Route{Domains: slices.Sorted(slices.Values(def.Domains)), Path: cmp.Or(def.Path, "/"), Exact: def.Exact, Priority: def.Priority,
		Match: def.Match, Timeout: def.Timeout.Std().Milliseconds(), Retries: def.Retries, TLS: def.TLS, Rewrite: def.Rewrite,
		Redirect: def.Redirect, MaxBody: def.MaxBody}
	r.Domains = slices.Compact(r.Domains)
	var out []Problem
	for _, t := range def.To {
		b := Backend{Port: t.Port, Weight: t.Weight}
		for _, name := range v.Targets(t) {
			g, _ := v.Group(name)
			if name != t.Group && !serves(g.Datacenter) {
				continue
			}
			b.Groups = append(b.Groups, name)
			port, ok := portOf(g, t.Port)
			switch {
			case !ok:
				out = append(out, Problem{"to", fmt.Sprintf("group %s has no port %q that could be routed to: name one of its port labels", name, t.Port)})
			case b.Port != "" && b.Port != port:
				out = append(out, Problem{"to", fmt.Sprintf("the groups of app %s use several ports: name one", t.App)})
			}
			b.Port = port
		}
		if len(b.Groups) == 0 {
			out = append(out, Problem{"to", fmt.Sprintf("the target %s has no group in the datacenters of this proxy: name another group, app or stage", cmp.Or(t.Group, t.App))})
		}
		r.To = append(r.To, b)
	}
	return r, append(out, r.Check()...)
}

// portOf gives the port label to route to: the wanted one, else that of the
// first service, else the only port.
func portOf(g schema.Group, wanted string) (string, bool) {
	if wanted != "" {
		_, ok := g.Ports[wanted]
		return wanted, ok || len(g.Raw) > 0 // a raw job's ports are not known here
	}
	for _, s := range sortedKeys(g.Services) {
		if p := g.Services[s].Port; p != "" {
			return p, true
		}
	}
	if len(g.Ports) == 1 {
		return sortedKeys(g.Ports)[0], true
	}
	return "", len(g.Raw) > 0
}
