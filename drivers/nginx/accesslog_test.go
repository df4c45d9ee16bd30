package nginx_test

import (
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"locktide.dev/reconciler/gate/accesslog"
	"locktide.dev/schema"
)

// What gates read of a real nginx's log is what each member did: also an
// attempt at one that is away and that another one saved.
func TestAccessLogTellsWhatEachMemberDid(t *testing.T) {
	d, c := proxy(t, nil)
	good := app(t, "good")
	away := schema.Endpoint{ID: "away", Address: "127.0.0.1", Ports: map[string]int{"http": 1}}
	apply(t, d, object("shop", route("shop.test", "/", "shop/prod.dc1")))
	feed(t, d, members(1, map[string][]schema.Endpoint{"shop/prod.dc1": {good, away}}))
	began := time.Now().Add(-time.Second)
	const requests = 20
	for range requests {
		expect(t, c, "shop.test", "/item?page=1", http.StatusOK, "good /item")
	}
	log := accesslog.New([]string{filepath.Join(c.Dir, "access.log")})
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	addr := func(e schema.Endpoint) []string {
		return []string{net.JoinHostPort(e.Address, strconv.Itoa(e.Ports["http"]))}
	}
	var ok, bad accesslog.Tally
	eventually(t, "the log shows all requests", func() bool {
		ok, bad = accesslog.Tally{}, accesslog.Tally{}
		seconds, err := log.Window(t.Context(), began, time.Now().Add(time.Minute), addr(good), addr(away))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range seconds {
			ok.Add(s.New)
			bad.Add(s.Old)
		}
		return ok.N == requests
	})
	if ok.Bad != 0 || bad.N == 0 || bad.Bad != bad.N {
		t.Errorf("good: %+v, away: %+v", ok, bad)
	}
	recent, err := log.Recent(t.Context(), time.Now(), addr(good), 5)
	if err != nil || len(recent) != 1 || recent[0] != "/item?page=1" {
		t.Errorf("recent requests: %q, %v", recent, err)
	}
}
