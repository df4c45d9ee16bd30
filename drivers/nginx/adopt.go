package nginx

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"locktide.dev/drivers"
	"locktide.dev/drivers/l7"
	"locktide.dev/drivers/l7/foreign"
	"locktide.dev/schema"
)

// A route that the configuration before ours (Config.Adopts) serves stands as
// foreign until it is adopted: then it is in a generation of ours as well.
// Whom it is sent to is not compared: a foreign configuration names addresses,
// a route names groups, and members come and go.

// before reads the configuration that serves until its routes are adopted.
func (d *Driver) before() (*foreign.Config, error) {
	if d.adopts == nil {
		return &foreign.Config{}, nil
	}
	return d.adopts.Read()
}

// standing compares a wanted route that no generation of ours holds with what
// the configuration before ours serves; unread is why that is not known.
func standing(want schema.Object, before *foreign.Config, unread error) schema.LiveObject {
	o := schema.LiveObject{Key: want.Key, State: schema.StateAbsent}
	r, err := routeOf(want)
	if err != nil || len(r.Match) > 0 { // requests of certain headers are routed here only
		return o
	}
	if unread != nil {
		o.State, o.Reason = schema.StateUnknown, unread.Error()
		return o
	}
	var at []string
	var found []l7.Route
	for _, domain := range r.Domains {
		if f, ok := before.Find(domain, r.Path, r.Exact); ok {
			at, found = append(at, f.At), append(found, f.Route)
			f.Domains, f.To, f.Priority = r.Domains, r.To, r.Priority
			o.Diff = append(o.Diff, differences(r, f.Route)...)
		}
	}
	if len(found) == 0 {
		return o
	}
	if len(found) < len(r.Domains) {
		o.Diff = append(o.Diff, schema.Change{Field: "domains", Was: strings.Join(r.Domains, " "), Is: fmt.Sprintf("%d of them", len(found))})
	}
	o.State, o.Equal, o.Version = schema.StateForeign, len(o.Diff) == 0, schema.Version(schema.DigestOf(schema.MustCanonical(found)).Short())
	o.Reason = "served by " + at[0]
	return o
}

// adoption gives why an action on a route of the configuration before ours
// must not be carried out; nil: it may, or no such route stands there.
func (d *Driver) adoption(a schema.Action) *schema.Failure {
	if a.Object == nil || d.adopts == nil {
		return nil
	}
	before, err := d.before()
	o := standing(*a.Object, before, err)
	refuse := func(kind schema.FailureKind, next, format string, args ...any) *schema.Failure {
		return &schema.Failure{Kind: kind, Diff: o.Diff, Next: next, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case o.State == schema.StateUnknown:
		return refuse(schema.FailUnavailable, "", "cannot tell whether %s is served by %s: %s", a.Key, d.adopts.Path(), o.Reason)
	case o.State == schema.StateAbsent && a.Verb == schema.VerbAdopt:
		return refuse(schema.FailConflict, "", "%s does not serve %s any more", d.adopts.Path(), a.Key)
	case o.State == schema.StateAbsent:
		return nil
	case a.Verb != schema.VerbAdopt:
		return refuse(schema.FailInvalid, "locktide adopt "+a.Key.String(), "%s is %s", a.Key, o.Reason)
	case a.If != o.Version:
		return refuse(schema.FailConflict, "", "%s changed since %s was read", d.adopts.Path(), a.Key)
	case !o.Equal:
		return refuse(schema.FailInvalid, "define it as it is served, adopt it, then change it", "%s differs from what is served: only an equal route can be adopted", a.Key)
	}
	return nil
}

// Export implements drivers.Exporter: the routes of the configuration before
// ours that no generation of ours holds.
func (d *Driver) Export(context.Context) ([]drivers.Exported, error) {
	if d.adopts == nil || d.config.MembersOnly {
		return nil, nil
	}
	before, err := d.before()
	if err != nil {
		return nil, fmt.Errorf("nginx instance %s: %w", d.config.Name, err)
	}
	d.mu.Lock()
	ours, _ := d.state.model()
	d.mu.Unlock()
	var out []drivers.Exported
	for _, f := range before.Routes {
		if held(ours, f.Route) {
			continue
		}
		x := drivers.Exported{Key: schema.Key{Kind: KindRoute, Instance: d.config.Name, Name: f.Domains[0] + f.Path}, Name: f.Domains[0], At: f.At, Notes: f.Notes, Route: definition(f, d.config.Name)}
		for _, s := range f.Servers {
			x.Servers = append(x.Servers, drivers.Server(s))
		}
		switch pem, key := filepath.Join(d.config.CertDir, f.TLS+".pem"), filepath.Join(d.config.CertDir, f.TLS+".key"); {
		case f.TLS == "":
		case d.config.ListenTLS == "":
			x.Route, x.Why = nil, "it is served with TLS, and the instance has no listen_tls and cert_dir"
		case f.Cert != pem || f.CertKey != key:
			x.Notes = append(x.Notes, fmt.Sprintf("%s: the certificate is read from %s and %s here: put %s and %s there", f.At, pem, key, f.Cert, f.CertKey))
		}
		out = append(out, x)
	}
	for _, r := range before.Refused {
		out = append(out, drivers.Exported{Key: schema.Key{Kind: KindRoute, Instance: d.config.Name, Name: r.Name}, Name: r.Name, At: r.At, Why: r.Why})
	}
	return out, nil
}

// held says whether a route of ours serves one of the domains under the path.
func held(ours map[string]l7.Route, f l7.Route) bool {
	for _, domain := range f.Domains {
		for _, r := range ours {
			if r.Path != f.Path || r.Exact != f.Exact {
				continue
			}
			for _, d := range r.Domains {
				if d == domain {
					return true
				}
			}
		}
	}
	return false
}

// definition gives a route as it is written, without targets.
func definition(f foreign.Route, via string) *schema.Route {
	return &schema.Route{Domains: f.Domains, Path: f.Path, Exact: f.Exact, Via: schema.StringList{via}, Timeout: schema.Duration(f.Timeout * 1e6), Retries: f.Retries,
		TLS: f.TLS, Rewrite: f.Rewrite, Redirect: f.Redirect, MaxBody: f.MaxBody}
}

var _ drivers.Exporter = (*Driver)(nil)
