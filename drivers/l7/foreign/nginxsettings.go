package foreign

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	crossplane "github.com/nginxinc/nginx-go-crossplane"
)

// settings is what holds in a block of nginx for the routes in it, its own
// directives over those around it.
type settings struct {
	maxBody int64
	timeout int64 // ms
	retries int
	headers map[string]string // sent to members, lower case
	at      map[string]string // where each header is set
	notes   []string
	bad     []problem
}

// unlimited is the body limit that stands for none.
const unlimited = 1 << 40

// notCarried are directives that change how nginx works, not who answers what.
var notCarried = []string{"access_log", "error_log", "log_not_found", "sendfile", "tcp_nopush", "tcp_nodelay", "keepalive_timeout", "keepalive_requests",
	"gzip", "gzip_*", "server_tokens", "ssl_protocols", "ssl_ciphers", "ssl_prefer_server_ciphers", "ssl_session_*", "ssl_dhparam", "ssl_ecdh_curve",
	"ssl_stapling", "ssl_stapling_verify", "ssl_trusted_certificate", "ssl_buffer_size", "http2", "default_type", "*_hash_max_size", "*_hash_bucket_size",
	"client_header_timeout", "client_body_timeout", "client_body_buffer_size", "client_header_buffer_size", "large_client_header_buffers", "*_temp_path",
	"send_timeout", "reset_timedout_connection", "open_file_cache*", "resolver", "resolver_timeout", "proxy_buffers", "proxy_buffer_size",
	"proxy_busy_buffers_size", "proxy_connect_timeout", "proxy_redirect", "server_name_in_redirect", "types_hash_max_size"}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		before, after, wild := strings.Cut(p, "*")
		return p == name || wild && strings.HasPrefix(name, before) && strings.HasSuffix(name, after) && len(name) >= len(p)-1
	})
}

// sameHeaders are the headers that our proxy sends to members, as nginx says
// them.
var sameHeaders = map[string][]string{
	"host":              {"$host", "$http_host"},
	"x-real-ip":         {"$remote_addr"},
	"x-forwarded-for":   {"$proxy_add_x_forwarded_for"},
	"x-forwarded-proto": {"$scheme"},
	"upgrade":           {"$http_upgrade"},
	"connection":        {"upgrade", "$connection_upgrade", ""},
}

// with gives the settings of a block inside these. The caller reads the
// directives that it names itself.
func (s settings) with(block crossplane.Directives, own ...string) settings {
	s.notes, s.bad = slices.Clone(s.notes), slices.Clone(s.bad)
	fresh := false
	for _, d := range block {
		value := strings.Join(d.Args, " ")
		switch {
		case slices.Contains(own, d.Directive):
		case d.Directive == "client_max_body_size":
			n, ok := size(value)
			if s.maxBody = n; n == 0 {
				s.maxBody = unlimited
				s.note(at(d), "no limit for bodies becomes one of 1 TiB")
			}
			if !ok {
				s.fail(d, "want a size")
			}
		case d.Directive == "proxy_read_timeout":
			n, ok := span(value)
			if s.timeout = n; !ok || n == 0 {
				s.fail(d, "want a time")
			}
		case d.Directive == "proxy_send_timeout":
			s.note(at(d), "proxy_send_timeout follows proxy_read_timeout")
		case d.Directive == "proxy_next_upstream_tries":
			n, err := strconv.Atoi(value)
			if s.retries = max(0, n-1); err != nil || n == 1 || n > 11 {
				s.fail(d, "a route tries 1 to 10 times more")
			}
		case d.Directive == "proxy_next_upstream":
			if value != "error timeout" {
				s.fail(d, "a route tries another member after error and timeout")
			}
		case d.Directive == "proxy_http_version":
		case d.Directive == "proxy_set_header" && len(d.Args) == 2:
			if !fresh { // those of the block around hold only where there are none
				s.headers, s.at, fresh = map[string]string{}, map[string]string{}, true
			}
			s.headers[strings.ToLower(d.Args[0])], s.at[strings.ToLower(d.Args[0])] = d.Args[1], at(d)
		case matches(notCarried, d.Directive):
			s.note(at(d), d.Directive+" is not carried over")
		default:
			s.fail(d, "no route can say it")
		}
	}
	return s
}

func (s *settings) note(at, text string) { s.notes = append(s.notes, at+": "+text) }

func (s *settings) fail(d *crossplane.Directive, why string) {
	s.bad = append(s.bad, problem{at(d), fmt.Sprintf("%s: %s", strings.Join(append([]string{d.Directive}, d.Args...), " "), why)})
}

// sent compares the headers that members get with those that ours sends.
func (s settings) sent(to *server, where string) {
	for _, name := range slices.Sorted(maps.Keys(s.headers)) {
		if !slices.Contains(sameHeaders[name], s.headers[name]) {
			to.fail(s.at[name], "proxy_set_header %s %s: members get Host, X-Real-IP, X-Forwarded-For and X-Forwarded-Proto of the request from a route", name, s.headers[name])
		}
	}
	if _, ok := s.headers["host"]; !ok {
		to.fail(where, "members get the upstream's name as Host; a route sends the request's: write proxy_set_header Host $host there first")
	}
}

// size reads nginx's form of bytes.
func size(text string) (int64, bool) {
	if text == "" {
		return 0, false
	}
	unit := int64(1)
	switch text[len(text)-1] {
	case 'k', 'K':
		unit = 1 << 10
	case 'm', 'M':
		unit = 1 << 20
	case 'g', 'G':
		unit = 1 << 30
	}
	n, err := strconv.ParseInt(strings.TrimRight(text, "kKmMgG"), 10, 64)
	return n * unit, err == nil && n >= 0 && n < 1<<31
}

// span reads nginx's form of a time, in milliseconds.
func span(text string) (int64, bool) {
	units := map[string]int64{"ms": 1, "s": 1000, "": 1000, "m": 60_000, "h": 3_600_000}
	digits := strings.TrimRight(text, "mshdwMy")
	unit, known := units[text[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	return n * unit, err == nil && known && n >= 0 && n < 1<<31
}
