package celrules_test

import (
	"testing"

	"locktide.dev/policy"
	"locktide.dev/policy/celrules"
)

// A file of rules gives rules that judge, findings that name its place, or both.
func FuzzParse(f *testing.F) {
	f.Add([]byte(file(`for: groups, when: self.stage == "prod", must: self.count >= 2, message: twice`)))
	f.Add([]byte(file(`for: apps, must: "[1].all(a, a / 0 == 1)", message: m, severity: warn`)))
	f.Add([]byte("rules: &a {own: {for: apps, must: \"self.owner.split('')[9]\", message: m}, b: *a}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		rules, bad := celrules.Parse("policy/own.yaml", src)
		for _, x := range bad {
			if x.Message == "" || x.At.File != "policy/own.yaml" {
				t.Errorf("a finding without message or place: %+v", x)
			}
		}
		for _, x := range policy.Evaluate(t.Context(), quiet(), rules, policy.Input{Fleet: fleet()}) {
			if x.Message == "" || x.Code == "" {
				t.Errorf("a finding says nothing: %+v", x)
			}
		}
	})
}
