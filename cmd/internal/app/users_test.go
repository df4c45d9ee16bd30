package app

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"locktide.dev/drivers/consul"
	"locktide.dev/drivers/nomad"
	"locktide.dev/fixtures"
	"locktide.dev/policy"
	"locktide.dev/render"
	"locktide.dev/schema"
)

// threeTeams is the model repository of three teams, with edits of its text.
func threeTeams(t *testing.T, edits ...string) fstest.MapFS {
	t.Helper()
	a, err := txtar.ParseFile("../../../render/testdata/users.txtar")
	if err != nil {
		t.Fatal(err)
	}
	out := fstest.MapFS{}
	for _, f := range a.Files {
		text := strings.NewReplacer(edits...).Replace(string(f.Data))
		out[f.Name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

// judge renders, compiles and judges a tree as the daemon does.
func judge(t *testing.T, tree fstest.MapFS) ([]schema.Object, []schema.Finding) {
	t.Helper()
	r := &renderer{onError: render.Refuse}
	means, err := r.Render(t.Context(), tree)
	if err != nil || schema.AnyDenied(means.Findings) {
		t.Fatalf("error %v, findings %v", err, means.Findings)
	}
	cat, err := consul.Config{Name: "eu", Owner: "acme", Address: "http://127.0.0.1:1", Datacenters: []string{"dc1", "dc2"}}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var objects []schema.Object
	found := means.Findings
	for _, ref := range refs(&means.Fleet) {
		job, bad := nomad.Config{Name: "eu", Owner: "acme"}.Compile(schema.NewView(&means.Fleet), ref)
		entry, worse := cat.Compile(schema.NewView(&means.Fleet), ref)
		objects = append(append(objects, job...), entry...)
		found = append(append(found, bad...), worse...)
	}
	found = append(found, policy.Evaluate(t.Context(), policy.Config{}, means.Rules,
		policy.Input{Fleet: &means.Fleet, Objects: fixtures.Head(objects...), Today: time.Now()})...)
	means.Place(found)
	return objects, found
}

func TestThreeTeamsCompile(t *testing.T) {
	objects, found := judge(t, threeTeams(t))
	if schema.AnyDenied(found) {
		t.Errorf("denied: %v", found)
	}
	jobs := 0
	for _, o := range objects {
		if o.Key.Kind == nomad.KindJob {
			jobs++
		}
	}
	if jobs != 11 {
		t.Errorf("%d jobs", jobs)
	}
}

// A guarded leaf is judged in the compiled job, whether it is typed, comes by
// the overlay or in a raw job, and the finding names the line that wrote it.
func TestGuardedLeavesHoweverTheyAreWritten(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"typed":   {`mounts: data: path: "/data"}`, `config: privileged: true}`, "privileged"},
		"overlay": {`gone: null}`, `privileged: true}`, "privileged"},
		"raw":     {`prod: groups: {dc1: placement: pool: "ssd-dc1", dc2`, `prod: groups: {dc1: job: {TaskGroups: [{Name: "g", Count: 1, Tasks: [{Name: "m", Driver: "docker", Config: {image: "x@sha256:a", privileged: true}}]}]}, dc2`, "privileged"},
	} {
		t.Run(name, func(t *testing.T) {
			_, found := judge(t, threeTeams(t, `, "privileged"]`, `, "job"]`, `, cap_add: ["sys_nice"]`, "", c.old, c.new))
			i := slices.IndexFunc(found, func(f schema.Finding) bool {
				return f.Code == c.want && f.Severity == schema.Deny && f.Ref == "groups/shop.search.shards/prod.dc1"
			})
			if i < 0 || found[i].At.File != "teams/search/search.cue" || found[i].At.Line == 0 {
				t.Errorf("findings: %v", found)
			}
		})
	}
}
