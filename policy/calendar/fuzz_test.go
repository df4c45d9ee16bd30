package calendar_test

import (
	"encoding/json"
	"testing"
	"time"

	"locktide.dev/policy/calendar"
	"locktide.dev/schema"
)

// A window that passes its check ends what it says at a moment still to come;
// one that does not stops nothing.
func FuzzAt(f *testing.F) {
	now := time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC)
	f.Add([]byte(`{"zone": "Europe/Berlin", "spans": [{"days": ["sun"], "from": "01:00", "to": "04:00"}], "except": ["2026-03-29"]}`), now.Unix())
	f.Add([]byte(`{"open": true, "spans": [{"since": "2026-12-23T18:00", "until": "2027-01-02T08:00"}, {"from": "24:00", "to": "-1:00"}]}`), now.Unix())
	f.Fuzz(func(t *testing.T, raw []byte, second int64) {
		var w schema.Window
		if json.Unmarshal(raw, &w) != nil || second < 0 || second > 1<<36 {
			return
		}
		at := time.Unix(second, 0)
		open, next := calendar.At(w, at)
		if calendar.Check(w) != "" && !open {
			t.Errorf("a window that cannot be read (%s) is closed", calendar.Check(w))
		}
		if !next.IsZero() && !next.After(at) {
			t.Errorf("open %t until %s, which is not after %s", open, next, at)
		}
	})
}
