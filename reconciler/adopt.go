package reconciler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/schema"
)

// handedOver gives the key of a group's object that can be adopted; any other
// text is itself.
func (l *Loop) handedOver(text string) string {
	for _, k := range slices.SortedFunc(l.st.head.Keys(), schema.Key.Compare) {
		s := l.st.live[k].State
		if l.st.head.Get(k).Object.Group == bare(text) && (s == schema.StateForeign || s == schema.StateEjected) {
			return k.String()
		}
	}
	return text
}

// adoptable says whether somebody else's object stands under a key as wanted
// says.
func (l *Loop) adoptable(k schema.Key, wanted schema.Digest) bool {
	live := l.st.live[k]
	return live.State == schema.StateForeign && live.Equal && l.st.compared[k] == wanted
}

// adopt takes over the foreign or ejected object that stands under a wanted
// key. The backend compares it with its definition first, and answers.
func (l *Loop) adopt(text string, reply func(schema.Answer)) {
	st := &l.st
	key, err := schema.ParseKey(l.handedOver(text))
	if err != nil {
		reply(refuse("%v", err))
		return
	}
	entry, ok := st.target[key]
	if w, isHead := st.head.Find(key); isHead {
		entry, ok = w.Entry, true
	}
	live := st.live[key]
	switch {
	case !ok:
		reply(refuse("%s is not in the definitions: define it first, then adopt", key))
		return
	case live.State != schema.StateForeign && live.State != schema.StateEjected:
		reply(refuse("%s is %s, neither foreign nor ejected: there is nothing to adopt", key, orElse(string(live.State), "not read yet")))
		return
	case l.observing():
		a := refuse("this fleet is only observed, and adopting writes")
		a.Next = "locktide resume --all"
		reply(a)
		return
	}
	a := schema.Action{Rollout: "adopt", Key: key, Verb: schema.VerbAdopt, To: entry, If: live.Version,
		Round: int(st.meta.Serial), Reason: schema.Reason{Code: schema.ReasonAdopt}}.Sealed()
	l.send(a, func(o schema.Outcome) {
		if o.Failure == nil {
			l.drive(key, entry)
			reply(done("adopted %s: nothing restarted, it is as defined", key))
			return
		}
		answer := refuse("could not adopt %s: %s", key, o.Failure.Message)
		answer.Next = o.Failure.Next
		for _, c := range o.Failure.Diff {
			answer.Details = append(answer.Details, fmt.Sprintf("%s: defined %s, running %s", c.Field, orElse(c.Was, "(none)"), orElse(c.Is, "(none)")))
		}
		if o.Failure.Kind == schema.FailUnclear {
			answer.Message += "; it may have been done: locktide explain " + key.String()
		}
		reply(answer)
	})
}

// drive makes an adopted object part of the target. It is as defined already:
// no rollout has to bring it about, unless one waits for it.
func (l *Loop) drive(k schema.Key, e schema.Entry) {
	st := &l.st
	_, ours := st.target[k]
	if w, wanted := st.head.Find(k); !ours && wanted && w.Entry == e && len(st.holders.keys[k]) == 0 {
		l.setTarget(k, e)
	}
}

// errand is an action that a command asks for, with whom to tell.
type errand struct {
	action schema.Action
	tell   func(schema.Outcome)
}

// send puts an action of a command into this turn's dispatch; tell gets the
// backend's outcome, or why it was not sent, exactly once.
func (l *Loop) send(a schema.Action, tell func(schema.Outcome)) {
	l.st.errands[a.ID] = errand{a, tell}
	l.st.extra = append(l.st.extra, a)
}

// delivered tells a command what became of its action.
func (l *Loop) delivered(o schema.Outcome) {
	if e, ok := l.st.errands[o.ID]; ok {
		delete(l.st.errands, o.ID)
		e.tell(o)
	}
}

// unsent tells the commands of actions that this turn did not send.
func (l *Loop) unsent(asked []schema.Action) {
	for _, a := range asked {
		if _, sent := l.st.inflight[a.ID]; sent {
			continue
		}
		why := "another write to it is under way"
		x := l.st.learn[l.backendNamed(a.Key)]
		r, refused := l.st.refusals[a.Key]
		switch {
		case l.st.appendErr != "":
			why = l.st.appendErr
		case !l.mayWrite(l.st.now):
			why = "the lease cannot be renewed just now"
		case x != nil:
			why = x.why
		case refused:
			why = strings.TrimSuffix(r.Message, ".")
		}
		l.delivered(schema.Outcome{ID: a.ID, At: time.Now(), Failure: &schema.Failure{Kind: schema.FailUnavailable, Message: "it was not sent: " + why, Next: "try again"}})
	}
}
