package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"locktide.dev/schema"
)

// Twelve members on three hosts roll through smoke, bake and batches under
// constant load. Whatever the release does, only its own members answer with
// errors, for as long as they are not found out; and who is held stays out.
func TestWaves(t *testing.T) {
	f := newFleet(t, "wav")
	f.places = []string{"dc4"}
	const pace = "placement: {spread_by: node.unique.name}\nrollout: {bake: 3s, start_timeout: 30s%s}"
	gates := fmt.Sprintf(pace, `, gates: {errors: {kind: accesslog, errors: "5%", min_requests: 20}}`)
	web := app{label: "web", version: "v1", count: 12, body: gates}
	job := f.job("web", "dc4")
	f.git.push("v1", f.files(web))
	f.begin()
	f.converged(f.git.head())
	f.answers("v1")

	var held string
	for _, a := range f.allocs(job) {
		if strings.HasSuffix(a.Name, "[11]") {
			held = a.ID
		}
	}
	f.do("hold", "member:"+held, "--reason", "a core dump is to be taken")
	f.inNginx(11)
	f.await("the held member to answer nobody", func() error { // nginx' old workers are gone
		for range 36 {
			switch body, err := f.ask(); {
			case err != nil:
				return err
			case strings.Contains(body, held):
				return fmt.Errorf("it answered %q", body)
			}
		}
		return nil
	})

	for _, bad := range []struct {
		version, shell string
		members, floor int // that fail when it is found out; in nginx at least
	}{
		{"v2-fails-in-its-bake", "exec $LOCKTIDE hello --errors", 1, 11},
		{"v3-fails-in-its-second-batch", "test $NOMAD_ALLOC_INDEX -ge 4 && bad=--errors; exec $LOCKTIDE hello $bad", 4, 8},
	} {
		floors, load := f.floors(1), f.load()
		web.version, web.shell = bad.version, bad.shell
		commit := f.git.push(bad.version, f.files(web))
		verdict := f.givenUp(commit, "v1", 1)
		load.close()
		load.blames(bad.version, float64(bad.members)/11, verdict.At)
		load.without(held)
		floors.want(bad.floor)
	}

	web.version, web.shell = "v4", ""
	update, floors, load := f.updating(job), f.floors(1), f.load()
	fourth := f.git.push("v4", f.files(web))
	f.await("v4 everywhere", func() error { return f.rolled(fourth) })
	f.answers("v4")
	f.inNginx(11) // whoever took the place of the held member is held
	load.end()
	load.without(held)
	floors.want(8)
	update.wantEachOnce(4)
	f.do("unhold", "member:"+held, "--reason", "the dump is taken")
	f.converged(fourth)

	// A host is drained in the middle, as soon as nobody else is out: the rollout
	// takes nobody on top of its four.
	web.version, web.body = "v5", fmt.Sprintf(pace, ", soak: 4s")
	update, floors, load = f.updating(job), f.floors(1), f.load()
	fifth := f.git.push("v5", f.files(web))
	f.await("the middle of the rollout", func() error {
		if n := len(update.created()); n < 4 {
			return fmt.Errorf("%d new allocations", n)
		}
		return nil
	})
	f.do("drain", "node6", "--deadline", "1m", "--reason", "new kernel")
	if n := len(update.created()); n >= 12 {
		t.Errorf("the host was drained after the rollout, of %d allocations", n)
	}
	f.await("v5 on the other hosts", func() error {
		for _, a := range f.allocs(job) {
			if a.runs() && a.NodeName == "node6" {
				return fmt.Errorf("%s runs on the drained host", a.Name)
			}
		}
		return f.rolled(fifth)
	})
	f.answers("v5")
	f.inNginx(12)
	load.end()
	floors.want(8)
	f.do("undrain", "node6", "--reason", "it is back")
	f.converged(fifth)
}

// rolled says why a commit's rollouts are not over, whoever serves.
func (f *fleet) rolled(commit string) error {
	r, err := f.report()
	if err == nil && (r.InForce != commit || len(r.Partitions) > 0) {
		err = fmt.Errorf("%.8s in force, %s %v", r.InForce, r.Health, r.Because)
	}
	return err
}

// givenUp waits until a commit's release is given up and the one before serves
// again, but for held members, and gives why.
func (f *fleet) givenUp(commit, before string, held int) (v schema.Verdict) {
	f.t.Helper()
	f.await("commit "+commit[:8]+" given up and "+before+" whole again", func() (err error) {
		if v, err = f.verdict(commit); err == nil {
			err = f.wentBack(commit, held)
		}
		return err
	})
	f.answers(before)
	return v
}

// verdict is why a commit's release was given up.
func (f *fleet) verdict(commit string) (schema.Verdict, error) {
	r, err := f.report()
	if err != nil {
		return schema.Verdict{}, err
	}
	for _, v := range r.Quarantine {
		if v.Commit == commit {
			return v, nil
		}
	}
	return schema.Verdict{}, fmt.Errorf("no release of commit %.8s is in quarantine, %s %v", commit, r.Health, r.Because)
}

// reloads is how long a decision may take to the proxy.
const reloads = 2 * time.Second

// blames wants that requests failed, that one version's members answered each of
// those by their own hand, no more of them than their share of what was asked
// until they were found out, and none of what was asked after that.
func (l *traffic) blames(version string, share float64, decided time.Time) {
	l.f.t.Helper()
	failed := l.failed()
	if len(failed) == 0 {
		l.f.t.Errorf("%s: nobody saw that it fails", version)
		return
	}
	asked := 0
	for _, v := range l.visits {
		if !v.began.Before(failed[0].began) && v.began.Before(decided) {
			asked++
		}
	}
	var last time.Duration
	for _, v := range failed {
		last = max(last, v.began.Sub(decided))
		if !strings.Contains(v.answer(), "version "+version+" ") {
			l.f.t.Errorf("%s: a request failed that it did not answer: %v", version, v.err)
		}
	}
	if most := int(1.25*share*float64(asked)) + 5; len(failed) > most {
		l.f.t.Errorf("%s: %d of %d requests failed until it was found out, want at most %d", version, len(failed), asked, most)
	}
	if last > reloads {
		l.f.t.Errorf("%s: a request that was made %s after it was found out failed", version, last)
	}
	l.f.t.Logf("%s: %d of %d requests failed in the %s until it was found out, the last one was made %s after that", version, len(failed), asked,
		decided.Sub(failed[0].began).Round(time.Millisecond), last.Round(time.Millisecond))
}

// without wants that an allocation answered nobody.
func (l *traffic) without(alloc string) {
	l.f.t.Helper()
	for _, v := range l.visits {
		if strings.Contains(v.answer(), alloc) {
			l.f.t.Errorf("%s answered at %s, and is held", alloc, v.ended.Format("15:04:05.000"))
			return
		}
	}
}
