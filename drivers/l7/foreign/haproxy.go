package foreign

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"locktide.dev/drivers/l7"
	"locktide.dev/schema"
)

// line is one line of haproxy.cfg: words, as the shell parts them.
type line struct {
	at    string // FILE:LINE
	words []string
}

func (l line) text() string { return strings.Join(l.words, " ") }

// section is a frontend, backend or listen with the defaults before it.
type section struct {
	line
	name  string
	lines []line
}

// sections are the words that start one; of those that map to true, routes are
// made.
var sections = map[string]bool{"global": false, "defaults": false, "frontend": true, "backend": true, "listen": true, "userlist": false, "peers": false,
	"resolvers": false, "cache": false, "program": false, "ring": false, "http-errors": false, "mailers": false, "log-forward": false, "fcgi-app": false,
	"crt-store": false, "traces": false, "acme": false, "log-profile": false}

// HAProxy reads a configuration of HAProxy. An error names the file and line.
func HAProxy(path string) (*Config, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var all []*section
	var defaults []line
	var open *section
	for i, raw := range strings.Split(string(text), "\n") {
		words, err := split(raw)
		l := line{fmt.Sprintf("%s:%d", path, i+1), words}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.at, err)
		}
		if len(words) == 0 {
			continue
		}
		routed, starts := sections[words[0]]
		switch {
		case !starts && open == nil:
			return nil, fmt.Errorf("%s: %q belongs to no section of HAProxy", l.at, words[0])
		case !starts:
			open.lines = append(open.lines, l)
		default:
			if open != nil && open.words[0] == "defaults" {
				defaults = open.lines
			}
			open = &section{line: l}
			if routed && len(words) < 2 {
				return nil, fmt.Errorf("%s: the %s has no name", l.at, words[0])
			}
			if routed {
				open.name, open.lines = words[1], slices.Clone(defaults)
				all = append(all, open)
			}
		}
	}
	h := haproxyReader{backends: map[string]*section{}}
	for _, s := range all {
		if s.words[0] != "frontend" {
			h.backends[s.name] = s
		}
	}
	out := &Config{Files: []string{path}}
	var servers []server
	for _, s := range all {
		if s.words[0] != "backend" {
			servers = append(servers, h.frontend(s)...)
		}
	}
	out.arrange(servers)
	return out, nil
}

// split parts a line into words; a # outside of quotes begins a comment.
func split(raw string) ([]string, error) {
	var out []string
	var word strings.Builder
	inside, quote := false, rune(0)
	runes := []rune(strings.TrimSuffix(raw, "\r"))
	for i := 0; i < len(runes); i++ {
		c := runes[i]
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(runes):
			i++
			word.WriteRune(runes[i])
			inside = true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '"' || c == '\'':
			quote, inside = c, true
		case c == '#':
			i = len(runes)
		case c == ' ' || c == '\t':
			if inside {
				out = append(out, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteRune(c)
			inside = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c is not closed", quote)
	}
	if inside {
		out = append(out, word.String())
	}
	return out, nil
}

type haproxyReader struct{ backends map[string]*section }

// rule sends requests of some names and paths to a backend.
type rule struct {
	at      string
	hosts   []string // none: all
	paths   []match  // none: all
	backend string
	bad     []problem
}

// match is a path that a rule takes.
type match struct {
	path  string
	exact bool
}

func (m match) takes(o match) bool {
	return m.path == o.path && m.exact == o.exact || !m.exact && strings.HasPrefix(o.path, m.path)
}

// frontend gives a server for each set of domains that are served alike.
func (h haproxyReader) frontend(s *section) []server {
	var base server
	base.at, base.name = s.at, s.words[0]+" "+s.name
	in := read(s, "acl", "use_backend", "default_backend", "bind", "server", "default-server", "balance", "http-request")
	cert := ""
	acls, rules := map[string][]line{}, []rule(nil)
	fallback := rule{at: s.at}
	if s.words[0] == "listen" {
		fallback.backend = s.name
	}
	for _, l := range s.lines {
		switch l.words[0] {
		case "bind":
			base.bind(l, &cert)
		case "acl":
			if len(l.words) > 2 {
				acls[l.words[1]] = append(acls[l.words[1]], line{l.at, l.words[2:]})
			}
		case "use_backend":
			rules = append(rules, useBackend(l, acls))
		case "default_backend":
			if len(l.words) > 1 {
				fallback.at, fallback.backend = l.at, l.words[1]
			}
		case "http-request":
			switch text := l.text(); {
			case strings.HasPrefix(text, "http-request set-header X-Forwarded-Proto"), strings.HasPrefix(text, "http-request add-header X-Forwarded-Proto"):
			case strings.HasPrefix(text, "http-request redirect scheme https"):
				in.note(l.at, "on the plain port it redirects to https; a route with tls answers on both")
			default:
				in.bad = append(in.bad, problem{l.at, text + ": no route can say it"})
			}
		}
	}
	if in.mode != "http" {
		base.fail(in.modeAt, "only HTTP is routed: mode http")
	}
	if fallback.backend != "" || len(rules) == 0 {
		rules = append(rules, fallback)
	}
	base.bad = append(base.bad, in.bad...)
	domains := map[string]bool{}
	for _, r := range rules {
		for _, host := range r.hosts {
			domains[host] = true
		}
	}
	var out []server
	if i := slices.IndexFunc(rules, func(r rule) bool { return len(r.hosts) == 0 && len(r.bad) == 0 }); i >= 0 || len(domains) == 0 {
		rest := base
		rest.fail(rules[max(i, 0)].at, "it answers for names that no rule names; a route has domains: name them with hdr(host)")
		out = append(out, rest)
	}
	if len(base.bad) > 0 {
		if len(domains) == 0 {
			return out[:len(out):len(out)]
		}
		out = nil
	}
	alike := map[string]int{} // what is served -> index
	for _, domain := range slices.Sorted(maps.Keys(domains)) {
		one := h.site(base, domain, rules, in, cert)
		says := string(schema.MustCanonical([]any{one.routes, fmt.Sprint(one.bad)}))
		if i, there := alike[says]; there {
			out[i].domains = append(out[i].domains, domain)
			continue
		}
		one.domains, one.name = []string{domain}, domain
		alike[says], out = len(out), append(out, one)
	}
	for i := range out {
		for j := range out[i].routes {
			r := &out[i].routes[j]
			r.Domains = out[i].domains
			if problems := checked(*r); len(problems) > 0 && len(out[i].bad) == 0 {
				out[i].fail(r.At, "%v", problems[0])
			}
		}
	}
	return out
}

// site gives what a frontend serves for one domain, without its name.
func (h haproxyReader) site(base server, domain string, rules []rule, in haproxySettings, cert string) server {
	s := base
	s.bad = slices.Clone(base.bad)
	type step struct {
		match
		rule
	}
	var steps []step
	for _, r := range rules {
		if len(r.hosts) > 0 && !slices.ContainsFunc(r.hosts, func(host string) bool { return covers(host, domain) }) {
			continue
		}
		s.bad = append(s.bad, r.bad...)
		paths := r.paths
		if len(paths) == 0 {
			paths = []match{{"/", false}}
		}
		for _, p := range paths {
			steps = append(steps, step{p, r})
		}
		if slices.Contains(paths, match{"/", false}) {
			break // nothing is left for the rules after it
		}
	}
	first := func(m match) (step, bool) {
		i := slices.IndexFunc(steps, func(x step) bool { return x.takes(m) })
		if i < 0 {
			return step{}, false
		}
		return steps[i], true
	}
	add := func(m match, x step) {
		r := Route{At: x.at, Route: l7.Route{Path: m.path, Exact: m.exact, Timeout: in.timeout}, Notes: slices.Clone(in.notes)}
		if s.tls != "" {
			r.TLS, r.Cert, r.CertKey = strings.TrimSuffix(filepath.Base(cert), filepath.Ext(cert)), cert, cert
		}
		h.backend(&s, x.rule, &r)
		slices.Sort(r.Notes)
		r.Notes = slices.Compact(r.Notes)
		s.routes = append(s.routes, r)
	}
	for _, x := range steps {
		if !x.exact && !strings.HasSuffix(x.path, "/") {
			s.fail(x.at, "path_beg %s also takes %sx; a route's path is a prefix of whole segments: write path_beg %s/ there first", x.path, x.path, x.path)
			continue
		}
		if won, _ := first(x.match); won.match != x.match || won.at != x.at {
			continue // a rule before takes it all
		}
		add(x.match, x)
		bare := match{strings.TrimSuffix(x.path, "/"), true}
		if slices.ContainsFunc(steps, func(y step) bool { return y.match == bare }) || x.exact || bare.path == "" {
			continue
		}
		if without, ok := first(bare); ok { // the path without its last slash goes on to another rule
			add(bare, without)
		}
	}
	return s
}

// covers says whether requests for domain fit a host of a rule.
func covers(host, domain string) bool {
	suffix, wild := strings.CutPrefix(host, "*")
	return host == domain || wild && strings.HasSuffix(domain, suffix)
}

// bind reads where a frontend listens.
func (s *server) bind(l line, cert *string) {
	if len(l.words) < 2 {
		return
	}
	host, port := "*", l.words[1]
	if i := strings.LastIndexByte(port, ':'); i >= 0 {
		host, port = port[:i], port[i+1:]
	}
	if slices.Contains([]string{"", "*", "0.0.0.0", "::", "[::]", "ipv4@", "ipv6@"}, host) {
		host = "*"
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		s.fail(l.at, "bind %s: an instance listens on one address and port", l.words[1])
		return
	}
	to := &s.plain
	for i := 2; i < len(l.words); i++ {
		switch l.words[i] {
		case "ssl":
			to = &s.tls
		case "crt":
			if i++; i < len(l.words) {
				if *cert != "" && *cert != l.words[i] {
					s.fail(l.at, "it has several certificates; a domain has one: give each its own frontend")
				}
				*cert = l.words[i]
			}
		case "alpn", "ssl-min-ver", "ciphers", "ciphersuites", "backlog", "maxconn", "process", "thread":
			i++
		case "v4v6", "tfo", "defer-accept":
		default:
			s.fail(l.at, "bind %s: no route can say it", l.words[i])
		}
	}
	if to == &s.tls && (*cert == "" || strings.HasSuffix(*cert, "/")) {
		s.fail(l.at, "bind with ssl names no file of a certificate (crt)")
	}
	if address := host + ":" + port; *to == "" || *to == address {
		*to = address
	} else {
		s.fail(l.at, "it listens on %s and %s; one proxy instance has one address of each kind", *to, address)
	}
}
