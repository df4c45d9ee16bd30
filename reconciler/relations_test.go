package reconciler_test

import (
	"fmt"
	"testing"
	"time"

	"locktide.dev/schema"
)

// Relations follow the commit in force and the members that run.
func TestRelationsFollowTheFleet(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		ask := func(of, to string) string {
			a, err := w.loop.Relations().Related(schema.Ref(of), to)
			return fmt.Sprint(a.Found, err)
		}
		before := w.loop.Relations()
		if w.loop.Relations() != before {
			t.Error("an index was made twice of the same report")
		}
		a, err := before.Related("domains/shop.api.example", "members")
		if err != nil || len(a.Found) != 2 {
			t.Fatalf("members behind the domain: %v, %v", a.Found, err)
		}
		f := fleet(one("1"), 3)
		r := f.Routes["shop.api"]
		r.Domains = []string{"new.example"}
		f.Routes["shop.api"] = r
		w.git.commit(f)
		w.until(10*time.Minute, "the commit is carried out", w.onCommit("c2"))
		if got := ask("domains/new.example", "groups"); got != "[groups/"+apiGroup+"] <nil>" {
			t.Errorf("groups of the new domain: %s", got)
		}
		if a, err := w.loop.Relations().Related("apps/shop.api", "members"); err != nil || len(a.Found) != 3 {
			t.Errorf("members after the commit: %v, %v", a.Found, err)
		}
		if _, err := w.loop.Relations().Related("domains/shop.api.example", "groups"); err == nil {
			t.Error("the domain that is gone is still known")
		}
		if a, err := before.Related("domains/shop.api.example", "members"); err != nil || len(a.Found) != 2 {
			t.Errorf("an index that is held changed: %v, %v", a.Found, err)
		}
	})
}
