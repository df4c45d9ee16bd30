package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"locktide.dev/fixtures"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// Leaves of the compiled job that need a grant, or must be among what is the team's.
func TestGuardedLeaves(t *testing.T) {
	const job = `{%s,"TaskGroups":[{"Name":"g","Count":3,"Services":[{"Name":"shop--web","Checks":[{}]}],"Tasks":[{"Name":"main","Driver":"docker","Config":{"image":"x@sha256:a"},"Resources":{"CPU":500,"MemoryMB":256}%s}]}]}`
	for name, c := range map[string]struct {
		top, task string
		team      schema.Team
		want      string
	}{
		"nothing":               {`"Priority":50`, ``, schema.Team{}, ""},
		"priority":              {`"Priority":51`, ``, schema.Team{}, "deny priority"},
		"priority, granted":     {`"Priority":51`, ``, schema.Team{May: []string{"priority"}}, ""},
		"volume of the host":    {`"Priority":0`, `,"Config":{"image":"x@sha256:a","volumes":["local/x:/x","/var/run/docker.sock:/s"]}`, schema.Team{}, "deny host-path"},
		"bind mount":            {`"Priority":0`, `,"Config":{"image":"x@sha256:a","mount":[{"type":"bind","source":"../../etc"}]}`, schema.Team{}, "deny host-path"},
		"volume of the task":    {`"Priority":0`, `,"Config":{"image":"x@sha256:a","volumes":["local/x:/x"],"mount":[{"type":"tmpfs","target":"/t"}]}`, schema.Team{}, ""},
		"vault role":            {`"Priority":0`, `,"Vault":{"Role":"admin"}`, schema.Team{}, "deny identity"},
		"vault by default":      {`"Priority":0`, `,"Vault":{"Role":""}`, schema.Team{}, ""},
		"audience":              {`"Priority":0`, `,"Identities":[{"Name":"x","Audience":["aws"]}]`, schema.Team{}, "deny identity"},
		"token":                 {`"ConsulToken":"x"`, ``, schema.Team{}, "deny identity"},
		"pool":                  {`"NodePool":"gpu"`, ``, schema.Team{Pools: []string{"web"}}, "deny team-pool"},
		"own pool":              {`"NodePool":"web"`, ``, schema.Team{Pools: []string{"web"}}, ""},
		"service of another":    {`"Priority":0`, `,"Services":[{"Name":"pay--api"}]`, schema.Team{}, "deny team-service"},
		"service of nobody":     {`"Priority":0`, `,"Services":[{"Name":"free"}]`, schema.Team{}, ""},
		"service not listed":    {`"Priority":0`, `,"Services":[{"Name":"free"}]`, schema.Team{Services: []string{"legacy"}}, "deny team-service"},
		"listed service":        {`"Priority":0`, `,"Services":[{"Name":"legacy"}]`, schema.Team{Services: []string{"legacy"}}, ""},
		"reads another's":       {`"Priority":0`, `,"Templates":[{"ChangeMode":"noop","EmbeddedTmpl":"{{ key \"pay/x\" }}"}]`, schema.Team{Reads: []string{"shop/*"}}, "deny team-reads"},
		"reads its own":         {`"Priority":0`, `,"Templates":[{"ChangeMode":"noop","EmbeddedTmpl":"{{with secret \"shop/x\"}}{{end}}"}]`, schema.Team{Reads: []string{"shop/*"}}, ""},
		"reads what it makes":   {`"Priority":0`, `,"Templates":[{"ChangeMode":"noop","EmbeddedTmpl":"{{ key (env \"X\") }}"}]`, schema.Team{Reads: []string{"shop/*"}}, "deny team-reads"},
		"reads from a file":     {`"Priority":0`, `,"Templates":[{"ChangeMode":"noop","SourcePath":"local/t"}]`, schema.Team{Reads: []string{"*"}}, "deny team-reads"},
		"quota of members":      {`"Priority":0`, ``, schema.Team{Quota: map[string]schema.Quota{"prod": {Members: 2}}}, "deny team-quota"},
		"quota of CPU":          {`"Priority":0`, ``, schema.Team{Quota: map[string]schema.Quota{"prod": {CPUMHz: 1499}}}, "deny team-quota"},
		"quota of memory":       {`"Priority":0`, ``, schema.Team{Quota: map[string]schema.Quota{"prod": {MemoryMiB: 767}}}, "deny team-quota"},
		"quota kept":            {`"Priority":0`, ``, schema.Team{Quota: map[string]schema.Quota{"prod": {Members: 3, CPUMHz: 1500, MemoryMiB: 768}}}, ""},
		"quota of other stages": {`"Priority":0`, ``, schema.Team{Quota: map[string]schema.Quota{"test": {Members: 1}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{Fleet: quickstart(), Objects: fixtures.Head(schema.Object{Group: "shop.web/prod.dc1", Layer: schema.LayerInstance, Spec: json.RawMessage(fmt.Sprintf(job, c.top, c.task))})}
			c.team.Apps = []string{"shop.web"}
			in.Fleet.Teams = map[string]schema.Team{"web": c.team, "pay": {Apps: []string{"pay.*"}}}
			got := strings.TrimSuffix(strings.Join(findings(in, Config{}), "; "), " "+web)
			if got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			in.Fleet.Teams = nil // the platform may everything
			if got := findings(in, Config{}); len(got) > 0 {
				t.Errorf("the platform is denied: %v", got)
			}
		})
	}
}

func TestAutoscaledGroupsCountWithTheirMost(t *testing.T) {
	in := Input{Fleet: quickstart()}
	g := in.Fleet.Groups.Get("shop.web/prod.dc1")
	g.Count = schema.Count{Number: 2, Min: 2, Max: 40}
	in.Fleet.Groups = in.Fleet.Groups.With("shop.web/prod.dc1", g)
	in.Fleet.Teams = map[string]schema.Team{"web": {Apps: []string{"shop.web"}, Quota: map[string]schema.Quota{"prod": {Members: 39}}}}
	if got := findings(in, Config{}); len(got) != 1 || got[0] != "deny team-quota "+web {
		t.Errorf("got %v", got)
	}
}

func TestTeamsOwnNamesAndPaths(t *testing.T) {
	f := quickstart()
	f.Teams = map[string]schema.Team{
		"web":  {Paths: []string{"teams/web"}, Kinds: []string{"apps"}, Apps: []string{"shop.web"}},
		"api":  {Paths: []string{"teams/api/"}, Kinds: []string{"apps", "routes"}, Apps: []string{"shop.api"}, Domains: []string{"*.api.example"}},
		"free": {Paths: []string{"teams/free"}},
	}
	f.Positions = map[schema.Ref]schema.Position{
		"apps/shop.web":            {File: "teams/web/a.cue"},    // its own
		"groups/shop.web/prod.dc1": {File: "teams/web/a.cue"},    // comes with the app
		"apps/shop.api":            {File: "teams/web/b.cue"},    // another team's name
		"routes/web":               {File: "teams/web/c.cue"},    // may not define routes
		"routes/api":               {File: "teams/api/c.cue"},    // not its domain
		"apps/shop.worker":         {File: "platform/x.cue"},     // the platform may
		"groups/shop.api/prod.dc1": {File: "teams/free/api.cue"}, // a name that team api claims
	}
	got := strings.Join(findings(Input{Fleet: f}, Config{}), "; ")
	want := "deny team-ownership apps/shop.api; deny team-ownership groups/shop.api/prod.dc1; deny team-ownership routes/api; deny team-ownership routes/web"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// What concerns everybody is the platform's, unless a team's kinds name it.
func TestTeamsDoNotDefineThePlatform(t *testing.T) {
	f := quickstart()
	f.Teams = map[string]schema.Team{"web": {Paths: []string{"teams/web"}}, "metal": {Paths: []string{"metal"}, Kinds: []string{"hosts", "pools"}}}
	f.Exceptions = map[string]schema.Exception{"x": {Rule: "raw-exec", Refs: []string{"*"}, Reason: "r", Expires: "2027-01-01"}}
	f.Stages = map[string]schema.Stage{"prod": {}}
	f.Positions = map[schema.Ref]schema.Position{
		"teams/web": {File: "teams/web/a.cue"}, "exceptions/x": {File: "teams/web/a.cue"}, "stages/prod": {File: "teams/web/a.cue"},
		"defaults/teams/web": {File: "teams/web/a.cue"}, "pools/web": {File: "teams/web/a.cue"},
		"hosts/h1": {File: "metal/h.cue"}, "teams/metal": {File: "platform/t.cue"},
	}
	got := strings.ReplaceAll(strings.Join(findings(Input{Fleet: f}, Config{}), "; "), "deny team-ownership ", "")
	if want := "defaults/teams/web; exceptions/x; pools/web; stages/prod; teams/web"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A tombstone needs the owner of what it deletes: by the commit before, or by name.
func TestTombstonesNeedTheOwner(t *testing.T) {
	teams := map[string]schema.Team{
		"web": {Paths: []string{"teams/web"}, Apps: []string{"shop.web"}, Domains: []string{"web.example"}, Keys: []string{"web/*"}},
		"api": {Paths: []string{"teams/api"}, Apps: []string{"shop.api"}},
	}
	keys := map[string]schema.ConsulKey{"web/a": {}}
	for ref, want := range map[schema.Ref]string{
		"apps/shop.web":            "",
		"groups/shop.web/prod.dc9": "",
		"apps/shop.api":            "deny team-ownership apps/shop.api",
		"groups/shop.api/prod.dc9": "deny team-ownership groups/shop.api/prod.dc9",
		"apps/shop.moved":          "deny team-ownership apps/shop.moved", // by its path before
		"apps/unknown":             "deny team-ownership apps/unknown",    // the platform's
		"routes/mine":              "",
		"routes/other":             "deny team-ownership routes/other",
		"hosts/h9":                 "deny team-ownership hosts/h9",
		"consul/mine":              "", // all of it is by its names the team's
		"consul/moved":             "deny team-ownership consul/moved",
		"consul/mixed":             "deny team-ownership consul/mixed",
		"consul/mesh":              "deny team-ownership consul/mesh",
	} {
		in := Input{Fleet: quickstart(), Previous: quickstart()}
		in.Fleet.Apps, in.Fleet.Groups, in.Fleet.Routes = nil, persistent.Map[string, schema.Group]{}, nil
		in.Fleet.Teams, in.Previous.Teams = teams, teams
		in.Previous.Routes = map[string]schema.Route{"mine": {Domains: []string{"web.example"}}, "other": {Domains: []string{"web.example", "x.example"}}}
		in.Previous.Consul = map[string]schema.Consul{"mine": {Keys: keys, Entries: map[string]json.RawMessage{"service-router/shop--web": nil}}, "moved": {Keys: keys},
			"mixed": {Keys: map[string]schema.ConsulKey{"web/a": {}, "api/b": {}}}, "mesh": {Keys: keys, Entries: map[string]json.RawMessage{"mesh/mesh": nil}}}
		in.Previous.Positions = map[schema.Ref]schema.Position{"apps/shop.moved": {File: "teams/api/x.cue"}, "consul/moved": {File: "teams/api/y.cue"}}
		in.Fleet.Remove = []schema.Ref{ref}
		in.Fleet.Positions = map[schema.Ref]schema.Position{"remove/" + ref: {File: "teams/web/a.yaml", Line: 2}}
		if got := strings.Join(findings(in, Config{}), "; "); got != want {
			t.Errorf("%s: got %q, want %q", ref, got, want)
		}
		in.Fleet.Positions = map[schema.Ref]schema.Position{"remove/" + ref: {File: "platform/a.yaml", Line: 2}}
		if got := findings(in, Config{}); len(got) > 0 {
			t.Errorf("%s: the platform may not: %v", ref, got)
		}
	}
}

// A commit is judged by the teams before it and by its own: it neither grants
// itself a right nor takes one away from what stays in use.
func TestJudgedBeforeAndAfter(t *testing.T) {
	without := map[string]schema.Team{"web": {Apps: []string{"shop.web"}}}
	with := map[string]schema.Team{"web": {Apps: []string{"shop.web"}, May: []string{"raw_exec"}}}
	for name, c := range map[string]struct {
		before, after map[string]schema.Team
		denied        bool
	}{
		"granted":        {with, with, false},
		"grants itself":  {without, with, true},
		"loses it":       {with, without, true},
		"never had it":   {without, without, true},
		"first teams":    {nil, with, false},
		"teams are gone": {with, nil, false},
	} {
		in := Input{Fleet: quickstart(), Previous: quickstart()}
		g := in.Fleet.Groups.Get("shop.web/prod.dc1")
		g.Tasks = map[string]schema.Task{"main": {Driver: "raw_exec"}}
		in.Fleet.Groups = in.Fleet.Groups.With("shop.web/prod.dc1", g)
		in.Previous.Teams, in.Fleet.Teams = c.before, c.after
		got := strings.Join(findings(in, Config{}), "; ")
		if want := "deny raw-exec " + web; c.denied && got != want || !c.denied && strings.Contains(got, "deny") {
			t.Errorf("%s: got %q", name, got)
		}
	}
}
