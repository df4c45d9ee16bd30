package reconciler_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// inBubble runs a test of one world in virtual time, and stops its daemon.
func inBubble(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer func() {
			if w.stop != nil {
				w.stop()
			}
		}()
		f(w)
	})
}

// running is a world whose first commit (c1) runs.
func running(t *testing.T, releases map[string]string, count int, f func(w *world)) {
	t.Helper()
	inBubble(t, func(w *world) {
		w.git.commit(fleet(releases, count))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		f(w)
	})
}

func one(release string) map[string]string { return map[string]string{"shop.api": release} }

const apiGroup = "shop.api/prod.dc1"

var (
	apiJob   = schema.Key{Kind: memory.KindJob, Instance: "m", Name: "shop--api--prod--dc1"}
	apiRoute = schema.Key{Kind: memory.KindRoute, Instance: "m", Name: "shop.api"}
)

// pass lets virtual time go by.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) do(c schema.Command) {
	w.t.Helper()
	if a := w.try(c); !a.OK {
		w.t.Fatalf("%s %s: %s", c.Verb, c.Target, a.Message)
	}
}

func (w *world) try(c schema.Command) schema.Answer {
	w.t.Helper()
	if c.By == "" {
		c.By = "ada"
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a := w.loop.Do(ctx, c)
	synctest.Wait()
	return a
}

// since lists writes after the first n.
func (w *world) since(n int) []memory.Write { return w.back.Writes()[n:] }

func (w *world) quiet(d time.Duration, what string) {
	w.t.Helper()
	n := len(w.back.Writes())
	w.pass(d)
	if more := w.since(n); len(more) > 0 {
		w.t.Fatalf("%s: %d writes, the first %v\nhealth %s %v", what, len(more), more[0], w.loop.Report().Health, w.loop.Report().Because)
	}
}

func (w *world) object(k schema.Key) schema.ObjectReport {
	for _, o := range w.loop.Report().Objects {
		if o.Key == k {
			return o
		}
	}
	return schema.ObjectReport{}
}

// says fails unless an explanation of ref has the code, and the text in its
// message or next step.
func (w *world) says(ref, code, text string) {
	w.t.Helper()
	reasons := w.loop.Explain(ref)
	for _, r := range reasons {
		if r.Code == code && (contains(r.Message, text) || contains(r.Next, text)) {
			return
		}
	}
	w.t.Fatalf("explain %s does not say %s with %q:\n%v", ref, code, text, reasons)
}

func (w *world) verbs(n int) string {
	var out []string
	for _, x := range w.since(n) {
		out = append(out, string(x.Verb)+" "+x.Key.Name)
	}
	return strings.Join(out, ", ")
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// groups makes a fleet of n small apps with one group and no route each.
func groups(n int, release string) schema.Fleet {
	releases := map[string]string{}
	for i := range n {
		releases[fmt.Sprintf("shop.a%02d", i)] = release
	}
	f := fleet(releases, 1)
	f.Routes = nil
	return f
}
