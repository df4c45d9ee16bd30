package reconciler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"locktide.dev/schema"
)

// Backup writes the whole journal as JSON lines while the loop goes on, and
// remembers when. What it writes holds definitions with their references to
// secrets, never the secrets.
func (l *Loop) Backup(ctx context.Context, w io.Writer) error {
	e, ok := l.cfg.Store.(Exporter)
	if !ok {
		return errors.New("this journal cannot be exported while it is in use")
	}
	if err := e.Export(ctx, w); err != nil {
		return fmt.Errorf("could not export the journal: %w", err)
	}
	l.post(func() {
		l.st.meta.Backup = time.Now()
		l.note(schema.HistoryEntry{Writer: "locktide", What: "exported the journal"})
		l.persist(ctx)
	})
	return nil
}

// checkGoods looks whether every group can be taken back from what the
// journal holds.
func (l *Loop) checkGoods() {
	st := &l.st
	whole := map[string]bool{}
	for app, goods := range st.goods {
		for _, g := range goods[:min(1, len(goods))] {
			whole[app] = true
			for _, e := range g.Snapshot {
				if _, ok := l.body(e.Body); !ok {
					whole[app] = false
				}
			}
		}
	}
	st.noWayBack = nil
	for _, k := range sortKeys(st.target) {
		o, ok := l.body(st.target[k].Body)
		if ok && o.Paced != nil && o.Group != "" && len(o.Apps) > 0 && !whole[o.Apps[0]] {
			st.noWayBack = append(st.noWayBack, o.Group)
		}
	}
	st.noWayBack = slices.Compact(st.noWayBack)
}

// Diagnose says what only the loop knows of its own state: the lease, and
// how fast the journal is durable just now.
func (l *Loop) Diagnose(ctx context.Context) []schema.Diagnosis {
	answer := make(chan []schema.Diagnosis, 1)
	l.post(func() { answer <- l.diagnose(ctx) })
	select {
	case c := <-answer:
		return c
	case <-ctx.Done():
	case <-l.stopping:
	}
	return []schema.Diagnosis{{Name: "loop", Says: "did not answer in time", Next: "read the daemon's log"}}
}

func (l *Loop) diagnose(ctx context.Context) []schema.Diagnosis {
	st := &l.st
	lease := schema.Diagnosis{Name: "lease", OK: st.leading, Says: fmt.Sprintf("led by %s", orElse(st.holder, "nobody")), Next: "ask the daemon that leads"}
	if st.leading {
		lease.Says = fmt.Sprintf("leading as %s, epoch %d fences every write", orElse(st.holder, "the only daemon"), st.epoch)
		if l.cfg.Lease != nil {
			lease.Says += fmt.Sprintf("; no write later than in %s unless it is renewed", time.Until(st.leaseUntil).Round(time.Second))
		}
	}
	l.checkGoods()
	back := schema.Diagnosis{Name: "rollback", OK: len(st.noWayBack) == 0, Says: "every group can be taken back from the journal right now", Next: "a group has a good release after its first rollout that ended well"}
	if !back.OK {
		back.Says = fmt.Sprintf("%s cannot be taken back, the first %s", plural(len(st.noWayBack), "group"), st.noWayBack[0])
	}
	return []schema.Diagnosis{lease, l.probe(ctx), back, l.backedUp()}
}

// probe appends one value, to see how long that takes.
func (l *Loop) probe(ctx context.Context) schema.Diagnosis {
	k := schema.Diagnosis{Name: "journal", Next: "check the disk: nothing is dispatched while the journal cannot be written"}
	if !l.st.leading {
		k.OK, k.Says = true, "not written while another daemon leads"
		return k
	}
	began := time.Now()
	err := l.cfg.Store.Append(ctx, l.st.epoch, []Entry{{Table: "probe", Key: "doctor", Value: schema.MustCanonical(began.UTC())}})
	took := time.Since(began)
	switch {
	case err != nil:
		k.Says = err.Error()
	default:
		k.OK = took < time.Second
		k.Says = fmt.Sprintf("an append is durable after %s", took.Round(10*time.Microsecond))
	}
	if e, ok := l.cfg.Store.(Exporter); ok {
		k.Says += fmt.Sprintf(", %.1f MiB", float64(e.Size())/(1<<20))
	}
	return k
}

func (l *Loop) backedUp() schema.Diagnosis {
	k := schema.Diagnosis{Name: "backup", Next: "locktide journal export > backup.jsonl, once a day"}
	at := l.st.meta.Backup
	if at.IsZero() {
		k.Says = "the journal was never exported; lost, it is rebuilt from the marks, without brakes, pins, holds and goods"
		return k
	}
	k.OK = time.Since(at) < 24*time.Hour
	k.Says = fmt.Sprintf("the journal was exported %s ago", time.Since(at).Round(time.Second))
	return k
}
