package reconciler

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"locktide.dev/reconciler/gate"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// judge answers with what it is told, after a second of work.
type judge struct {
	result schema.GateResult
	mu     sync.Mutex
	now    chan int // how many work at the moment a question arrives
	asked  map[string]int
	busy   int
}

func (j *judge) Judge(_ context.Context, a gate.Ask) schema.Judgment {
	j.mu.Lock()
	j.busy++
	j.now <- j.busy
	j.asked[a.Question.Name]++
	j.mu.Unlock()
	time.Sleep(time.Second)
	j.mu.Lock()
	j.busy--
	j.mu.Unlock()
	return schema.Judgment{Question: a.Question.ID, Name: a.Question.Name, Group: a.Question.Group, Result: j.result, At: a.At,
		Why: fmt.Sprintf("%d members, %d old, in %s", len(a.Members), len(a.Baseline), a.Datacenter)}
}

// turns plays the loop for a time; it gives how many judged at once at most.
func (j *judge) turns(l *Loop, d time.Duration) (most int) {
	for over := time.Now().Add(d); time.Now().Before(over); {
		l.st.now = time.Now()
		wake := l.judge(context.Background(), l.st.now)
		synctest.Wait()
		select {
		case f := <-l.inbox:
			f()
		case n := <-j.now:
			most = max(most, n)
		case <-time.After(max(time.Millisecond, min(wake.Sub(l.st.now), time.Second))):
		}
		l.takeAll()
	}
	return most
}

func asking(t *testing.T, result schema.GateResult, f func(l *Loop, j *judge)) {
	synctest.Test(t, func(*testing.T) {
		l := &Loop{inbox: make(chan func(), 256), stopping: make(chan struct{}), st: newState()}
		j := &judge{result: result, now: make(chan int, 1000), asked: map[string]int{}}
		l.cfg.defaults()
		l.cfg.Gates, l.st.leading, l.st.now = j, true, time.Now()
		l.st.fleet = &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{"g": {App: "shop.api", Datacenter: "dc1"}})}
		l.st.rollouts["shop.api"] = rollout.Rollout{Partition: "shop.api"}
		l.st.roster = &members{groups: map[string][]schema.Member{"g": {{ID: "a"}, {ID: "b"}, {ID: "c"}}}, rests: map[string][]*reading{"g": {{at: time.Now()}}}}
		f(l, j)
		l.workers.Wait()
	})
}

func question(name string, age time.Duration) schema.Question {
	return schema.Question{Name: name, Group: "g", Members: []string{"a"}, Baseline: []string{"b"}, MaxAge: age}.Sealed()
}

func TestAnswersAreCachedForTheirAgeAndAreNews(t *testing.T) {
	asking(t, schema.GateTooLittle, func(l *Loop, j *judge) {
		young, old := question("young", 5*time.Second), question("old", time.Hour)
		l.st.gates.asks("shop.api", []schema.Question{young, old})
		j.turns(l, 21*time.Second)
		if j.asked["old"] != 1 || j.asked["young"] != 5 {
			t.Fatalf("asked %v in 21 s, want old once and young every 5 s", j.asked)
		}
		if !l.st.news["shop.api"] {
			t.Fatal("an answer is no news")
		}
		a := l.seen().Answers[young.ID]
		if a.Result != schema.GateTooLittle || a.Why != "1 members, 1 old, in dc1" {
			t.Fatalf("got %+v", a)
		}
		if n := len(l.st.fresh); n != 2 {
			t.Fatalf("%d lines in the timeline for two answers that never changed", n)
		}
		l.st.rollouts["shop.api"] = rollout.Rollout{Partition: "shop.api", Phase: rollout.PhaseRolling}
		r := &schema.Report{}
		l.reportRollouts(r, l.members())
		if gates := r.Partitions[0].Gates; len(gates) != 2 || !strings.Contains(gates[0].Reason().Message, "gate young of g: too_little: 1 members") {
			t.Fatalf("reported %+v", gates)
		}
		l.st.gates.asks("shop.api", nil)
		j.turns(l, 20*time.Second)
		if j.asked["young"] != 5 || len(l.st.gates.answers) != 0 {
			t.Fatalf("asked on: %v, %d answers kept", j.asked, len(l.st.gates.answers))
		}
	})
}

func TestGatesAreJudgedAFewAtOnce(t *testing.T) {
	asking(t, schema.GatePass, func(l *Loop, j *judge) {
		var qs []schema.Question
		for i := range 100 {
			qs = append(qs, question(fmt.Sprint(i), time.Hour))
		}
		l.st.gates.asks("shop.api", qs)
		if most := j.turns(l, 30*time.Second); most != gatesAtOnce || len(l.st.gates.answers) != 100 {
			t.Fatalf("%d at once, %d answered; want %d, 100", most, len(l.st.gates.answers), gatesAtOnce)
		}
	})
}

func TestNobodyToAskIsNoPass(t *testing.T) {
	asking(t, schema.GatePass, func(l *Loop, j *judge) {
		q := question("x", time.Hour)
		l.st.gates.asks("shop.api", []schema.Question{q})
		l.st.leading = false
		j.turns(l, 5*time.Second)
		if len(j.asked) > 0 {
			t.Fatal("a daemon that does not lead asks")
		}
		l.st.leading, l.cfg.Gates = true, nil
		j.turns(l, 5*time.Second)
		if r := l.st.gates.answers[q.ID].Result; r != schema.GateUnknown {
			t.Fatalf("without gates: %q", r)
		}
		delete(l.st.rollouts, "shop.api")
		j.turns(l, time.Second)
		if len(l.st.gates.open) > 0 {
			t.Fatal("questions of a rollout that is gone are kept")
		}
	})
}

func TestBreakGlassReachesItsRolloutsOnly(t *testing.T) {
	asking(t, schema.GatePass, func(l *Loop, _ *judge) {
		until := l.st.now.Add(time.Hour)
		l.st.overrides["app:shop.api"] = schema.Override{Scope: "app:shop.api", Until: until}
		if got := l.seenBy(rollout.Rollout{Apps: []string{"shop.api"}}, rollout.Seen{}, nil).Override; !got.Equal(until) {
			t.Errorf("its own: %v", got)
		}
		if got := l.seenBy(rollout.Rollout{Apps: []string{"shop.web"}}, rollout.Seen{}, nil).Override; !got.IsZero() {
			t.Errorf("another's: %v", got)
		}
		l.st.now = until
		if got := l.seenBy(rollout.Rollout{Apps: []string{"shop.api"}}, rollout.Seen{}, nil).Override; !got.IsZero() {
			t.Errorf("after its time: %v", got)
		}
	})
}
