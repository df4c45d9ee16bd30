package cuerules

import (
	"strings"
	"testing"

	"locktide.dev/policy"
)

// A file of rules gives rules that judge, findings that name its place, or both.
// What takes for ever is the children's to end, so that loops are left out.
func FuzzLoad(f *testing.F) {
	f.Add(`rules: two: {for: "groups", when: {stage: "prod"}, must: count: >=2, message: "twice"}`)
	f.Add("rules: {a: {severity: \"warn\", for: \"apps\", must: owner?: \"x\" | null, message: \"m\"}, b: a}\nrules: \"raw-exec\": _|_")
	f.Add(`rules: [string]: {for: "objects", must: spec: Priority: <=50 & >=0, message: "\(for)"}`)
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 1024 || strings.Contains(src, "for ") || strings.Contains(src, "import") {
			return
		}
		rules, bad := Load(t.Context(), map[string]string{"policy/own.cue": src}, Here())
		for _, x := range bad {
			if x.Message == "" || x.At.File != "policy/own.cue" {
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
