package schema

import "time"

// Membership is who serves, for every group that a proxy or Consul should
// know; it travels on its own path, level-triggered: the newest wins.
type Membership struct {
	Revision uint64             `json:"revision"`
	Groups   map[string]Serving `json:"groups"`
}

// Serving is one group's members in rotation. Blind means that the evidence
// was missing or too many flipped at once, and Members are the last known.
type Serving struct {
	Members []Endpoint `json:"members"`
	Blind   string     `json:"blind,omitempty"` // why the last state is kept
}

// Endpoint is a member as a proxy addresses it.
type Endpoint struct {
	ID      string         `json:"id"`
	Address string         `json:"address"`
	Ports   map[string]int `json:"ports"`
}

// Bits says who holds a member out of rotation; each owner writes its own
// only. A member is in rotation when no bit is down and its health is good.
type Bits struct {
	Hosts    map[string]Bit `json:"hosts,omitempty"`    // by host or node name, from Git
	Operator map[string]Bit `json:"operator,omitempty"` // by member id, host or group name
	Release  map[string]Bit `json:"release,omitempty"`  // by member id, from rollouts
}

// Bit is one owner's "out", with reason and since when.
type Bit struct {
	Owner  string    `json:"owner"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"`
	Drain  bool      `json:"drain,omitempty"` // of a host: a drain put it down, and ending that lifts it
	// Of a member's hold: the place that it is kept for, and who was held there
	// first, if that one is gone.
	Place MemberPlace `json:"place,omitzero"`
	First string      `json:"first,omitempty"`
}

// MemberPlace is what a member and whoever replaces it have in common: the
// name index in a group or, of jobs with one member a node, that node.
type MemberPlace struct {
	Group string `json:"group"`
	Part  string `json:"part,omitempty"`
	Index int    `json:"index"`
	Node  string `json:"node,omitempty"`
}
