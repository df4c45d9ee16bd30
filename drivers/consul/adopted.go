package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"locktide.dev/schema"
)

// adopted is the folder, beside the applications', that says which config
// entries were adopted. The entry itself is marked with its next change, so that
// adopting it writes nothing that proxies watch.
const adopted = "_entries/"

// adoption is the value of one of its keys. It holds for the entry as it was
// created then, and for none that took its place.
type adoption struct {
	Owner   string `json:"owner"`
	Created uint64 `json:"created"` // CreateIndex of the entry
}

func (d *Driver) adoptionKey(k schema.Kind, name string) string {
	return d.config.Prefix + "/" + adopted + consulKind(k) + "/" + name
}

// ownedBy gives who owns an entry: its mark says it, else how it was adopted.
func (e entry) ownedBy(k schema.Kind, a adoption) string {
	if owner := e.owner(k); owner != "" || e == nil || a.Created != e.created() {
		return owner
	}
	return a.Owner
}

// adoptions reads all of them, by kind and name.
func (d *Driver) adoptions(ctx context.Context) (map[string]adoption, error) {
	root := d.config.Prefix + "/" + adopted
	pairs, meta, err := d.client.KV().List(root, d.read(ctx))
	if err = led(meta, err); err != nil {
		return nil, fmt.Errorf("cannot list Consul KV under %s: %w", root, err)
	}
	out := make(map[string]adoption, len(pairs))
	for _, p := range pairs {
		var a adoption
		if json.Unmarshal(p.Value, &a) == nil {
			out[strings.TrimPrefix(p.Key, root)] = a
		}
	}
	return out, nil
}

// adoption reads that of one entry.
func (d *Driver) adoption(ctx context.Context, k schema.Key) (a adoption, err error) {
	value, _, err := d.KeyValue().Read(ctx, d.adoptionKey(k.Kind, k.Name))
	if err != nil || value == nil || json.Unmarshal(value, &a) != nil {
		return adoption{}, err
	}
	return a, nil
}

// adopt notes that an entry is ours from now on.
func (d *Driver) adopt(ctx context.Context, k schema.Key, live entry) error {
	value, err := schema.Canonical(adoption{Owner: d.config.Owner, Created: live.created()})
	if err != nil {
		return fmt.Errorf("cannot encode the adoption of %s: %w", k, err)
	}
	return d.KeyValue().Write(ctx, map[string][]byte{d.adoptionKey(k.Kind, k.Name): value})
}

// unadopt forgets an adoption, after its entry was marked or deleted. It may
// fail: what is left behind holds for no entry any more.
func (d *Driver) unadopt(ctx context.Context, k schema.Key) {
	_ = d.KeyValue().Write(ctx, map[string][]byte{d.adoptionKey(k.Kind, k.Name): nil})
}
