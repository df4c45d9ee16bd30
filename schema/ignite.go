package schema

import (
	"encoding/json"
	"fmt"
	"maps"
)

// IgniteGate is the name of the gate that asks a group's ignition.
const IgniteGate = "ignite"

// Ignition is the check that each new member answers before it serves, asked
// at its own address. JSON: a Check, or "skip": it is not asked, and a member
// that starts and passes the checks of its services is good enough.
type Ignition struct {
	Skip bool
	Check
}

// MarshalJSON writes "skip" or the check.
func (i Ignition) MarshalJSON() ([]byte, error) {
	if i.Skip {
		return json.Marshal("skip")
	}
	return json.Marshal(i.Check)
}

// UnmarshalJSON reads "skip" or a check.
func (i *Ignition) UnmarshalJSON(b []byte) error {
	var word string
	if json.Unmarshal(b, &word) != nil {
		i.Skip = false
		return json.Unmarshal(b, &i.Check)
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
	g = Gate{Port: i.Port, Timeout: i.Timeout}
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
