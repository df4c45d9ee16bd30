package nginx

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/l7"
	"locktide.dev/schema"
)

// Observe implements drivers.Driver. It reads the generation that current
// names and compares its files with their manifest: a file that was edited by
// hand makes every route of the proxy differ, since one generation holds all.
func (d *Driver) Observe(_ context.Context, q drivers.Query) (schema.Live, error) {
	live := schema.Live{At: d.now(), Complete: true}
	d.mu.Lock()
	defer d.mu.Unlock()
	s, reason, err := d.onDisk()
	if err != nil {
		return schema.Live{}, fmt.Errorf("nginx instance %s: %w", d.config.Name, err)
	}
	if q.Want == nil {
		for _, name := range sortedKeys(s.Routes) {
			live.Objects = append(live.Objects, schema.LiveObject{Key: s.Routes[name].Object.Key, State: schema.StatePresent, Version: s.Routes[name].version()})
		}
	}
	before, unread := d.before()
	for _, w := range q.Want {
		if r, ok := s.Routes[w.Object.Key.Name]; ok {
			live.Objects = append(live.Objects, compare(r, w.Object, reason))
			continue
		}
		live.Objects = append(live.Objects, standing(w.Object, before, unread))
	}
	return live, nil
}

// onDisk gives the state in force and, if files are not as written, why. A
// state that cannot be read back is taken from memory: the next write heals it.
func (d *Driver) onDisk() (state, string, error) {
	n, err := d.store.InForce()
	if err != nil {
		return state{}, "", err
	}
	if n != d.state.Generation {
		return d.state, fmt.Sprintf("%s points to generation %d, not to %d as we left it", l7.Current, n, d.state.Generation), nil
	}
	edited, err := d.store.Edited(n)
	if err != nil || len(edited) == 0 {
		return d.state, "", err
	}
	return d.state, "edited by hand: " + strings.Join(edited, ", "), nil
}

func compare(r routeState, want schema.Object, edited string) schema.LiveObject {
	o := schema.LiveObject{Key: want.Key, State: schema.StateDiffers, Version: r.version(), Reason: edited}
	if edited != "" {
		o.Diff = []schema.Change{{Field: "files", Was: "as generated", Is: edited}}
		return o
	}
	was, err1 := routeOf(want)
	is, err2 := routeOf(r.Object)
	switch {
	case r.Object.Digest == want.Digest:
		o.State, o.Receipt = schema.StateSame, &schema.Receipt{Version: o.Version, Digest: want.Digest}
	case err1 != nil || err2 != nil:
		o.Reason = "the spec is of another format"
	default:
		o.Diff = differences(was, is)
	}
	return o
}

func differences(was, is l7.Route) (out []schema.Change) {
	a, b := reflect.ValueOf(was), reflect.ValueOf(is)
	for i := range a.NumField() {
		if x, y := string(schema.MustCanonical(a.Field(i).Interface())), string(schema.MustCanonical(b.Field(i).Interface())); x != y {
			out = append(out, schema.Change{Field: strings.ToLower(a.Type().Field(i).Name), Was: x, Is: y})
		}
	}
	return out
}

// Inventory implements drivers.Inventory: the directory is ours as a whole.
func (d *Driver) Inventory(context.Context) ([]drivers.Owned, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []drivers.Owned
	for _, name := range sortedKeys(d.state.Routes) {
		r := d.state.Routes[name]
		out = append(out, drivers.Owned{Object: r.Object, Receipt: schema.Receipt{Version: r.version(), Digest: r.Object.Digest}})
	}
	return out, nil
}

// Version gives nginx's version.
func (d *Driver) Version(ctx context.Context) (string, error) {
	out, err := command(ctx, []string{d.config.Binary, "-v"}).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot ask %s for its version: %w", d.config.Binary, err)
	}
	return strings.TrimSpace(strings.TrimPrefix(string(out), "nginx version: nginx/")), nil
}

// lookEvery is how often Watch looks: a hand edit must be seen within 2 s.
const lookEvery = 500 * time.Millisecond

// Watch implements drivers.Watcher: it rings when a generated file or the
// symlink changed, and keeps a managed nginx running.
func (d *Driver) Watch(ctx context.Context, ring func(keys []schema.Key)) error {
	seen := d.fingerprint()
	for {
		if err := sleep(ctx, lookEvery); err != nil {
			return err
		}
		if now := d.fingerprint(); !slices.Equal(now, seen) {
			seen = now
			ring(nil)
		}
		if d.config.External || d.config.running() != 0 || !d.mu.TryLock() {
			continue
		}
		err := d.run(ctx)
		d.mu.Unlock()
		ring(nil)
		if err != nil {
			return fmt.Errorf("nginx %s is gone and does not start again: %w", d.config.Name, err)
		}
	}
}

// fingerprint is the names, sizes and times of the files in force.
func (d *Driver) fingerprint() []string {
	dir := filepath.Join(d.config.Dir, l7.Current)
	target, err := os.Readlink(dir)
	out := []string{target, fmt.Sprint(err)}
	entries, err := os.ReadDir(dir)
	out = append(out, fmt.Sprint(err))
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			out = append(out, e.Name()+" "+err.Error())
			continue
		}
		out = append(out, fmt.Sprint(e.Name(), info.Size(), info.ModTime().UnixNano()))
	}
	return out
}
