package nginx

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"locktide.dev/drivers/l7"
	"locktide.dev/schema"
)

// Files of a generation.
const (
	mainFile      = "nginx.conf"     // the whole configuration; for an external nginx only tested
	httpFile      = "http.conf"      // includes the three below; for http {} of an external nginx
	routesFile    = "routes.conf"    // member-free: a function of the routes alone
	upstreamsFile = "upstreams.conf" // who serves
	statusFile    = "status.conf"    // answers the generation's number
)

// files gives the text of a generation. Everything that is printed here went
// through l7's character classes or is a number or a name of our own.
func (d *Driver) files(s state, sites []l7.Site, pools []l7.Pool) map[string][]byte {
	out := map[string][]byte{
		routesFile:    []byte(d.routes(sites)),
		upstreamsFile: []byte(upstreams(pools, s.Members)),
		statusFile:    []byte(d.status(s.Generation)),
		stateFile:     schema.MustCanonical(s),
	}
	dir := d.store.Path(s.Generation)
	include := ""
	for _, f := range []string{statusFile, upstreamsFile, routesFile} {
		include += "include " + filepath.Join(dir, f) + ";\n"
	}
	out[httpFile] = []byte(include)
	out[mainFile] = []byte(d.main(filepath.Join(dir, httpFile)))
	return out
}

func (d *Driver) main(include string) string {
	c := d.config
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("daemon on;")
	if os.Geteuid() == 0 && c.User != "" {
		line("user %s;", c.User)
	}
	if c.Workers > 0 {
		line("worker_processes %d;", c.Workers)
	} else {
		line("worker_processes auto;")
	}
	line("worker_shutdown_timeout %dms;", c.WorkerShutdownTimeout.Std().Milliseconds())
	line("pid %s;", c.PidFile())
	line("error_log %s warn;", filepath.Join(c.Dir, "error.log"))
	line("events { worker_connections 4096; }")
	line("http {")
	line("\tlog_format locktide escape=json '$msec\\t$host\\t$status\\t$request_time\\t$bytes_sent\\t$upstream_addr\\t$upstream_status\\t$request_method\\t$uri\\t$upstream_response_time\\t$request_uri';")
	line("\taccess_log %s locktide;", filepath.Join(c.Dir, "access.log"))
	for _, t := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		line("\t%s_temp_path %s;", t, filepath.Join(c.Dir, "temp-"+t))
	}
	line("\tserver_tokens off;")
	line("\tserver_names_hash_max_size 32768;\n\tserver_names_hash_bucket_size 512;")
	line("\tmap_hash_max_size 32768;\n\tmap_hash_bucket_size 512;\n\tvariables_hash_max_size 32768;")
	line("\tdefault_type application/octet-stream;")
	line("\tserver { listen %s default_server; return 404; }", c.Listen)
	line("\tinclude %s;", include)
	line("}")
	return b.String()
}

// status also sets the variable that names a pool: nginx knows a variable
// only if something sets it, and there may be no route yet.
func (d *Driver) status(generation uint64) string {
	return fmt.Sprintf("server {\n\tlisten unix:%s;\n\taccess_log off;\n\tset $lt_pool \"\";\n\tlocation = /locktide/generation { default_type text/plain; return 200 %d; }\n\tlocation / { return 404; }\n}\n",
		d.config.statusSocket(), generation)
}

// upstreams names who serves. A pool without members gets a server that is
// down, which nginx demands, and an entry in the map by which routes answer
// 503 themselves.
func upstreams(pools []l7.Pool, members map[string]schema.Serving) string {
	var b, empty strings.Builder
	for _, p := range pools {
		servers := p.Servers(members)
		fmt.Fprintf(&b, "upstream %s {\n", p.Name)
		for _, s := range servers {
			fmt.Fprintf(&b, "\tserver %s weight=%d; # %s %s\n", s.Address, s.Weight, s.Group, s.ID)
		}
		if len(servers) == 0 {
			b.WriteString("\tserver 127.0.0.1:9 down;\n")
			fmt.Fprintf(&empty, "\t%s 1;\n", p.Name)
		}
		b.WriteString("}\n")
	}
	return "map $lt_pool $lt_empty {\n\tdefault \"\";\n" + empty.String() + "}\n" + b.String()
}

func (d *Driver) routes(sites []l7.Site) string {
	var maps, servers strings.Builder
	choices := 0
	maps.WriteString("map $http_upgrade $lt_connection { default upgrade; \"\" close; }\n")
	for _, s := range sites {
		fmt.Fprintf(&servers, "server {\n\tlisten %s;\n", d.config.Listen)
		if s.TLS != "" {
			cert := filepath.Join(d.config.CertDir, s.TLS)
			fmt.Fprintf(&servers, "\tlisten %s ssl;\n\tssl_certificate %s.pem;\n\tssl_certificate_key %s.key;\n", d.config.ListenTLS, cert, cert)
		}
		fmt.Fprintf(&servers, "\tserver_name %s;\n", s.Domain)
		exact := map[string]bool{}
		for _, l := range s.Locations {
			if l.Exact {
				exact[l.Path] = true
			}
		}
		rooted := false
		for _, l := range s.Locations {
			choice := ""
			if len(l.Variants) > 0 && l.Settings.Redirect == "" {
				choices++
				choice = fmt.Sprintf("$lt_choice_%d", choices)
				maps.WriteString(choose(choice, l))
			}
			body := location(l, choice)
			bare := strings.TrimSuffix(l.Path, "/")
			switch {
			case l.Exact:
				fmt.Fprintf(&servers, "\tlocation = %s {\n%s\t}\n", l.Path, body)
			default:
				rooted = rooted || l.Path == "/"
				if bare != "" && bare == l.Path && !exact[bare] {
					fmt.Fprintf(&servers, "\tlocation = %s {\n%s\t}\n", bare, body)
				}
				fmt.Fprintf(&servers, "\tlocation %s/ {\n%s\t}\n", bare, body)
			}
		}
		if !rooted {
			servers.WriteString("\tlocation / { return 404; }\n")
		}
		servers.WriteString("}\n")
	}
	return maps.String() + servers.String()
}

// choose makes a chain of maps from header values to the name of a pool.
func choose(variable string, l l7.Location) string {
	fallback := "\"\""
	if l.Default != nil {
		fallback = l.Default.Name
	}
	var out string
	for i := len(l.Variants) - 1; i >= 0; i-- {
		v := l.Variants[i]
		source, value := "", ""
		for _, h := range sortedKeys(v.Match) {
			source += "|$http_" + strings.ToLower(strings.ReplaceAll(h, "-", "_"))
			value += "|" + v.Match[h]
		}
		name := variable
		if i > 0 {
			name = fmt.Sprintf("%s_%d", variable, i)
		}
		out += fmt.Sprintf("map \"%s\" %s { default %s; \"%s\" %s; }\n", source, name, fallback, value, v.Pool.Name)
		fallback = name
	}
	return out
}

func location(l l7.Location, choice string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "\t\t"+format+"\n", args...) }
	r := l.Settings
	if r.Redirect != "" {
		line("return 302 \"%s\";", r.Redirect)
		return b.String()
	}
	if choice == "" {
		choice = l.Default.Name
	}
	line("set $lt_pool %s;", choice)
	if l.Default == nil {
		line("if ($lt_pool = \"\") { return 404; }")
	}
	line("if ($lt_empty) { return 503; }")
	if r.MaxBody > 0 {
		line("client_max_body_size %d;", r.MaxBody)
	}
	if r.Timeout > 0 {
		line("proxy_read_timeout %dms;\n\t\tproxy_send_timeout %dms;", r.Timeout, r.Timeout)
	}
	line("proxy_next_upstream error timeout;")
	if r.Retries > 0 {
		line("proxy_next_upstream_tries %d;", r.Retries+1)
	}
	line("proxy_connect_timeout 5s;")
	line("proxy_http_version 1.1;")
	for _, h := range []string{"Host $host", "X-Real-IP $remote_addr", "X-Forwarded-For $proxy_add_x_forwarded_for", "X-Forwarded-Proto $scheme", "Upgrade $http_upgrade", "Connection $lt_connection"} {
		line("proxy_set_header %s;", h)
	}
	if r.Rewrite != "" {
		base := strings.TrimSuffix(l.Path, "/")
		if l.Exact {
			line("rewrite ^ %s break;", r.Rewrite)
		} else {
			line("rewrite \"^%s(?:/(.*))?$\" \"%s/$1\" break;", regexp.QuoteMeta(base), strings.TrimSuffix(r.Rewrite, "/"))
		}
	}
	line("proxy_pass http://%s;", choice)
	return b.String()
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
