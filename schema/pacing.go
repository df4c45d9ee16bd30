package schema

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Pacing is how a group's release is rolled. It is no part of an object's
// Spec: it belongs to the engine and never makes drift.
type Pacing struct {
	MaxUnavailable Share    `json:"max_unavailable,omitempty"` // default 25 %, hard limit 50 %
	Batches        []Share  `json:"batches,omitempty"`
	Wait           Duration `json:"wait,omitempty"`          // between batches
	Soak           Duration `json:"soak,omitempty"`          // default 15s: passing, without a restart, before approval
	StartTimeout   Duration `json:"start_timeout,omitempty"` // default 5m: from placement to passing
	RepairAfter    Duration `json:"repair_after,omitempty"`  // default 15m: foreign writes to count, stop, spec
	BrakeLimit     Duration `json:"brake_limit,omitempty"`   // default 15m: a brake longer than this goes back
	OnFailure      string   `json:"on_failure,omitempty"`    // rollback (default), brake, freeze
	Surge          *int     `json:"surge,omitempty"`

	// Bake is how long bastions serve before the rest rolls; nil: 2m in stage
	// prod, none elsewhere. TailWait is Wait from the third batch on; nil: Wait.
	Bake     *Duration `json:"bake,omitempty"`
	TailWait *Duration `json:"tail_wait,omitempty"`
	Bastions int       `json:"bastions,omitempty"` // default 1, where there is a bake

	Throttle *Throttle `json:"throttle,omitempty"` // nil: going back takes no longer than it must

	Cells       string `json:"cells,omitempty"`     // in_turn (default), at_once: cells of one datacenter
	Supersede   string `json:"supersede,omitempty"` // "", queue
	AllowZero   bool   `json:"allow_zero,omitempty"`
	Mode        string `json:"mode,omitempty"` // repair (default); manual: commits await an operator; observe: nothing of the group is written, only shown
	ForwardOnly bool   `json:"forward_only,omitempty"`

	Gates map[string]Gate `json:"gates,omitempty"` // by name
	Peak  *Peak           `json:"peak,omitempty"`
}

// Throttle slows down how a group goes back to what was good.
type Throttle struct {
	MaxUnavailable Share    `json:"max_unavailable,omitempty"` // default that of the group; never more than without a throttle
	Wait           Duration `json:"wait,omitempty"`            // between batches
}

// Peak bounds how few members a group may have: those that carry its recent
// peak. Without both fields nothing is bounded.
type Peak struct {
	Query  string  `json:"query,omitempty"`  // PromQL that gives the peak, one number; $group and $app stand for the group's
	Member float64 `json:"member,omitempty"` // what one member carries, in the unit of the query
}

// Bounds says whether the peak says something.
func (p *Peak) Bounds() bool { return p != nil && p.Query != "" && p.Member > 0 }

// Share is "25%" or an absolute number of members.
type Share struct {
	Percent int // 0: absolute
	Number  int
}

// Of gives the share of n, rounded down, not below zero.
func (s Share) Of(n int) int {
	if s.Percent > 0 {
		return n * s.Percent / 100
	}
	return s.Number
}

// IsZero says whether nothing was written.
func (s Share) IsZero() bool { return s == Share{} }

func (s Share) String() string {
	if s.Percent > 0 {
		return strconv.Itoa(s.Percent) + "%"
	}
	return strconv.Itoa(s.Number)
}

// MarshalJSON writes "25%" or 3.
func (s Share) MarshalJSON() ([]byte, error) {
	if s.Percent > 0 {
		return json.Marshal(s.String())
	}
	return json.Marshal(s.Number)
}

// UnmarshalJSON reads "25%" (1 to 100) or a number >= 0.
func (s *Share) UnmarshalJSON(b []byte) error {
	var n int
	if json.Unmarshal(b, &n) == nil && n >= 0 {
		*s = Share{Number: n}
		return nil
	}
	var text string
	if json.Unmarshal(b, &text) == nil {
		if p, err := strconv.Atoi(strings.TrimSuffix(text, "%")); err == nil && strings.HasSuffix(text, "%") && p >= 1 && p <= 100 {
			*s = Share{Percent: p}
			return nil
		}
	}
	return fmt.Errorf("want a share such as \"25%%\" or a number of members, not %s", b)
}
