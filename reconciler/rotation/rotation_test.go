package rotation

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"locktide.dev/fixtures/proptest"
	"locktide.dev/schema"
)

func TestMain(m *testing.M) { proptest.Main(m, 7_000) }

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const group = "shop.api/prod.dc1"

func member(i int, running, passing bool) schema.Member {
	return schema.Member{ID: fmt.Sprintf("m%02d", i), Host: fmt.Sprintf("h%02d", i), Group: group, Running: running, Passing: &passing, Since: now}
}

func members(n, failing int) []schema.Member {
	var out []schema.Member
	for i := range n {
		out = append(out, member(i, true, i >= failing))
	}
	return out
}

func ids(s schema.Serving) string {
	var out []string
	for _, m := range s.Members {
		out = append(out, m.ID)
	}
	return strings.Join(out, " ")
}

func TestAFewFailuresPassAtOnceManyWaitForASecondReading(t *testing.T) {
	lim := Limits{Now: now, Checked: true}
	all := Decide(group, members(10, 0), schema.Bits{}, schema.Serving{}, true, lim)
	if len(all.Members) != 10 || all.Blind != "" {
		t.Fatalf("%v", all)
	}
	if got := Decide(group, members(10, 3), schema.Bits{}, all, true, lim); len(got.Members) != 7 || got.Blind != "" {
		t.Fatalf("3 of 10: %v", got)
	}
	lim.Suspect = Suspects(nil, members(10, 4), now, lim)
	kept := Decide(group, members(10, 4), schema.Bits{}, all, true, lim)
	if len(kept.Members) != 10 || kept.Blind == "" {
		t.Fatalf("4 of 10 at once: %v", kept)
	}
	lim.Now = now.Add(10 * time.Second)
	lim.Suspect = Suspects(lim.Suspect, members(10, 4), lim.Now, lim)
	if got := Decide(group, members(10, 4), schema.Bits{}, kept, true, lim); len(got.Members) != 6 || got.Blind != "" {
		t.Fatalf("confirmed: %v", got)
	}
}

func TestTheLastMemberWaitsForASecondReading(t *testing.T) {
	lim := Limits{Now: now, Checked: true}
	one := Decide(group, members(1, 0), schema.Bits{}, schema.Serving{}, true, lim)
	lim.Suspect = Suspects(nil, members(1, 1), now, lim)
	if got := Decide(group, members(1, 1), schema.Bits{}, one, true, lim); len(got.Members) != 1 || got.Blind == "" {
		t.Fatalf("lost once: %v", got)
	}
	lim.Now = now.Add(10 * time.Second)
	lim.Suspect = Suspects(lim.Suspect, members(1, 1), lim.Now, lim)
	if got := Decide(group, members(1, 1), schema.Bits{}, one, true, lim); len(got.Members) != 0 || got.Blind != "" {
		t.Fatalf("confirmed: %v", got)
	}
}

func TestStoppedMembersLeaveAtOnce(t *testing.T) {
	lim := Limits{Now: now, Checked: true}
	all := Decide(group, members(4, 0), schema.Bits{}, schema.Serving{}, true, lim)
	ms := members(4, 0)[2:]
	ms = append(ms, member(0, false, false))
	if got := ids(Decide(group, ms, schema.Bits{}, all, true, lim)); got != "m02 m03" {
		t.Fatalf("serving %s", got)
	}
}

func TestBlindKeepsTheLastStateButNotHeldMembers(t *testing.T) {
	lim := Limits{Now: now, Checked: true}
	all := Decide(group, members(4, 0), schema.Bits{}, schema.Serving{}, true, lim)
	bits := schema.Bits{Operator: map[string]schema.Bit{"m01": {Owner: "ann"}}, Hosts: map[string]schema.Bit{"h02": {Owner: "git"}}}
	got := Decide(group, members(4, 4), bits, all, false, lim)
	if ids(got) != "m00 m03" || got.Blind == "" {
		t.Fatalf("%+v", got)
	}
}

func TestNoEvidenceIsNotPassing(t *testing.T) {
	m := schema.Member{ID: "a", Running: true}
	if got := Decide(group, []schema.Member{m}, schema.Bits{}, schema.Serving{}, true, Limits{Checked: true}); len(got.Members) != 0 {
		t.Fatal("a member with checks and no evidence serves")
	}
	served := schema.Serving{Members: []schema.Endpoint{{ID: "a"}}}
	if got := Decide(group, []schema.Member{m}, schema.Bits{}, served, true, Limits{Checked: true}); len(got.Members) != 1 || got.Blind == "" {
		t.Fatal("a member that serves is dropped because its checks were lost")
	}
	if got := Decide(group, []schema.Member{m}, schema.Bits{}, schema.Serving{}, true, Limits{}); len(got.Members) != 1 {
		t.Fatal("a running member without checks does not serve")
	}
}

// TestOwnership: nobody whose any bit is down serves, nobody is pulled in
// without health, and at most what is believed is dropped.
func TestOwnership(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 8).Draw(t, "n")
		state := rapid.SliceOfN(rapid.IntRange(0, 31), n, n).Draw(t, "state")
		fresh := rapid.Bool().Draw(t, "fresh")
		old := rapid.Bool().Draw(t, "old")
		bits := schema.Bits{Hosts: map[string]schema.Bit{}, Operator: map[string]schema.Bit{}, Release: map[string]schema.Bit{}}
		var ms []schema.Member
		var last schema.Serving
		for i, s := range state {
			m := member(i, s&1 != 0, s&2 != 0)
			ms = append(ms, m)
			if s&4 != 0 {
				last.Members = append(last.Members, schema.Endpoint{ID: m.ID})
			}
			if s&24 == 24 {
				set := []map[string]schema.Bit{bits.Hosts, bits.Operator, bits.Release}[i%3]
				set[[]string{m.Host, m.Host, m.ID}[i%3]] = schema.Bit{Owner: "x"}
			}
		}
		got := Decide(group, ms, bits, last, fresh, Limits{Now: now, Checked: true, Old: old})
		serving := " " + ids(got) + " "
		for i, m := range ms {
			in := strings.Contains(serving, " "+m.ID+" ")
			was := state[i]&4 != 0
			switch {
			case in && Held(group, m, bits):
				t.Fatalf("%s is held and serves", m.ID)
			case in && !was && (!m.Running || !*m.Passing || !fresh || old):
				t.Fatalf("%s was pulled in without health", m.ID)
			case !in && fresh && (was || !old) && m.Running && *m.Passing && !Held(group, m, bits):
				t.Fatalf("%s is well and does not serve", m.ID)
			case !in && !fresh && was && !Held(group, m, bits):
				t.Fatalf("%s was dropped while blind", m.ID)
			case in && fresh && !m.Running:
				t.Fatalf("%s stopped and serves", m.ID)
			}
		}
	})
}
