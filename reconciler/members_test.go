package reconciler_test

import (
	"testing"
	"time"

	"locktide.dev/schema"
)

// What is known of groups follows a route that sends its traffic to another one
// (Doubt compares it with a look at all, after every turn).
func TestARouteToAnotherGroupIsNewsOfBoth(t *testing.T) {
	running(t, map[string]string{"shop.api": "1", "shop.web": "1"}, 2, func(w *world) {
		f := fleet(map[string]string{"shop.api": "2", "shop.web": "2"}, 2)
		r := f.Routes["shop.api"]
		r.To = []schema.Target{{App: "shop.web"}}
		f.Routes["shop.api"] = r
		w.git.commit(f)
		w.until(10*time.Minute, "the route leads to the other group", w.onCommit("c2"))
		for _, g := range w.loop.Report().Groups {
			if want := map[string]int{"shop.web/prod.dc1": 1}[g.Name]; len(g.Proxies) != want {
				t.Errorf("%d proxies serve %s, want %d", len(g.Proxies), g.Name, want)
			}
		}
	})
}
