package calendar_test

import (
	"strings"
	"testing"
	"time"

	"locktide.dev/policy/calendar"
	"locktide.dev/schema"
)

func TestAt(t *testing.T) {
	night := schema.Span{From: "22:00", To: "06:00"}
	for name, c := range map[string]struct {
		w    schema.Window
		now  string // UTC
		open bool
		next string
	}{
		"before":                      {schema.Window{Spans: []schema.Span{{From: "02:00", To: "03:00"}}}, "2026-03-10T01:59", true, "2026-03-10T02:00"},
		"from its first minute":       {schema.Window{Spans: []schema.Span{{From: "02:00", To: "03:00"}}}, "2026-03-10T02:00", false, "2026-03-10T03:00"},
		"up to its last":              {schema.Window{Spans: []schema.Span{{From: "02:00", To: "03:00"}}}, "2026-03-10T03:00", true, "2026-03-11T02:00"},
		"in its own zone":             {schema.Window{Zone: "Asia/Shanghai", Spans: []schema.Span{{From: "02:00", To: "03:00"}}}, "2026-03-09T18:30", false, "2026-03-09T19:00"},
		"past midnight":               {schema.Window{Spans: []schema.Span{night}}, "2026-03-10T05:00", false, "2026-03-10T06:00"},
		"of the day it begins":        {schema.Window{Spans: []schema.Span{{Days: []string{"fri"}, From: "22:00", To: "06:00"}}}, "2026-03-14T05:00", false, "2026-03-14T06:00"},
		"not of the next":             {schema.Window{Spans: []schema.Span{{Days: []string{"fri"}, From: "22:00", To: "06:00"}}}, "2026-03-13T05:00", true, "2026-03-13T22:00"},
		"except a day":                {schema.Window{Except: []string{"2026-03-10"}, Spans: []schema.Span{{From: "02:00", To: "03:00"}}}, "2026-03-10T02:30", true, "2026-03-11T02:00"},
		"open only":                   {schema.Window{Open: true, Spans: []schema.Span{{Days: []string{"tue"}, From: "10:00", To: "12:00"}}}, "2026-03-10T09:00", false, "2026-03-10T10:00"},
		"open now":                    {schema.Window{Open: true, Spans: []schema.Span{{Days: []string{"tue"}, From: "10:00", To: "12:00"}}}, "2026-03-10T11:00", true, "2026-03-10T12:00"},
		"once":                        {schema.Window{Spans: []schema.Span{{Since: "2026-12-23T18:00", Until: "2027-01-02T08:00"}}}, "2026-12-30T00:00", false, "2027-01-02T08:00"},
		"never again":                 {schema.Window{Spans: []schema.Span{{Since: "2025-12-23T18:00", Until: "2026-01-02T08:00"}}}, "2026-03-10T00:00", true, ""},
		"what joins is one":           {schema.Window{Spans: []schema.Span{{From: "02:00", To: "03:00"}, {From: "03:00", To: "04:00"}, {From: "02:30", To: "03:30"}}}, "2026-03-10T02:30", false, "2026-03-10T04:00"},
		"always":                      {schema.Window{Spans: []schema.Span{{From: "00:00", To: "00:00"}}}, "2026-03-10T02:30", false, ""},
		"spring forward":              {schema.Window{Zone: "Europe/Berlin", Spans: []schema.Span{{From: "01:00", To: "04:00"}}}, "2026-03-29T00:30", false, "2026-03-29T02:00"},
		"fall back":                   {schema.Window{Zone: "Europe/Berlin", Spans: []schema.Span{{From: "01:00", To: "04:00"}}}, "2026-10-24T23:30", false, "2026-10-25T03:00"},
		"what is wrong stops nothing": {schema.Window{Zone: "Mars", Spans: []schema.Span{night}}, "2026-03-10T05:00", true, ""},
	} {
		now, err := time.Parse("2006-01-02T15:04", c.now)
		if err != nil {
			t.Fatal(err)
		}
		open, next := calendar.At(c.w, now)
		got := ""
		if !next.IsZero() {
			got = next.UTC().Format("2006-01-02T15:04")
		}
		if open != c.open || got != c.next {
			t.Errorf("%s: open %t until %q, want %t until %q", name, open, got, c.open, c.next)
		}
	}
}

func TestCheck(t *testing.T) {
	daily := schema.Span{From: "02:00", To: "03:00"}
	for want, w := range map[string]schema.Window{
		"":                                {Zone: "Europe/Berlin", Spans: []schema.Span{daily, {Since: "2026-12-23T18:00", Until: "2027-01-02T08:00"}}},
		"zone":                            {Zone: "Mars/Base", Spans: []schema.Span{daily}},
		`zone "Local"`:                    {Zone: "Local", Spans: []schema.Span{daily}},
		"spans: missing":                  {},
		"except":                          {Except: []string{"christmas"}, Spans: []schema.Span{daily}},
		"spans[1]: want from":             {Spans: []schema.Span{daily, {}}},
		"spans[0]: want from and to such": {Spans: []schema.Span{{From: "2", To: "3"}}},
		"spans[0]: want since":            {Spans: []schema.Span{{Since: "2026-12-23T18:00", Until: "2026-12-23T18:00"}}},
		"spans[0]: day":                   {Spans: []schema.Span{{Days: []string{"monday"}, From: "02:00", To: "03:00"}}},
	} {
		if got := calendar.Check(w); want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
