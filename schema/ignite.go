package schema

import (
	"encoding/json"
	"fmt"
	"maps"
)

// IgniteGate is the name of the gate that asks a group's ignition.
const IgniteGate = "ignite"

// Ignition is the check that each new member answers before it serves, asked
// at its own address; exactly one of HTTP, TCP, GRPC, Script is set. Skip, in
// JSON "skip" instead of an object: nothing is asked, and a member that starts
// and passes the checks of its services is good enough.
type Ignition struct {
	Skip    bool     `json:"-"`
	HTTP    string   `json:"http,omitempty"` // path
	TCP     bool     `json:"tcp,omitempty"`
	GRPC    string   `json:"grpc,omitempty"`
	Script  []string `json:"script,omitempty"`
	Port    string   `json:"port,omitempty"`
	Timeout Duration `json:"timeout,omitempty"`
	Grace   Duration `json:"grace,omitempty"` // after a member came up, in which a bad answer does not count
}

// MarshalJSON writes "skip" or an object.
func (i Ignition) MarshalJSON() ([]byte, error) {
	if i.Skip {
		return json.Marshal("skip")
	}
	type plain Ignition
	return json.Marshal(plain(i))
}

// UnmarshalJSON reads "skip" or an object.
func (i *Ignition) UnmarshalJSON(b []byte) error {
	var word string
	if json.Unmarshal(b, &word) != nil {
		type plain Ignition
		i.Skip = false
		return json.Unmarshal(b, (*plain)(i))
	}
	if word != "skip" {
		return fmt.Errorf("ignite: %q is neither a check nor skip", word)
	}
	*i = Ignition{Skip: true}
	return nil
}

// gate is the question that the ignition is; ok is false when there is none.
func (i *Ignition) gate() (g Gate, ok bool) {
	if i == nil || i.Skip {
		return g, false
	}
	g = Gate{Port: i.Port, Timeout: i.Timeout, Grace: i.Grace}
	switch {
	case i.HTTP != "":
		g.Kind, g.Path = GateHTTP, i.HTTP
	case i.GRPC != "":
		g.Kind, g.Service = GateGRPC, i.GRPC
	case len(i.Script) > 0:
		g = Gate{Kind: GateScript}
	case i.TCP:
		g.Kind = GateTCP
	default:
		return g, false
	}
	return g, true
}

// Paces is the group's rollout with its ignition among the gates. One that is
// written as gate "ignite" stays as it is written.
func (b Body) Paces() Pacing {
	p := b.Rollout
	g, asked := b.Ignite.gate()
	if _, written := p.Gates[IgniteGate]; !asked || written {
		return p
	}
	p.Gates = maps.Clone(p.Gates)
	if p.Gates == nil {
		p.Gates = map[string]Gate{}
	}
	p.Gates[IgniteGate] = g
	return p
}
