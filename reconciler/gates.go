package reconciler

import (
	"context"
	"slices"
	"time"

	"locktide.dev/reconciler/gate"
	"locktide.dev/schema"
)

// Gates answers what rollouts ask; *gate.Evaluator is one. It gives up when
// ctx ends.
type Gates interface {
	Judge(ctx context.Context, a gate.Ask) schema.Judgment
}

const (
	gateTimeout = time.Minute      // of one answer
	gateAge     = 10 * time.Second // after which an answer is asked for again, unless the question says
	gatesAtOnce = 16
)

// ofPlan stands for a partition where the plan asks, not a rollout.
const ofPlan = ""

// gates is what the loop knows of the rollouts' questions.
type gates struct {
	open    map[string][]schema.Question // by partition, as its last step asked
	answers map[schema.Digest]schema.Judgment
	running map[schema.Digest]bool
}

func newGates() gates {
	return gates{open: map[string][]schema.Question{}, answers: map[schema.Digest]schema.Judgment{}, running: map[schema.Digest]bool{}}
}

// asks takes up what a partition's step asks; nothing ends its questions.
func (g *gates) asks(partition string, qs []schema.Question) {
	if len(qs) == 0 {
		delete(g.open, partition)
		return
	}
	g.open[partition] = qs
}

// judge has the open questions answered that have no answer young enough, a
// few at once and off the turn; each answer is news for its rollout. It gives
// the time at which the next one is due.
func (l *Loop) judge(ctx context.Context, now time.Time) (wake time.Time) {
	g := &l.st.gates
	if len(g.open) == 0 && len(g.answers) == 0 {
		return wake
	}
	wanted := map[schema.Digest]bool{}
	for _, partition := range sortedKeys(g.open) {
		if _, rolls := l.st.rollouts[partition]; !rolls && partition != ofPlan {
			delete(g.open, partition)
			continue
		}
		for _, q := range g.open[partition] {
			wanted[q.ID] = true
			age := q.MaxAge
			if age <= 0 {
				age = gateAge
			}
			answer, answered := g.answers[q.ID]
			due := answer.At.Add(age)
			switch {
			case g.running[q.ID]:
			case answered && now.Before(due):
				wake = earliest(wake, due)
			case len(g.running) < gatesAtOnce && l.st.leading: // else the next answer makes room
				l.put(ctx, partition, q, now)
			}
		}
	}
	for id := range g.answers {
		if !wanted[id] {
			delete(g.answers, id)
		}
	}
	return wake
}

// put asks one question.
func (l *Loop) put(ctx context.Context, partition string, q schema.Question, now time.Time) {
	a := gate.Ask{Question: q, At: now}
	a.App, a.Datacenter = l.locate(q.Group)
	m := l.members()
	a.ReadAt = m.at(q.Group)
	for _, x := range m.groups[q.Group] {
		switch {
		case slices.Contains(q.Members, x.ID):
			a.Members = append(a.Members, x)
		case slices.Contains(q.Baseline, x.ID):
			a.Baseline = append(a.Baseline, x)
		}
	}
	l.st.gates.running[q.ID] = true
	l.work(func() {
		j := schema.Judgment{Question: q.ID, Name: q.Name, Group: q.Group, Result: schema.GateUnknown, At: now, Why: "this daemon cannot ask gates"}
		if l.cfg.Gates != nil {
			call, cancel := context.WithTimeout(ctx, gateTimeout)
			defer cancel()
			j = l.cfg.Gates.Judge(call, a)
		}
		l.post(func() { l.judged(partition, j) })
	})
}

// judged takes an answer. A changed one is a line of the timeline.
func (l *Loop) judged(partition string, j schema.Judgment) {
	g := &l.st.gates
	delete(g.running, j.Question)
	before := g.answers[j.Question]
	g.answers[j.Question] = j
	if partition == ofPlan {
		l.st.planDue = l.st.planDue || before.Result != j.Result || before.Why != j.Why
	} else {
		l.st.news[partition] = true
	}
	l.tell(Event{Kind: "gate", HistoryEntry: schema.HistoryEntry{Writer: "locktide", What: "gate " + j.Name + ": " + string(j.Result), Group: j.Group, Reason: j.Why}, Took: time.Since(j.At)})
	if before.Result != j.Result {
		l.note(schema.HistoryEntry{Writer: "locktide", What: "gate " + j.Name + ": " + string(j.Result), App: partition, Group: j.Group, Reason: j.Why})
	}
}

// judgments lists a partition's answers in the order of its questions.
func (l *Loop) judgments(partition string) []schema.Judgment {
	var out []schema.Judgment
	for _, q := range l.st.gates.open[partition] {
		if j, ok := l.st.gates.answers[q.ID]; ok {
			out = append(out, j)
		}
	}
	return out
}
