package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	kills    = 50
	killSeed = 20261126
)

// Killed at 50 random points while two rollouts over thirteen groups run at the
// same time, release after release, the daemon ends where it would have ended:
// nobody is replaced twice, and no group falls below its floor.
func TestKillNine(t *testing.T) {
	f := newFleet(t, "kil")
	f.places = []string{"dc4"}
	web := app{label: "web", version: "v1", count: 3, cells: []string{"a", "b", "c", "d", "e", "f", "g"}, body: "rollout: {bake: 2s, cells: at_once}"}
	two := app{label: "two", version: "v1", count: 3, cells: []string{"h", "i", "j", "k", "l", "m"}, routed: true, body: "rollout: {cells: at_once}"}
	first := f.git.push("v1", f.files(web, two))
	f.begin()
	f.converged(first)
	before := f.content()
	if len(before.Jobs) != 13 {
		t.Fatalf("%d jobs, want 13", len(before.Jobs))
	}
	floors, load := f.floors(13), f.load()
	t.Logf("%d kills, seed %d", kills, killSeed)
	points := rand.New(rand.NewPCG(killSeed, 0))
	killed, amid := 0, 0                               // amid: while at least twelve groups rolled
	versions := []string{"v2", "v3", "v4", "v5", "v1"} // ends as it was before anybody was killed, too long ago for a way back
	for i, version := range versions {
		updates, began, before := f.updatingAll(), time.Now(), killed
		web.version = version
		f.inForce(f.git.push(version, f.files(web, two))) // a rollout of its own for each
		two.version = version
		commit := f.git.push(version, f.files(web, two))
		f.await("twelve groups roll at the same time", func() error {
			if n := f.rolling(); n < 12 {
				return fmt.Errorf("%d roll", n)
			}
			return nil
		})
		for killed < (i+1)*kills/len(versions) {
			died, rolling := f.killedBefore(commit, points)
			if !died {
				break
			}
			if killed++; rolling >= 12 {
				amid++
			}
		}
		f.converged(commit)
		f.answers(version)
		for _, u := range updates {
			u.wantEachOnce(1)
		}
		t.Logf("%s: %d kills, carried out after %s", version, killed-before, time.Since(began).Round(time.Second))
	}
	if killed < kills {
		t.Errorf("%d kills came in a rollout, want %d", killed, kills)
	}
	if t.Logf("%d of %d kills came while at least 12 groups rolled", amid, killed); amid < kills/2 {
		t.Errorf("%d kills came while at least 12 groups rolled, want %d", amid, kills/2)
	}
	load.end()
	floors.want(2)
	for _, job := range f.jobs() {
		if least := f.leastRunning(job, floors.began); least < 2 {
			t.Errorf("%s: %d of 3 members ran at one time by Nomad's records", job, least)
		}
	}
	if after := f.content(); !reflect.DeepEqual(before, after) {
		t.Errorf("after the kills:\n%+v\nbefore:\n%+v", after, before)
	}
}

// inForce waits until the daemon took a commit up.
func (f *fleet) inForce(commit string) {
	f.t.Helper()
	f.await("commit "+commit[:8]+" in force", func() error {
		r, err := f.report()
		if err == nil && r.InForce != commit {
			err = fmt.Errorf("%.8s is in force", r.InForce)
		}
		return err
	})
}

// killedBefore kills the daemon at a random point and starts it again, and gives
// how many groups rolled by Nomad's deployments; false: the commit was carried
// out first. A point is a time, or a moment after one of the next writes to the
// journal.
func (f *fleet) killedBefore(commit string, points *rand.Rand) (killed bool, rolling int) {
	f.t.Helper()
	after := time.Duration(points.Int64N(int64(2 * time.Second)))
	writes, moment := 0, time.Duration(points.Int64N(int64(5*time.Millisecond)))
	if points.IntN(2) == 0 {
		writes, after = 1+points.IntN(10), 10*time.Second
	}
	began, asked, seen := time.Now(), time.Now(), f.journaled()
	for time.Since(began) < after {
		if now := f.journaled(); writes > 0 && !now.Equal(seen) {
			if seen, writes = now, writes-1; writes == 0 {
				time.Sleep(moment)
				break
			}
		}
		if time.Since(asked) > 200*time.Millisecond {
			if asked = time.Now(); f.isConverged(commit) == nil {
				return false, 0
			}
		}
		time.Sleep(time.Millisecond)
	}
	f.stop(os.Kill)
	rolling = f.rolling()
	f.start()
	return true, rolling
}

// rolling counts the fleet's jobs that have a deployment under way.
func (f *fleet) rolling() (n int) {
	f.t.Helper()
	for _, d := range get[[]struct{ JobID, Status string }](f.t, f.nomad, "/v1/deployments") {
		if strings.HasPrefix(d.JobID, f.owner+"--") && d.Status == "running" {
			n++
		}
	}
	return n
}

func (f *fleet) journaled() time.Time {
	info, err := os.Stat(f.file("journal.db"))
	must(f.t, err)
	return info.ModTime()
}

// floors samples whom nginx has, by group.
type floors struct {
	f       *fleet
	began   time.Time
	stop    chan struct{}
	done    sync.WaitGroup
	least   map[string]int
	samples int
}

var upstream = regexp.MustCompile(`server 127\.0\.0\.1:\d{4,} .*# (\S+) (\S+)`)

// floors starts to sample; every group of this many has somebody now.
func (f *fleet) floors(groups int) *floors {
	f.t.Helper()
	s := &floors{f: f, began: time.Now(), stop: make(chan struct{}), least: f.proxied()}
	if len(s.least) != groups {
		f.t.Fatalf("nginx has members of %d groups, want %d: %v", len(s.least), groups, s.least)
	}
	s.done.Go(func() {
		for {
			if now := f.proxied(); now != nil {
				for group := range s.least {
					s.least[group] = min(s.least[group], now[group])
				}
				s.samples++
			}
			select {
			case <-s.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return s
}

// upstreams gives the members in nginx, each with its group; nil while a
// generation is replaced.
func (f *fleet) upstreams() map[string]string {
	raw, err := os.ReadFile(f.file("nginx/current/upstreams.conf"))
	if err != nil {
		return nil
	}
	members := map[string]string{}
	for _, m := range upstream.FindAllSubmatch(raw, -1) {
		members[string(m[2])] = string(m[1])
	}
	return members
}

// proxied counts the members in nginx by group; nil as with upstreams.
func (f *fleet) proxied() map[string]int {
	members := f.upstreams()
	if members == nil {
		return nil
	}
	n := map[string]int{}
	for _, group := range members {
		n[group]++
	}
	return n
}

// want ends the sampling and wants that no group ever had fewer members.
func (s *floors) want(least int) {
	s.f.t.Helper()
	close(s.stop)
	s.done.Wait()
	for _, group := range slices.Sorted(maps.Keys(s.least)) {
		if s.least[group] < least {
			s.f.t.Errorf("%s: only %d members in nginx at one time, want %d", group, s.least[group], least)
		}
	}
	s.f.t.Logf("least members in nginx, of %d samples: %v", s.samples, s.least)
}

// leastRunning is how many allocations of a job ran at least at one time since
// then, by Nomad's record of each task.
func (f *fleet) leastRunning(job string, since time.Time) int {
	f.t.Helper()
	type change struct {
		at int64
		by int
	}
	var changes []change
	for _, a := range f.allocs(job) {
		for _, task := range a.TaskStates {
			up, down := int64(0), int64(0)
			for _, e := range task.Events {
				switch {
				case e.Type == "Started":
					up = e.Time
				case down == 0 && slices.Contains([]string{"Waiting for shutdown delay", "Killing", "Terminated", "Killed"}, e.Type):
					down = e.Time
				}
			}
			if up == 0 {
				continue
			}
			changes = append(changes, change{max(up, since.UnixNano()), 1})
			if down > 0 {
				changes = append(changes, change{max(down, since.UnixNano()), -1})
			}
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(b.by, a.by)) })
	running, least := 0, 1<<30
	for i, c := range changes {
		running += c.by
		if next := i + 1; next == len(changes) || changes[next].at > c.at {
			least = min(least, running)
		}
	}
	return least
}
