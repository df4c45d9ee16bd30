package foreign

import (
	"slices"
	"strconv"
	"strings"
)

// haproxySettings is what the directives of a section come to.
type haproxySettings struct {
	mode, modeAt string
	timeout      int64 // ms
	notes        []string
	bad          []problem
}

func (h *haproxySettings) note(at, text string) { h.notes = append(h.notes, at+": "+text) }

// haproxyNotCarried are directives that change how HAProxy works, not who
// answers what.
var haproxyNotCarried = []string{"log", "log-format", "log-tag", "maxconn", "retries", "option httplog", "option tcplog", "option dontlognull", "option dontlog-normal", "option http-server-close",
	"option http-keep-alive", "option httpclose", "option forwardfor", "option redispatch", "option httpchk", "option log-health-checks", "option log-separate-errors", "option tcp-check", "option splice-*",
	"option contstats", "option abortonclose", "option socket-stats", "timeout", "http-check", "tcp-check", "http-reuse", "fullconn", "description", "errorfile", "errorfiles", "load-server-state-from-file", "id", "no option", "bind-process", "capture"}

// read gives a section's settings. The caller reads the directives that it
// names itself.
func read(s *section, own ...string) haproxySettings {
	h := haproxySettings{mode: "tcp", modeAt: s.at}
	for _, l := range s.lines {
		two := strings.Join(l.words[:min(2, len(l.words))], " ")
		switch {
		case slices.Contains(own, l.words[0]):
		case l.words[0] == "mode" && len(l.words) > 1:
			h.mode, h.modeAt = l.words[1], l.at
		case two == "timeout server" && len(l.words) > 2:
			n, ok := haproxySpan(l.words[2])
			if h.timeout = n; !ok || n == 0 {
				h.bad = append(h.bad, problem{l.at, l.text() + ": want a time"})
			}
		case matches(haproxyNotCarried, l.words[0]), matches(haproxyNotCarried, two):
			h.note(l.at, two+" is not carried over")
		default:
			h.bad = append(h.bad, problem{l.at, l.text() + ": no route can say it"})
		}
	}
	return h
}

// haproxySpan reads HAProxy's form of a time; it means milliseconds unless it
// says otherwise.
func haproxySpan(text string) (int64, bool) {
	if _, err := strconv.Atoi(text); err == nil {
		text += "ms"
	}
	return span(text)
}

// useBackend reads one rule; what it names by acl must be defined before.
func useBackend(l line, acls map[string][]line) rule {
	r := rule{at: l.at}
	fail := func(why string) rule {
		r.bad = append(r.bad, problem{l.at, l.text() + ": " + why})
		return r
	}
	if len(l.words) < 2 {
		return fail("it names no backend")
	}
	if r.backend = l.words[1]; strings.ContainsAny(r.backend, "%[]") {
		return fail("a route's target is a name")
	}
	if len(l.words) == 2 {
		return r
	}
	if l.words[2] != "if" {
		return fail("a route is for names and paths, it cannot be unless")
	}
	for i := 3; i < len(l.words); i++ {
		tests := acls[l.words[i]]
		if l.words[i] == "{" {
			end := slices.Index(l.words[i:], "}")
			if end < 2 {
				return fail("a { is not closed")
			}
			tests, i = []line{{l.at, l.words[i+1 : i+end]}}, i+end
		}
		if len(tests) == 0 {
			return fail(l.words[i] + " is neither an acl that was defined before nor a test in { }; a route takes all of its conditions, none turned round")
		}
		if why := r.condition(tests); why != "" {
			return fail(why)
		}
	}
	return r
}

// condition adds one acl, whose lines and values are alternatives.
func (r *rule) condition(tests []line) string {
	var hosts []string
	var paths []match
	for _, t := range tests {
		values := t.words[1:]
		for len(values) > 0 && strings.HasPrefix(values[0], "-") {
			if values[0] != "-i" {
				return t.text() + ": no route can say " + values[0]
			}
			values = values[1:]
		}
		for _, v := range values {
			switch strings.TrimPrefix(t.words[0], "req.") {
			case "hdr(host)", "hdr(Host)", "host":
				hosts = append(hosts, strings.ToLower(v))
			case "hdr_end(host)", "hdr_end(Host)":
				if !strings.HasPrefix(v, ".") {
					return t.text() + ": the end of a name begins with a dot"
				}
				hosts = append(hosts, "*"+strings.ToLower(v))
			case "path":
				paths = append(paths, match{v, true})
			case "path_beg":
				paths = append(paths, match{v, false})
			default:
				return t.text() + ": a route is for names (hdr(host), hdr_end(host)) and paths (path, path_beg)"
			}
		}
	}
	switch {
	case len(hosts) > 0 && len(paths) > 0:
		return "an acl of names or paths is no route"
	case len(hosts) > 0 && len(r.hosts) > 0 || len(paths) > 0 && len(r.paths) > 0:
		return "it has two conditions of one kind"
	case len(hosts) > 0:
		r.hosts = hosts
	default:
		r.paths = paths
	}
	return ""
}

// backend reads who stands behind a rule.
func (h haproxyReader) backend(to *server, from rule, r *Route) {
	b := h.backends[from.backend]
	if b == nil {
		to.fail(from.at, "there is no backend %s", from.backend)
		return
	}
	own := []string{"server", "balance", "default-server"}
	if b.words[0] == "listen" {
		own = append(own, "bind", "acl", "use_backend", "default_backend", "http-request")
	}
	in := read(b, own...)
	if in.timeout > 0 {
		r.Timeout = in.timeout
	}
	if in.mode != "http" {
		to.fail(in.modeAt, "backend %s: only HTTP is routed: mode http", b.name)
	}
	to.bad, r.Notes = append(to.bad, in.bad...), append(r.Notes, in.notes...)
	if r.Timeout == 0 {
		r.Notes = append(r.Notes, b.at+": it waits without end for an answer (no timeout server), 60 s here")
	}
	for _, l := range b.lines {
		switch l.words[0] {
		case "balance":
			if len(l.words) > 1 && !slices.Contains([]string{"roundrobin", "static-rr"}, l.words[1]) {
				to.fail(l.at, "%s: members are taken in turn, by weight", l.text())
			}
		case "server", "default-server":
			haproxyServer(to, l, r)
		}
	}
	if len(r.Servers) == 0 && len(to.bad) == 0 {
		to.fail(b.at, "backend %s names no server", b.name)
	}
}

// haproxyServer reads one member, or what all of a backend have in common.
func haproxyServer(to *server, l line, r *Route) {
	m, options := Server{Weight: 1}, l.words[1:]
	if l.words[0] == "server" {
		if len(l.words) < 3 {
			to.fail(l.at, "%s: a server has a name and an address", l.text())
			return
		}
		if m.Address, options = strings.TrimPrefix(l.words[2], "ipv4@"), l.words[3:]; strings.ContainsAny(m.Address, "/@") || !strings.Contains(m.Address, ":") {
			to.fail(l.at, "server %s: members are reached over TCP, at a port", m.Address)
			return
		}
	}
	for i := 0; i < len(options); i++ {
		switch options[i] {
		case "weight":
			i++
			w := 0
			if i < len(options) {
				w, _ = strconv.Atoi(options[i]) // 0 is refused below
			}
			if m.Weight = w; w < 1 || w > 256 || l.words[0] != "server" {
				to.fail(l.at, "%s: want a weight of 1 to 256, for each server", l.text())
				return
			}
		case "disabled":
			r.Notes = append(r.Notes, l.at+": "+m.Address+" is disabled; whether a member serves is judged by its health here")
			return
		case "check", "check-ssl", "on-marked-down", "observe":
			r.Notes = append(r.Notes, l.at+": "+options[i]+" is not carried over: Consul's checks tell who is healthy")
		case "inter", "fastinter", "downinter", "rise", "fall", "port", "maxconn", "maxqueue", "slowstart", "error-limit", "on-error", "resolvers", "resolve-prefer", "init-addr", "id":
			r.Notes = append(r.Notes, l.at+": "+options[i]+" is not carried over")
			i++
		default:
			to.fail(l.at, "%s: no route can say %s", l.text(), options[i])
			return
		}
	}
	if l.words[0] == "server" {
		r.Servers = append(r.Servers, m)
	}
}
