package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"locktide.dev/cmd/internal/config"
	"locktide.dev/drivers/access"
	"locktide.dev/schema"
)

// probe asks one server what a doctor wants to know: version, clock, and what
// the token may do. Writes are asked for so that they cannot take effect: of
// things that do not exist, with a compare-and-set index that never was, or with
// a value that no server takes once it has let the request in.
type probe struct {
	name, address string
	client        *http.Client
}

func newProbe(name, address, header, tokenFile string, files config.TLS) (*probe, error) {
	transport, err := access.Files{CA: files.CA, Cert: files.Cert, Key: files.Key, ServerName: files.ServerName, Token: tokenFile}.
		Transport(&http.Transport{DisableKeepAlives: true}, header)
	if err != nil {
		return nil, err
	}
	return &probe{name: name, address: strings.TrimRight(address, "/"), client: &http.Client{Timeout: 5 * time.Second, Transport: transport}}, nil
}

// said is what a server answered.
type said struct {
	status int
	header http.Header
	body   []byte
}

func (p *probe) ask(ctx context.Context, method, path string, body []byte) (said, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.address+path, bytes.NewReader(body))
	if err != nil {
		return said{}, err
	}
	res, err := p.client.Do(req)
	if err != nil {
		return said{}, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	return said{res.StatusCode, res.Header, raw}, err
}

// right is one permission: what lacks it, and a request that only it lets in.
type right struct {
	needs, verbs, method, path string
	body                       []byte
	optional                   bool
}

// checks asks all, in order: version and clock first.
func (p *probe) checks(ctx context.Context, tested string, versionOf func([]byte) string, rights []right) []schema.Diagnosis {
	began := time.Now()
	self, err := p.ask(ctx, http.MethodGet, "/v1/agent/self", nil)
	if err != nil {
		return []schema.Diagnosis{{Name: p.name, Says: err.Error(), Next: "check its address, TLS and network from this host"}}
	}
	took := time.Since(began)
	out := []schema.Diagnosis{p.version(versionOf(self.body), tested, self.status, took), p.clock(self.header.Get("Date"), began, took)}
	k := schema.Diagnosis{Name: p.name + " permissions", OK: true, Next: "docs/permissions.md has the policy"}
	var lacks, without []string
	for _, r := range rights {
		a, err := p.ask(ctx, r.method, r.path, r.body)
		denied := err == nil && (a.status == http.StatusForbidden || bytes.Contains(a.body, []byte("Permission denied")) || a.header.Get("X-Consul-Results-Filtered-By-ACLs") == "true")
		switch {
		case err != nil:
			lacks = append(lacks, fmt.Sprintf("%s: %v", r.needs, err))
		case denied && r.optional:
			without = append(without, fmt.Sprintf("%s (%s)", r.verbs, r.needs))
		case denied:
			lacks = append(lacks, fmt.Sprintf("%s needs %s", r.verbs, r.needs))
		}
	}
	switch {
	case len(lacks) > 0:
		k.OK, k.Says = false, "denied: "+strings.Join(lacks, "; ")
	case len(without) > 0:
		k.Says = "enough, but not for " + strings.Join(without, ", ")
	default:
		k.Says = "enough for every verb"
	}
	return append(out, k)
}

func (p *probe) version(have, tested string, status int, took time.Duration) schema.Diagnosis {
	k := schema.Diagnosis{Name: p.name, OK: true, Says: fmt.Sprintf("version %s, tested with %s, answers in %s", have, tested, took.Round(100*time.Microsecond))}
	if have == "" {
		k.Says = fmt.Sprintf("answers in %s, but does not tell its version (status %d: agent:read tells it); tested with %s", took.Round(100*time.Microsecond), status, tested)
	}
	return k
}

// clock compares the server's clock, which has whole seconds, with ours.
func (p *probe) clock(date string, began time.Time, took time.Duration) schema.Diagnosis {
	k := schema.Diagnosis{Name: p.name + " clock", Next: "run a time service on both hosts: ages and leases are compared with this clock"}
	at, err := http.ParseTime(date)
	if err != nil {
		k.OK, k.Says = true, "does not tell the time"
		return k
	}
	skew := max(at.Sub(began.Add(took)), began.Sub(at.Add(time.Second)), 0)
	k.OK, k.Says = skew < 5*time.Second, fmt.Sprintf("differs from ours by %s at most", (skew+time.Second).Round(time.Second))
	if !k.OK {
		k.Says = fmt.Sprintf("differs from ours by %s", skew.Round(time.Second))
	}
	return k
}

const never = "18446744073709551614" // an index that no object has

func nomadRights(owner, namespace string, lease bool) []right {
	job := []byte(`{"Job":{"ID":"locktide-doctor","Name":"locktide-doctor","Type":"batch","Namespace":"` + namespace + `","Datacenters":["locktide-doctor"],
		"TaskGroups":[{"Name":"doctor","Tasks":[{"Name":"doctor","Driver":"raw_exec","Config":{"command":"/bin/true"}}]}]}}`)
	q := "?namespace=" + namespace
	out := []right{
		{needs: "list-jobs, read-job", verbs: "status, diff", method: http.MethodGet, path: "/v1/jobs" + q},
		{needs: "submit-job", verbs: "rollouts, repair, adopt, fields of drift", method: http.MethodPut, path: "/v1/job/locktide-doctor/plan" + q, body: job},
		{needs: "node:read", verbs: "out, get", method: http.MethodGet, path: "/v1/nodes"},
		{needs: "node:write", verbs: "drain, undrain", method: http.MethodPut, path: "/v1/node/00000000-0000-0000-0000-000000000000/eligibility",
			body: []byte(`{"NodeID":"00000000-0000-0000-0000-000000000000","Eligibility":"eligible"}`), optional: true},
	}
	if lease {
		out = append(out, right{needs: "variables write on locktide/*", verbs: "the lease, brake --direct", method: http.MethodPut,
			path: "/v1/var/locktide/" + owner + "/doctor?cas=" + never, body: []byte(`{"Path":"locktide/` + owner + `/doctor","Items":{"doctor":"never written"}}`)})
	}
	return out
}

func consulRights(prefix string) []right {
	if prefix == "" {
		prefix = "locktide"
	}
	return []right{
		{needs: "key_prefix write", verbs: "configuration, the lease, brake --direct", method: http.MethodPut, path: "/v1/kv/" + prefix + "/doctor?cas=" + never},
		{needs: "session_prefix read", verbs: "the lease", method: http.MethodGet, path: "/v1/session/list"},
		{needs: "session_prefix write", verbs: "the lease", method: http.MethodPut, path: "/v1/session/create", body: []byte(`{"Behavior":"no such behavior"}`)},
		{needs: "service_prefix and node_prefix read", verbs: "health of members", method: http.MethodGet, path: "/v1/health/state/any"},
		{needs: "service_prefix write", verbs: "service entries and intentions", method: http.MethodPut, path: "/v1/config?cas=" + never,
			body: []byte(`{"Kind":"service-defaults","Name":"locktide-doctor"}`), optional: true},
	}
}

// nomadVersion and consulVersion read it from the agent's answer about itself.
func nomadVersion(raw []byte) string {
	var a struct {
		Config struct{ Version struct{ Version string } }
	}
	if json.Unmarshal(raw, &a) != nil {
		return ""
	}
	return a.Config.Version.Version
}

func consulVersion(raw []byte) string {
	var a struct{ Config struct{ Version string } }
	if json.Unmarshal(raw, &a) != nil {
		return ""
	}
	return a.Config.Version
}
