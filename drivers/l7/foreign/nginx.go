package foreign

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	crossplane "github.com/nginxinc/nginx-go-crossplane"
	"locktide.dev/drivers/l7"
)

// Nginx reads a configuration of nginx, with all that it includes: a file, or
// the output of nginx -T. An error names the file and line, if it has one.
func Nginx(path string) (*Config, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	f := &files{seen: map[string]bool{}}
	main, dump := dumped(text)
	if dump == nil {
		main = path
	} else {
		f.dump = dump
	}
	parsed, err := crossplane.Parse(main, &crossplane.ParseOptions{CombineConfigs: true, StopParsingOnError: true, Open: f.open, Glob: f.glob})
	if err != nil {
		if where := f.circle(filepath.Dir(main)); where != "" {
			err = fmt.Errorf("%s: %w", where, err)
		}
		return nil, fmt.Errorf("cannot read the configuration of nginx in %s: %w", path, err)
	}
	out := &Config{Files: slices.Sorted(maps.Keys(f.seen))}
	if len(parsed.Config) == 0 {
		return out, nil
	}
	for _, d := range parsed.Config[0].Parsed {
		switch d.Directive {
		case "http":
			reader := nginxReader{out: out, upstreams: map[string]*crossplane.Directive{}}
			reader.http(d.Block)
		case "stream", "mail":
			out.refuse(at(d), d.Directive, "only HTTP is routed")
		}
	}
	return out, nil
}

func (f *files) open(path string) (io.ReadCloser, error) {
	text, err := f.read(path)
	return io.NopCloser(bytes.NewReader(text)), err
}

func at(d *crossplane.Directive) string { return d.File + ":" + strconv.Itoa(d.Line) }

type nginxReader struct {
	out       *Config
	upstreams map[string]*crossplane.Directive
}

func (n *nginxReader) http(block crossplane.Directives) {
	s := settings{headers: map[string]string{}}.with(block, "upstream", "server", "map", "geo", "split_clients", "types", "log_format",
		"limit_req_zone", "limit_conn_zone", "proxy_cache_path", "fastcgi_cache_path", "include")
	var all []server
	for _, d := range block {
		switch d.Directive {
		case "upstream":
			if len(d.Args) == 1 {
				n.upstreams[d.Args[0]] = d
			}
		case "server":
			all = append(all, n.server(d, s))
		}
	}
	n.out.arrange(all)
}

func (n *nginxReader) server(d *crossplane.Directive, outer settings) server {
	s := server{at: at(d), name: "the server at " + at(d)}
	in := outer.with(d.Block, "listen", "server_name", "location", "return", "ssl_certificate", "ssl_certificate_key", "include")
	cert, key, isDefault := "", "", ""
	rooted := false
	for _, x := range d.Block {
		switch x.Directive {
		case "listen":
			if s.listen(x) {
				isDefault = at(x)
			}
		case "server_name":
			s.names(x)
		case "ssl_certificate":
			cert = strings.Join(x.Args, " ")
		case "ssl_certificate_key":
			key = strings.Join(x.Args, " ")
		}
	}
	if s.plain == "" && s.tls == "" {
		s.plain = "*:80"
	}
	whole := slices.IndexFunc(d.Block, func(x *crossplane.Directive) bool { return x.Directive == "return" })
	if isDefault != "" && whole >= 0 && len(d.Block[whole].Args) == 1 && slices.Contains([]string{"404", "444"}, d.Block[whole].Args[0]) {
		s.answersNone = true
		return s
	}
	if isDefault != "" {
		s.fail(isDefault, "default_server answers for names that are none of its own; a route has domains: name them, and let the default answer 404")
	}
	if len(s.domains) == 0 && len(s.bad) == 0 {
		s.fail(s.at, "it has no server_name; a route has domains")
	}
	base := l7.Route{Domains: s.domains, MaxBody: in.maxBody, Timeout: in.timeout, Retries: in.retries}
	if s.tls != "" {
		if base.TLS = strings.TrimSuffix(filepath.Base(cert), filepath.Ext(cert)); cert == "" || key == "" {
			s.fail(s.at, "it has no ssl_certificate and ssl_certificate_key of its own")
		}
		if s.plain == "" {
			in.note(s.at, "it listens with TLS only; a route with tls answers on the plain port as well")
		}
	} else {
		cert, key = "", ""
	}
	finish := func(r Route) {
		r.Cert, r.CertKey = cert, key
		slices.Sort(r.Notes)
		s.routes = append(s.routes, r)
	}
	for _, x := range d.Block {
		switch {
		case x.Directive == "location" && whole < 0:
			if r, ok := n.location(&s, x, base, in); ok {
				rooted = rooted || r.Path == "/" && !r.Exact
				finish(r)
			} else {
				rooted = rooted || len(x.Args) == 1 && x.Args[0] == "/"
			}
		case x.Directive == "return":
			r := Route{Route: base, At: at(x), Notes: in.notes}
			if r.Path = "/"; s.redirect(x, &r) {
				rooted = true
				finish(r)
			}
		}
	}
	s.bad = append(s.bad, in.bad...)
	if !rooted && len(s.bad) == 0 {
		for i := range s.routes {
			s.routes[i].Notes = append(s.routes[i].Notes, s.at+": what no location takes comes from files of nginx there, and is 404 here")
		}
	}
	if len(s.routes) == 0 && len(s.bad) == 0 {
		s.fail(s.at, "it serves files, not members of a group")
	}
	return s
}

// listen reads one address and says whether it is the default of its names.
func (s *server) listen(d *crossplane.Directive) (isDefault bool) {
	if len(d.Args) == 0 {
		return false
	}
	address, ssl := d.Args[0], false
	for _, arg := range d.Args[1:] {
		name, _, _ := strings.Cut(arg, "=")
		switch name {
		case "ssl":
			ssl = true
		case "default_server", "default":
			isDefault = true
		case "http2", "reuseport", "backlog", "rcvbuf", "sndbuf", "deferred", "fastopen", "so_keepalive", "ipv6only", "bind":
		default:
			s.fail(at(d), "listen %s: no route can say it", arg)
		}
	}
	host, port := "*", address
	if i := strings.LastIndexByte(address, ':'); i >= 0 && !strings.HasSuffix(address, "]") {
		host, port = address[:i], address[i+1:]
	} else if _, err := strconv.Atoi(address); err != nil {
		host, port = address, "80"
	}
	if host == "[::]" || host == "0.0.0.0" {
		host = "*"
	}
	if strings.HasPrefix(address, "unix:") {
		s.fail(at(d), "it listens on a unix socket")
		return isDefault
	}
	to := &s.plain
	if ssl {
		to = &s.tls
	}
	if address = host + ":" + port; *to != "" && *to != address {
		s.fail(at(d), "it listens on %s and %s; one proxy instance has one address of each kind", *to, address)
	}
	*to = address
	return isDefault
}

func (s *server) names(d *crossplane.Directive) {
	for _, name := range d.Args {
		name = strings.ToLower(name)
		all := []string{name}
		if rest, ok := strings.CutPrefix(name, "."); ok {
			all = []string{rest, "*." + rest}
		}
		for _, one := range all {
			if problems := (l7.Route{Domains: []string{one}, Path: "/", Redirect: "/"}).Check(); len(problems) > 0 {
				s.fail(at(d), "server_name %s: a route's domain is a name, or one with *. in front", one)
				continue
			}
			s.domains = append(s.domains, one)
		}
	}
	if len(s.domains) > 0 {
		s.name = s.domains[0]
	}
}

// location reads one path; false: it adds no route, and s knows why if that
// is a problem.
func (n *nginxReader) location(s *server, d *crossplane.Directive, base l7.Route, outer settings) (Route, bool) {
	r := Route{Route: base, At: at(d)}
	modifier, path := "", strings.Join(d.Args, " ")
	if len(d.Args) == 2 {
		modifier, path = d.Args[0], d.Args[1]
	}
	if r.Path, r.Exact = path, modifier == "="; modifier != "" && modifier != "=" && modifier != "^~" {
		s.fail(r.At, "location %s: a route's path is a prefix of whole segments, or exact", strings.Join(d.Args, " "))
		return r, false
	}
	if !r.Exact && !strings.HasSuffix(path, "/") {
		s.fail(r.At, "location %s also takes %sx; a route's path is a prefix of whole segments: write location %s/ there first", path, path, path)
		return r, false
	}
	in := outer.with(d.Block, "proxy_pass", "return", "include")
	r.MaxBody, r.Timeout, r.Retries, r.Notes = in.maxBody, in.timeout, in.retries, in.notes
	var pass, back *crossplane.Directive
	for _, x := range d.Block {
		switch x.Directive {
		case "proxy_pass":
			pass = x
		case "return":
			back = x
		}
	}
	before := len(s.bad)
	s.bad = append(s.bad, in.bad[len(outer.bad):]...)
	switch {
	case back != nil && len(back.Args) == 1 && back.Args[0] == "404" && path == "/" && len(s.bad) == before:
		return r, false // as our proxy answers where there is no route
	case back != nil:
		return r, s.redirect(back, &r)
	case pass == nil:
		s.fail(r.At, "location %s serves no members of a group (proxy_pass)", path)
		return r, false
	}
	n.pass(s, pass, &r)
	in.sent(s, r.At)
	if problems := checked(r); len(problems) > 0 && len(s.bad) == 0 {
		s.fail(r.At, "%v", problems[0])
	}
	return r, len(s.bad) == before
}

func (s *server) redirect(d *crossplane.Directive, r *Route) bool {
	code, to := "302", strings.Join(d.Args, " ")
	if len(d.Args) == 2 {
		code, to = d.Args[0], d.Args[1]
	}
	r.Redirect, r.MaxBody, r.Timeout, r.Retries = to, 0, 0, 0
	switch problems := checked(*r); {
	case code != "302":
		s.fail(at(d), "return %s: a route's redirect is a 302", strings.Join(d.Args, " "))
	case strings.Contains(to, "$"):
		s.fail(at(d), "return %s: a route's redirect has no variables", strings.Join(d.Args, " "))
	case len(problems) > 0:
		s.fail(at(d), "%v", problems[0])
	default:
		return true
	}
	return false
}

// pass reads whom a path is sent to.
func (n *nginxReader) pass(s *server, d *crossplane.Directive, r *Route) {
	target := strings.Join(d.Args, " ")
	rest, plain := strings.CutPrefix(target, "http://")
	switch {
	case !plain || strings.HasPrefix(rest, "unix:"):
		s.fail(at(d), "proxy_pass %s: members are reached by http over TCP", target)
		return
	case strings.Contains(rest, "$"):
		s.fail(at(d), "proxy_pass %s: a route's target has no variables", target)
		return
	}
	host, uri := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		host, uri = rest[:i], rest[i:]
	}
	if uri != "" {
		if r.Rewrite = uri; !r.Exact && !strings.HasSuffix(uri, "/") {
			s.fail(at(d), "proxy_pass %s: what replaces the path %s ends with a slash as well, or segments run together", target, r.Path)
			return
		}
	}
	up := n.upstreams[host]
	if up == nil {
		if !strings.Contains(host, ":") {
			host += ":80"
		}
		r.Servers = []Server{{Address: host, Weight: 1}}
		return
	}
	for _, x := range up.Block {
		switch x.Directive {
		case "server":
			n.member(s, x, r)
		case "keepalive", "keepalive_timeout", "keepalive_requests", "keepalive_time", "zone":
			r.Notes = append(r.Notes, at(x)+": "+x.Directive+" is not carried over")
		default:
			s.fail(at(x), "upstream %s: %s: members are taken in turn, by weight", host, x.Directive)
		}
	}
	if len(r.Servers) == 0 && len(s.bad) == 0 {
		s.fail(at(up), "upstream %s names no server", host)
	}
}

func (n *nginxReader) member(s *server, d *crossplane.Directive, r *Route) {
	if len(d.Args) == 0 {
		return
	}
	m := Server{Address: d.Args[0], Weight: 1}
	if !strings.Contains(m.Address, ":") {
		m.Address += ":80"
	}
	for _, arg := range d.Args[1:] {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "weight":
			w, err := strconv.Atoi(value)
			if err != nil || w < 1 || w > 10000 {
				s.fail(at(d), "server %s: %s: want 1 to 10000", m.Address, arg)
				return
			}
			m.Weight = w
		case "down":
			r.Notes = append(r.Notes, at(d)+": "+m.Address+" is down; whether a member serves is judged by its health here")
			return
		case "max_fails", "fail_timeout", "max_conns", "slow_start", "resolve":
			r.Notes = append(r.Notes, at(d)+": "+name+" is not carried over")
		default:
			s.fail(at(d), "server %s: no route can say %s", m.Address, arg)
			return
		}
	}
	if strings.HasPrefix(m.Address, "unix:") {
		s.fail(at(d), "server %s: members are reached over TCP", m.Address)
		return
	}
	r.Servers = append(r.Servers, m)
}
