package e2e

import (
	"fmt"
	"net"
	"net/http"
	"regexp"
	"sync/atomic"
	"testing"
	"time"
)

// While the server of artifacts is away, going back to what has to be fetched
// waits and says why: nobody who serves gives way. It goes on by itself.
func TestRollbackWithoutArtifacts(t *testing.T) {
	f := newFleet(t, "art")
	f.places = []string{"dc4"}
	store := artifacts(t)
	web := func(version string) map[string]string {
		return f.files(app{label: "web", version: version, count: 3,
			body: "artifact: {url: 'http://" + store.address + "/{version}.txt'}\nrollout: {max_unavailable: 50%, bake: 0s, start_timeout: 15s}"})
	}
	f.git.push("v1", web("v1"))
	f.begin()
	f.converged(f.git.head())
	f.converged(f.git.push("v2", web("v2")))
	f.answers("v2")
	if n := store.asked.Load(); n < 6 {
		t.Fatalf("%d downloads for six members", n)
	}
	load, floors, serving, update := f.load(), f.floors(1), f.inUpstreams(), f.updating(f.job("web", "dc4"))
	store.stop()
	commit := f.git.revert()
	f.await("explain names the artifact", func() error {
		out, err := f.locktide("explain", "groups/"+f.group("web", "dc4"))
		if err == nil && !regexp.MustCompile(`(?i)artifact.*`+regexp.QuoteMeta(store.address)).MatchString(out) {
			err = fmt.Errorf("explain: %s", out)
		}
		return err
	})
	f.await("start_timeout over, and more", func() error {
		surge := update.created()
		if len(surge) == 0 || time.Since(time.Unix(0, surge[0].CreateTime)) < 20*time.Second {
			return fmt.Errorf("%d allocations since", len(surge))
		}
		return nil
	})
	if now := f.inUpstreams(); fmt.Sprint(now) != fmt.Sprint(serving) {
		t.Errorf("nginx has %v, before the way back %v", now, serving)
	}
	store.start()
	f.converged(commit)
	f.answers("v1")
	load.end()
	floors.want(3)
}

// store serves artifacts, as long as it runs.
type store struct {
	t       *testing.T
	address string
	asked   atomic.Int64
	server  *http.Server
}

func artifacts(t *testing.T) *store {
	s := &store{t: t, address: "127.0.0.1:0"}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *store) start() {
	s.t.Helper()
	listener, err := net.Listen("tcp", s.address)
	must(s.t, err)
	s.address = listener.Addr().String()
	s.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			s.asked.Add(1)
		}
		fmt.Fprintln(w, r.URL.Path)
	})}
	go s.server.Serve(listener) //nolint:errcheck // it ends with stop
}

func (s *store) stop() { must(s.t, s.server.Close()) }
