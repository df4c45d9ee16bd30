package e2e

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
)

func TestRollbackWithoutGit(t *testing.T) {
	f := newFleet(t, "rbk")
	web := func(version string) map[string]string {
		return f.files(app{label: "web", version: version, count: 2})
	}
	f.git.push("v1", web("v1"))
	f.begin()
	f.converged(f.git.head())
	second := f.git.push("v2", web("v2"))
	f.converged(second)
	f.answers("v2")

	load := f.load()
	f.do("rollback", f.app("web"), "--reason", "v2 is wrong")
	f.answers("v1")
	out, err := f.locktide("status")
	must(t, err)
	if !strings.Contains(out, "v2 is wrong") {
		t.Errorf("status does not show the pin and its reason:\n%s", out)
	}
	f.do("unpin", f.app("web"), "--reason", "v2 was right")
	f.answers("v2")
	f.converged(second)
	load.end()
}

func TestHold(t *testing.T) {
	f := newFleet(t, "hld")
	first := f.git.push("v1", f.files(app{label: "web", version: "v1", count: 2}))
	f.begin()
	f.converged(first)
	f.answers("v1")
	before := f.running(f.job("web", "dc1"))
	inNginx := func(want int) {
		t.Helper()
		f.await(fmt.Sprintf("%d members in nginx", want), func() error {
			if text := f.read("nginx/current/upstreams.conf"); strings.Count(text, "server 127.0.0.1:") != want {
				return fmt.Errorf("nginx' upstreams:\n%s", text)
			}
			return nil
		})
	}
	inNginx(4)
	var member string
	for id := range before {
		member = id
	}
	f.do("hold", "member:"+member, "--reason", "looking into it")
	inNginx(3)
	out, err := f.locktide("out")
	must(t, err)
	if !strings.Contains(out, "looking into it") {
		t.Errorf("out does not tell why:\n%s", out)
	}
	f.answers("v1")
	f.do("unhold", "member:"+member, "--reason", "it is fine")
	inNginx(4)
	if now := f.running(f.job("web", "dc1")); !maps.Equal(now, before) {
		t.Errorf("a hold changed allocations: %v, before: %v", now, before)
	}
}

func TestEject(t *testing.T) {
	f := newFleet(t, "ejc")
	first := f.git.push("v1", f.files(app{label: "web", version: "v1", count: 1}))
	f.begin()
	f.converged(first)
	group, job := f.group("web", "dc1"), f.job("web", "dc1")
	before := f.running(job)
	f.do("eject", group, "--owner", f.owner, "--nomad", world.nomad.Server.Address)
	second := f.git.push("v2", f.files(app{label: "web", version: "v2", count: 1}))
	f.await("v2 in dc2 alone", func() error {
		out, err := f.locktide("explain", "groups/"+group)
		if err == nil && !strings.Contains(out, "Ejected") {
			err = errors.New("it does not say Ejected")
		}
		if err != nil {
			return fmt.Errorf("explain: %w: %s", err, out)
		}
		r, err := f.report()
		if err == nil && r.InForce != second {
			err = fmt.Errorf("%.8s is in force", r.InForce)
		}
		return err
	})
	if now := f.running(job); !maps.Equal(now, before) {
		t.Errorf("allocations of the ejected job: %v, before: %v", now, before)
	}
}
