package schema

import (
	"encoding/json"
	"testing"
)

func TestIgnitionIsAGate(t *testing.T) {
	for text, want := range map[string]string{
		`{"http":"/ready","port":"admin","timeout":"3s"}`: `{"kind":"http","port":"admin","path":"/ready","timeout":"3s"}`,
		`{"grpc":"cart"}`:                  `{"kind":"grpc","service":"cart"}`,
		`{"tcp":true,"port":"redis"}`:      `{"kind":"tcp","port":"redis"}`,
		`{"script":["bin/ready"]}`:         `{"kind":"script"}`,
		`{"http":"/ready","grace":"1m0s"}`: `{"kind":"http","path":"/ready","grace":"1m0s"}`,
		`"skip"`:                           "", `{}`: "",
	} {
		var i Ignition
		if err := json.Unmarshal([]byte(text), &i); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if back, err := json.Marshal(i); err != nil || string(back) != text {
			t.Errorf("%s is written as %s, %v", text, back, err)
		}
		got := ""
		if g, asked := (Body{Ignite: &i}).Paces().Gates[IgniteGate]; asked {
			raw, err := json.Marshal(g)
			if err != nil {
				t.Fatal(err)
			}
			got = string(raw)
		}
		if got != want {
			t.Errorf("%s is the gate %s, want %s", text, got, want)
		}
	}
	if err := json.Unmarshal([]byte(`"later"`), &Ignition{}); err == nil {
		t.Error(`ignite: "later" was read`)
	}
}

// A gate that is written as "ignite" is asked as it is written, and deriving
// one leaves the body's own gates alone.
func TestIgnitionLeavesGatesAlone(t *testing.T) {
	own := Gate{Kind: GateTCP}
	b := Body{Ignite: &Ignition{HTTP: "/ready"}, Rollout: Pacing{Gates: map[string]Gate{IgniteGate: own}}}
	if got := b.Paces().Gates[IgniteGate]; got.Kind != GateTCP {
		t.Errorf("the written gate became %+v", got)
	}
	b.Rollout.Gates = map[string]Gate{"errors": own}
	if got := b.Paces().Gates; len(got) != 2 || len(b.Rollout.Gates) != 1 {
		t.Errorf("gates %v, the body has %v", got, b.Rollout.Gates)
	}
}
