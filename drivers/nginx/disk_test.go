package nginx_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"locktide.dev/drivers"
	"locktide.dev/drivers/nginx"
	"locktide.dev/schema"
)

// trouble is a state of the disk, made and taken away.
type trouble struct {
	name        string
	spoil, heal func() error
}

// TestDiskTrouble: when nothing can be written, the proxy serves on, no route
// is blamed, and the next write after it is over succeeds.
func TestDiskTrouble(t *testing.T) {
	disk, err := os.MkdirTemp("/tmp", "lt-disk-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	// Only root may mount; without it the directory is an ordinary one.
	noMount := mountSmall(disk)
	t.Cleanup(func() {
		if noMount == nil {
			if err := unmount(disk); err != nil {
				t.Error(err)
			}
		}
		if err := os.RemoveAll(disk); err != nil {
			t.Error(err)
		}
	})
	d, c := proxy(t, func(c *nginx.Config) {
		c.Dir = filepath.Join(disk, "edge")
		if err := os.Mkdir(c.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
	})
	cart, other := object("cart", route("cart.example", "/", "a/prod.dc1")), object("other", route("other.example", "/", "a/prod.dc1"))
	apply(t, d, cart)
	feed(t, d, members(1, map[string][]schema.Endpoint{"a/prod.dc1": {app(t, "a1")}}))

	obstacle := filepath.Join(c.Dir, ".current.new")
	troubles := []trouble{{"something in the way", func() error { return os.MkdirAll(filepath.Join(obstacle, "x"), 0o755) },
		func() error { return os.RemoveAll(obstacle) }}}
	if noMount == nil {
		filler := filepath.Join(disk, "filler")
		troubles = append(troubles,
			trouble{"full", func() error { return fill(filler) }, func() error { return os.Remove(filler) }},
			trouble{"read-only", func() error { return readOnly(c.Dir, true) }, func() error { return readOnly(c.Dir, false) }})
	}
	for _, x := range troubles {
		at, kept := generation(t, c), generations(t, c)
		if err := x.spoil(); err != nil {
			t.Fatalf("%s: %v", x.name, err)
		}
		out := d.Apply(t.Context(), []schema.Action{create(other)})[0]
		if out.Failure == nil || out.Failure.Kind != schema.FailUnavailable {
			t.Errorf("%s: a write gave %+v, want unavailable", x.name, out.Failure)
		}
		if now := generation(t, c); now != at {
			t.Errorf("%s: generation %d is in force instead of %d", x.name, now, at)
		}
		if now := generations(t, c); now > kept {
			t.Errorf("%s: the failed write left %d generations, there were %d", x.name, now, kept)
		}
		expect(t, c, "cart.example", "/", http.StatusOK, "a1 /")
		live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: cart}, {Object: other}}})
		if err != nil || live.Objects[0].State != schema.StateSame || live.Objects[1].State != schema.StateAbsent {
			t.Errorf("%s: observed %+v, error %v", x.name, live.Objects, err)
		}
		if err := x.heal(); err != nil {
			t.Fatalf("%s: %v", x.name, err)
		}
		apply(t, d, other)
		expect(t, c, "other.example", "/", http.StatusOK, "a1 /")
		live, err = d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: other}}})
		if err != nil {
			t.Fatal(err)
		}
		gone := create(other)
		gone.Verb, gone.If, gone.Object = schema.VerbDelete, live.Objects[0].Version, nil
		if out := d.Apply(t.Context(), []schema.Action{gone.Sealed()})[0]; out.Failure != nil {
			t.Fatalf("%s: %+v", x.name, out.Failure)
		}
	}
	kill(t, c) // a write finds no nginx, and starts one
	apply(t, d, other)
	expect(t, c, "other.example", "/", http.StatusOK, "a1 /")
}

func generations(t *testing.T, c nginx.Config) int {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(c.Dir, "gen-*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// fill writes until nothing more fits.
func fill(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, size := range []int{64 << 10, 1 << 10, 1} {
		for {
			if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
				break
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}
