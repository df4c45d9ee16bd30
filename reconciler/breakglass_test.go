package reconciler_test

import (
	"strings"
	"testing"
	"time"

	"locktide.dev/schema"
)

// P36: break-glass has a reason and an end, is shown and audited, outlives a
// restart, and ends by itself.
func TestBreakGlassExpires(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		for _, c := range []struct {
			c    schema.Command
			want string
		}{
			{schema.Command{Target: "app:shop.api", For: time.Hour}, "needs a reason"},
			{schema.Command{Target: "app:shop.api", Reason: "x"}, "at most 4h0m0s, not 0s"},
			{schema.Command{Target: "app:shop.api", Reason: "x", For: 5 * time.Hour}, "at most 4h0m0s"},
			{schema.Command{Target: "all", Reason: "x", For: time.Hour}, "want app:X or group:X"},
			{schema.Command{Target: "app:shop.none", Reason: "x", For: time.Hour}, "want app:X"},
			{schema.Command{Target: "app:shop.api", Value: "end"}, "hold already"},
		} {
			c.c.Verb = "override-gates"
			if a := w.try(c.c); a.OK || !strings.Contains(a.Message, c.want) {
				t.Errorf("%+v: %+v, want %q", c.c, a, c.want)
			}
		}
		w.do(schema.Command{Verb: "override-gates", Target: "group:" + apiGroup, Reason: "incident 42", For: 30 * time.Minute})
		w.pass(time.Minute)
		w.stop()
		w.start()
		w.pass(time.Minute)
		r := w.loop.Report()
		if len(r.Overrides) != 1 || r.Overrides[0].By != "ada" || len(r.Standing()) != 1 || !strings.Contains(r.Standing()[0], "incident 42") {
			t.Fatalf("after a restart: %+v, %q", r.Overrides, r.Standing())
		}
		w.pass(29 * time.Minute)
		if n := len(w.loop.Report().Overrides); n != 0 {
			t.Fatalf("%d overrides after their time", n)
		}
		w.do(schema.Command{Verb: "override-gates", Target: "app:shop.api", Reason: "again", For: time.Hour})
		w.do(schema.Command{Verb: "override-gates", Target: "app:shop.api", Value: "end"})
		var said []string
		for _, h := range w.loop.History(time.Time{}) {
			if strings.Contains(h.What, "override-gates") || strings.Contains(h.What, "hold again") {
				said = append(said, h.Writer+" "+h.What)
			}
		}
		want := []string{"operator ada override-gates group:" + apiGroup + " for 30m0s", "locktide waits and gates of group:" + apiGroup + " hold again",
			"operator ada override-gates app:shop.api for 1h0m0s", "operator ada override-gates app:shop.api end"}
		if got := said[len(said)-4:]; strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("audit:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
