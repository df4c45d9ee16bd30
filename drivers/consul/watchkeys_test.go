package consul_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers/consul"
	"locktide.dev/schema"
)

// Whatever raw key is written, by us or by others, rings: among many in few
// folders, whose queries wait for it, as well as among folders that are too
// many to wait for. Nothing rings for keys beside them.
func TestWatchRingsForRawKeys(t *testing.T) {
	names := func(each int, tops ...string) (out []string) {
		for _, top := range tops {
			out = append(out, top+"/a", top+"/a/b", top+"/ab", top+"/a/\u00fc", top+"/a/\u00fd\u00fc", top+"/x y/100%")
			for i := range each {
				out = append(out, fmt.Sprintf("%s/a/f%d/k%02d", top, i%7, i))
			}
		}
		return out
	}
	for name, keys := range map[string][]string{"few folders": names(100, "watched-1", "watched-2"), "many folders": names(5, strings.Fields("w1 w2 w3 w4 w5 w6 w7 w8 w9 w10")...)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, client := open(t, nil)
			root := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()) + "-"
			def := schema.Consul{Keys: map[string]schema.ConsulKey{}}
			for i := range keys {
				keys[i] = root + keys[i]
				def.Keys[keys[i]] = schema.ConsulKey{Value: "0"}
				if _, err := client.KV().Delete(keys[i], nil); err != nil {
					t.Fatal(err)
				}
			}
			objects := rawObjects(t, d, def)
			var batch []schema.Action
			for _, key := range keys[2:] {
				batch = append(batch, act(schema.VerbCreate, objects[key], ""))
			}
			apply(t, d, batch...)
			t.Cleanup(func() {
				if _, err := client.KV().DeleteTree(root, nil); err != nil {
					t.Error(err)
				}
			})
			ctx, cancel := context.WithCancel(t.Context())
			rings, ended := make(chan []schema.Key, 1000), make(chan error, 1)
			go func() { ended <- d.Watch(ctx, func(k []schema.Key) { rings <- k }) }()
			awaits := func(what, name string, again func(i int)) {
				t.Helper()
				key := schema.Key{Kind: consul.KindKey, Instance: "east", Name: name}
				for i, limit := 0, time.Now().Add(patience); time.Now().Before(limit); i++ {
					if again != nil {
						again(i)
					}
					for next := time.After(5 * time.Second); next != nil; {
						select {
						case rung := <-rings:
							if slices.Contains(rung, key) {
								return
							}
							if slices.ContainsFunc(rung, func(k schema.Key) bool { return k.Kind == consul.KindKey }) && again == nil {
								t.Errorf("%s: rang for %v", what, rung)
							}
						case <-next:
							next = nil
						}
					}
				}
				t.Fatalf("%s: never rang for %s", what, name)
			}
			put := func(key string, value any) {
				t.Helper()
				if _, err := client.KV().Put(&api.KVPair{Key: key, Value: fmt.Append(nil, value)}, nil); err != nil {
					t.Fatal(err)
				}
			}
			awaits("the first picture is there", keys[2], func(i int) { put(keys[2], i) }) // it is made some time after the start
			put(root+"beside", 1)
			for _, key := range []string{keys[3], keys[len(keys)-1], keys[len(keys)/2]} {
				put(key+"-beside", 1)
				put(key, "foreign")
				awaits("a foreign write", key, nil)
			}
			marks := "test/" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")) + "/_keys/"
			put(marks+keys[6], "{}")
			awaits("a foreign mark", keys[6], nil)
			if _, err := client.KV().Delete(keys[7], nil); err != nil {
				t.Fatal(err)
			}
			awaits("a deletion", keys[7], nil)
			apply(t, d, act(schema.VerbCreate, objects[keys[0]], ""))
			awaits("a new key", keys[0], nil)
			put(keys[0], "foreign")
			awaits("a write to the new key", keys[0], nil)
			if _, err := client.KV().Delete(marks+keys[8], nil); err != nil {
				t.Fatal(err)
			}
			awaits("a mark that is lost", keys[8], nil)
			cancel()
			if err := <-ended; ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
}
