// Package calendar says when windows of stages let changes start. It is pure:
// the time is an argument.
package calendar

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a host may have no zones

	"locktide.dev/schema"
)

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

const (
	clock  = "15:04"
	minute = "2006-01-02T15:04"
)

// Check says what is wrong with a window; "" if nothing.
func Check(w schema.Window) string {
	if _, err := time.LoadLocation(w.Zone); err != nil || w.Zone == "Local" {
		return fmt.Sprintf("zone %q: want a name such as Europe/Berlin", w.Zone)
	}
	for _, day := range w.Except {
		if _, err := time.Parse(time.DateOnly, day); err != nil {
			return fmt.Sprintf("except %q: want a date such as 2026-12-31", day)
		}
	}
	if len(w.Spans) == 0 {
		return "spans: missing: when it is"
	}
	for i, s := range w.Spans {
		if why := checkSpan(s); why != "" {
			return fmt.Sprintf("spans[%d]: %s", i, why)
		}
	}
	return ""
}

func checkSpan(s schema.Span) string {
	once, daily := s.Since != "" || s.Until != "", s.From != "" || s.To != ""
	if once == daily {
		return "want from and to, for certain days, or since and until, once"
	}
	if once {
		since, err := time.Parse(minute, s.Since)
		until, worse := time.Parse(minute, s.Until)
		if err != nil || worse != nil || !since.Before(until) || len(s.Days) > 0 {
			return "want since and a later until, such as 2026-12-23T18:00, and no days"
		}
		return ""
	}
	_, err := time.Parse(clock, s.From)
	_, worse := time.Parse(clock, s.To)
	if err != nil || worse != nil {
		return "want from and to such as 22:00 and 06:00"
	}
	for _, day := range s.Days {
		if !slices.Contains(weekdays, day) {
			return fmt.Sprintf("day %q: want %s", day, strings.Join(weekdays, ", "))
		}
	}
	return ""
}

// horizon is how far ahead a window is looked at.
const horizon = 400 * 24 * time.Hour

// At says whether changes may start in a window at now, and when that ends or
// becomes so; zero: not within 400 days. What is wrong with w stops nothing.
func At(w schema.Window, now time.Time) (open bool, next time.Time) {
	if Check(w) != "" {
		return true, time.Time{}
	}
	inside, next := spanned(w, now)
	return inside == w.Open, next
}

// spanned says whether now is in a span of w, and when that changes.
func spanned(w schema.Window, now time.Time) (bool, time.Time) {
	spans := intervals(w, now)
	end := now
	for _, s := range spans { // in order of their beginnings: what joins is one
		if !s.from.After(end) && s.to.After(end) {
			end = s.to
		}
	}
	if end.After(now) {
		if end.Sub(now) > horizon {
			return true, time.Time{}
		}
		return true, end
	}
	for _, s := range spans {
		if s.from.After(now) {
			return false, s.from
		}
	}
	return false, time.Time{}
}

type interval struct{ from, to time.Time }

// intervals gives the spans from a day before now on, as far as the horizon
// needs: those of eight days, and all single ones.
func intervals(w schema.Window, now time.Time) []interval {
	zone, err := time.LoadLocation(w.Zone)
	if err != nil {
		return nil
	}
	var out []interval
	add := func(from, to time.Time) {
		if from.Before(to) && !slices.Contains(w.Except, from.Format(time.DateOnly)) {
			out = append(out, interval{from, to})
		}
	}
	local := now.In(zone)
	for _, s := range w.Spans {
		if s.Since != "" {
			from, _ := time.ParseInLocation(minute, s.Since, zone)
			to, _ := time.ParseInLocation(minute, s.Until, zone)
			add(from, to)
			continue
		}
		from, _ := time.Parse(clock, s.From)
		to, _ := time.Parse(clock, s.To)
		for day := -1; day <= int(horizon/(24*time.Hour)); day++ {
			at := func(t time.Time, later int) time.Time {
				return time.Date(local.Year(), local.Month(), local.Day()+day+later, t.Hour(), t.Minute(), 0, 0, zone)
			}
			begin, over := at(from, 0), 0
			if !from.Before(to) {
				over = 1 // past midnight
			}
			if len(s.Days) == 0 || slices.Contains(s.Days, weekdays[begin.Weekday()]) {
				add(begin, at(to, over))
			}
		}
	}
	slices.SortFunc(out, func(a, b interval) int { return a.from.Compare(b.from) })
	return out
}
