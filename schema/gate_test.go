package schema_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"locktide.dev/schema"
)

// P5: only a pass of this very question, on data wholly from after its start
// that reaches far enough, lets a release on.
func TestOnlyAPassOnFreshDataLetsOn(t *testing.T) {
	since := time.Unix(1_800_000_000, 0)
	until := since.Add(time.Minute)
	q := schema.Question{Name: "g", Group: "x", Members: []string{"a"}, Since: since}.Sealed()
	good := schema.Judgment{Question: q.ID, Result: schema.GatePass, From: since, To: until}
	if !good.Lets(q, until) {
		t.Fatal("a pass does not let on")
	}
	for name, change := range map[string]func(*schema.Judgment){
		"fail":              func(j *schema.Judgment) { j.Result = schema.GateFail },
		"too little":        func(j *schema.Judgment) { j.Result = schema.GateTooLittle },
		"unknown":           func(j *schema.Judgment) { j.Result = schema.GateUnknown },
		"no result":         func(j *schema.Judgment) { j.Result = "" },
		"another question":  func(j *schema.Judgment) { j.Question = "sha256:0" },
		"data from before":  func(j *schema.Judgment) { j.From = since.Add(-1) },
		"data without time": func(j *schema.Judgment) { j.From = time.Time{} },
		"ends too early":    func(j *schema.Judgment) { j.To = until.Add(-1) },
	} {
		j := good
		change(&j)
		if j.Lets(q, until) {
			t.Errorf("%s lets on", name)
		}
	}
}

func TestAQuestionIsWhatDecidesItsAnswer(t *testing.T) {
	q := schema.Question{Name: "g", Gate: schema.Gate{Kind: schema.GateTCP}, Group: "x", Members: []string{"a", "b"}, Since: time.Unix(9, 0)}.Sealed()
	same := q
	same.MaxAge, same.Since = time.Hour, q.Since.UTC()
	if same.Sealed().ID != q.ID || q.Sealed().ID != q.ID {
		t.Error("the same question has another ID")
	}
	for name, change := range map[string]func(*schema.Question){
		"gate":     func(q *schema.Question) { q.Gate.Port = "admin" },
		"group":    func(q *schema.Question) { q.Group = "y" },
		"release":  func(q *schema.Question) { q.Release = "sha256:1" },
		"members":  func(q *schema.Question) { q.Members = []string{"a"} },
		"baseline": func(q *schema.Question) { q.Baseline = []string{"c"} },
		"since":    func(q *schema.Question) { q.Since = q.Since.Add(1) },
		"name":     func(q *schema.Question) { q.Name = "h" },
	} {
		other := q
		other.Members = slices.Clone(q.Members)
		change(&other)
		if other.Sealed().ID == q.ID {
			t.Errorf("another %s has the same ID", name)
		}
	}
}

func TestRatios(t *testing.T) {
	for text, want := range map[string]schema.Ratio{"0%": 0, "1%": 10_000, "0.5%": 5_000, "0.0001%": 1, "99.9999%": 999_999, "100%": 1_000_000, "33.3%": 333_000} {
		var r schema.Ratio
		if err := json.Unmarshal([]byte(`"`+text+`"`), &r); err != nil || r != want {
			t.Errorf("%s is %d, %v; want %d", text, r, err, want)
		}
		if b, err := json.Marshal(r); err != nil || string(b) != `"`+text+`"` {
			t.Errorf("%s is written %s, %v", text, b, err)
		}
	}
	for _, bad := range []string{"", "%", "1", "-1%", "101%", "1e1%", "NaN%", "Inf%", "0.00001%", "+1%", "1%%", " 1%"} {
		if err := new(schema.Ratio).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is a ratio", bad)
		}
	}
}

func TestReasonOfAJudgmentHasItsFigures(t *testing.T) {
	j := schema.Judgment{Name: "errors", Group: "x", Result: schema.GateFail, Why: "6 % errors", Threshold: "at most 1% errors", Sample: 200, Figures: map[string]float64{"errors": 0.06, "requests": 200}}
	want := "gate errors of x: fail: 6 % errors (wanted: at most 1% errors; sample 200, errors 0.06, requests 200)"
	if got := j.Reason(); got.Code != schema.WaitGate || !strings.Contains(got.Message, want) {
		t.Errorf("got  %s\nwant %s", got.Message, want)
	}
}
