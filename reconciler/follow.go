package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"locktide.dev/schema"
)

// reacher is a source that can fetch what it needs to prove that one commit
// follows another.
type reacher interface {
	Reach(ctx context.Context, old, commit string) error
}

// follow polls the source, and renders, compiles and judges what is new: the
// loop only takes what that comes to.
func (l *Loop) follow(ctx context.Context) {
	last := ""
	var latest *intake
	again := false // what refuses it may be over
	for n := 0; ctx.Err() == nil; n++ {
		began := time.Now()
		rev, err := l.newest(ctx, last)
		var refused *Refused
		switch {
		case errors.As(err, &refused):
			last = ""
			l.post(func() { l.refuse(*refused, began) })
		case err != nil:
			l.post(func() { l.fetchFailed(err) })
		case rev.Commit == last && again:
			again = l.bring(ctx, *latest)
		case rev.Commit == last:
			l.post(func() { l.st.fetched, l.st.fetchErr = began, "" })
		default:
			in := intake{rev: rev, fetch: time.Since(began)}
			rendered, err := l.cfg.Renderer.Render(ctx, rev.Tree)
			in.rendered, in.render = rendered, time.Since(began)-in.fetch
			if err != nil {
				l.post(func() { l.unrendered(rev.Commit, err) })
				break
			}
			last, latest = rev.Commit, &in
			again = l.bring(ctx, in)
		}
		select {
		case <-l.judgeAgain:
			if latest != nil {
				again = l.bring(ctx, *latest)
			}
		case <-l.fetchNow:
		case <-ctx.Done():
		case <-time.After(jitter(fmt.Sprint(l.cfg.Owner, n), l.cfg.Poll)):
		}
	}
}

// newest gives the source's newest revision. If it is another than last, the
// source can tell whether it follows the commit in force.
func (l *Loop) newest(ctx context.Context, last string) (Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*l.cfg.Timeout)
	defer cancel()
	rev, err := l.cfg.Source.Latest(ctx)
	r, ok := l.cfg.Source.(reacher)
	if err != nil || !ok || rev.Commit == last {
		return rev, err
	}
	old, ok := ask(ctx, l, func() string { return l.st.meta.InForce })
	if !ok {
		return rev, cmp.Or(ctx.Err(), context.Canceled)
	}
	return rev, r.Reach(ctx, old, rev.Commit)
}

// Fetch asks for a poll now: a webhook, or the verb sync.
func (l *Loop) Fetch() {
	select {
	case l.fetchNow <- struct{}{}:
	default:
	}
}

func (l *Loop) fetchFailed(err error) {
	if l.st.fetchErr != err.Error() {
		l.tell(Event{Kind: "fetch", Error: err.Error()})
	}
	l.st.fetchErr = err.Error()
}

// refuse shows why the newest commit may not be used; the one in force stays.
func (l *Loop) refuse(r Refused, at time.Time) {
	st := &l.st
	found := schema.Finding{Code: r.Code, Severity: schema.Deny, Message: r.Error(), Next: r.Next}
	news := st.newest != r.Commit || firstDenied(st.findings) != found.String()
	st.fetched, st.fetchErr, st.newest, st.findings = at, "", r.Commit, []schema.Finding{found}
	if news {
		l.note(schema.HistoryEntry{Writer: "locktide", What: "refused a commit", Commit: r.Commit, Author: r.Author, Reason: found.String()})
	}
}
