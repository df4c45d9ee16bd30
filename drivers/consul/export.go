package consul

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// Export implements drivers.Exporter: external nodes as hosts, keys that lie
// where a group's live configuration does as that. Entries of the mesh follow
// from groups and routes, so that none is defined by itself; of intentions
// those of others stay anyway.
func (d *Driver) Export(ctx context.Context) ([]drivers.Exported, error) {
	kinds := []schema.Kind{KindKV, KindNode, KindDefaults, KindResolver, KindSplitter, KindRouter}
	r := d.load(ctx, kinds)
	for _, k := range kinds {
		if err := r.failed[k]; err != nil {
			return nil, fmt.Errorf("consul %s: %w", d.config.Name, explained(err))
		}
	}
	var out []drivers.Exported
	for _, name := range sortedKeys(r.folders) {
		if f := r.folders[name]; f.owner() != d.config.Owner && !strings.HasPrefix(name, "_") {
			out = append(out, d.exportFolder(name, f))
		}
	}
	for _, name := range sortedKeys(r.nodes) {
		if n := r.nodes[name]; n.Meta["external-node"] == "true" && n.Meta[ownerMeta] != d.config.Owner {
			out = append(out, d.exportNode(n))
		}
	}
	for _, k := range kinds[2:] {
		for _, name := range sortedKeys(r.entries[k]) {
			if owner := r.entries[k][name].owner(); owner != d.config.Owner {
				x := drivers.Exported{Key: d.key(k, name), Name: name, Why: "it follows from a service with the meta protocol, or from a route via " + d.config.Name + ", and stays as it is until one defines it"}
				if owner != "" {
					x.Why = belongs(owner)
				}
				out = append(out, x)
			}
		}
	}
	return out, nil
}

func belongs(owner string) string { return fmt.Sprintf("it belongs to the Locktide fleet %q", owner) }

// exportFolder gives the keys of one folder; its name is the group's, if it is
// where a group's live configuration lies.
func (d *Driver) exportFolder(name string, f folder) drivers.Exported {
	app, last, _ := strings.Cut(name, "/")
	x := drivers.Exported{Key: d.key(KindLive, name), Name: app}
	if !isLive(name) {
		x.Key.Kind = KindKV
	}
	config := map[string]string{}
	for k, p := range f.keys {
		config[k] = string(p.Value)
	}
	bad := badConfig(config)
	switch owner := f.owner(); {
	case owner != "":
		x.Why = belongs(owner)
	case x.Key.Kind == KindKV:
		x.Why = "no group tells that it reads it: a group's live configuration lies under APP/live.STAGE.CELL"
	case bad != "":
		x.Why = bad
	default:
		x.Notes = append(x.Notes, fmt.Sprintf("the values of its %d keys stand in the file as they are", len(config)))
		x.Config, x.Of = config, app+"/"+strings.TrimPrefix(last, "live.")
	}
	return x
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func (d *Driver) exportNode(n *api.Node) drivers.Exported {
	x := drivers.Exported{Key: d.key(KindNode, n.Node), Name: n.Node}
	switch more := foreignMeta(n); {
	case len(more) > 0:
		x.Why = "no host can say its meta " + strings.Join(more, ", ")
	case n.Meta[ownerMeta] != "":
		x.Why = belongs(n.Meta[ownerMeta])
	case !hostPattern.MatchString(n.Node):
		x.Why = "a host's name has letters, digits, dots, dashes and underscores"
	}
	if x.Why != "" {
		return x
	}
	x.Host = &schema.Host{Address: n.Address, External: true}
	if all := d.config.Datacenters; len(all) > 0 {
		x.Host.Datacenter = all[0]
		if len(all) > 1 {
			x.Notes = append(x.Notes, fmt.Sprintf("its datacenter is taken to be %s, of those of %s", all[0], d.config.Name))
		}
	}
	return x
}

var _ drivers.Exporter = (*Driver)(nil)
