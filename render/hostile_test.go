package render_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"locktide.dev/render"
	"locktide.dev/schema"
)

// Every bad input gives a finding with a stable code, at its file and line.
func TestErrors(t *testing.T) {
	one := func(name, text string) map[string]string { return map[string]string{name: text} }
	module := `module: "x.example@v0"`
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 'b'; i < 'j'; i++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	for name, c := range map[string]struct {
		files          map[string]string
		code, at, text string
	}{
		"empty":                    {one("README.md", "x"), "empty", "", "defines nothing"},
		"empty files":              {map[string]string{"a.yaml": "# nothing\n", "b.cue": "package b\n#X: 1\n"}, "empty", "", ""},
		"unknown top-level":        {one("a.yaml", "\napp:\n  web: {}\n"), "unknown-key", "a.yaml:2", `did you mean "apps"?`},
		"unknown top-level in cue": {one("p/a.cue", "package p\n\napp: web: {}\n"), "unknown-key", "p/a.cue:3", `did you mean "apps"?`},
		"unknown field yaml":       {one("a.yaml", "apps:\n  web:\n    imge: x\n"), "unknown-field", "a.yaml:3", `did you mean "image"?`},
		"unknown field json":       {one("a.json", "{\"apps\": {\"web\": {\n\"imge\": \"x\"}}}"), "unknown-field", "a.json:2", ""},
		"unknown field jsonnet":    {one("a.jsonnet", "local n = 'web';\n{ apps: {\n [n]: {\n  imge: 'x' } } }"), "unknown-field", "a.jsonnet:4", ""},
		"unknown field cue":        {one("a.cue", "package a\nimport \"locktide.dev/schema\"\napps: web: schema.#App & {\n\timge: \"x\"\n}\n"), "unknown-field", "a.cue:4", `did you mean "image"?`},
		"type in cue":              {one("a.cue", "package a\nimport \"locktide.dev/schema\"\napps: web: schema.#App & {\n\tcount: \"12\"\n}\n"), "conflict", "a.cue:4", "count"},
		"type in plain cue":        {one("a.cue", "package a\napps: web: {\n\tcount: \"12\"\n}\n"), "type", "a.cue:3", "want int"},
		"conflict across library": {map[string]string{"cue.mod/module.cue": module, "lib/l.cue": "package lib\n#W: {tier: \"logic\"}\n",
			"t/a.cue": "package t\nimport \"x.example/lib\"\napps: web: lib.#W & {\n\ttier: \"access\"\n}\n"}, "conflict", "t/a.cue:", "apps.web.tier"},
		"cue syntax":         {one("a.cue", "package a\napps: {\n"), "syntax", "a.cue:2", ""},
		"cue incomplete":     {one("a.cue", "package a\napps: web: release: string\n"), "incomplete", "a.cue:2", "release"},
		"jsonnet syntax":     {one("a.jsonnet", "{\n  apps: {\n"), "syntax", "a.jsonnet:3", ""},
		"jsonnet runtime":    {one("a.jsonnet", "{\n  apps: error 'no' }\n"), "jsonnet", "a.jsonnet:2", "no"},
		"json syntax":        {one("a.json", "{\n\"apps\": }"), "syntax", "a.json:2", ""},
		"yaml syntax":        {one("a.yaml", "apps:\n  web: {\n"), "syntax", "a.yaml:", ""},
		"yaml duplicate key": {one("a.yaml", "apps: {}\npools: {}\napps: {}\n"), "duplicate-key", "a.yaml:3", "first at a.yaml:1"},
		"json duplicate key": {one("a.json", "{\"apps\": {},\n\"apps\": {}}"), "duplicate-key", "a.json:2", ""},
		"duplicate": {map[string]string{"a.yaml": "apps:\n  web: {release: '1'}\n", "b/b.cue": "package b\n\napps: web: release: \"2\"\n"},
			"duplicate", "b/b.cue:3", "a.yaml:2"},
		"duplicate default":      {map[string]string{"a.yaml": "defaults: {fleet: {release: '1'}}\n", "b.yaml": "defaults:\n  fleet: {release: '2'}\n"}, "duplicate", "b.yaml:2", "a.yaml:1"},
		"import cycle":           {map[string]string{"cue.mod/module.cue": module, "a/a.cue": "package a\nimport \"x.example/b\"\n#X: b.#X\n", "b/b.cue": "package b\nimport \"x.example/a\"\n#X: a.#X\n"}, "import-cycle", "", "a -> b -> a"},
		"import outside":         {one("a.cue", "package a\nimport \"github.com/x/y\"\napps: web: y.#X\n"), "import", "a.cue:2", "outside the repository"},
		"import missing":         {one("a.cue", "package a\nimport \"repo/lib\"\napps: web: lib.#X\n"), "import", "a.cue:2", "no such CUE package"},
		"import tool":            {one("a.cue", "package a\nimport \"tool/exec\"\napps: web: exec.Run\n"), "import", "a.cue:2", "refused"},
		"embed":                  {one("a.cue", "@extern(embed)\npackage a\napps: _ @embed(file=x.json)\n"), "not-hermetic", "a.cue:", "refused"},
		"jsonnet cycle":          {map[string]string{"a.jsonnet": "import 'b.libsonnet'", "b.libsonnet": "import 'a.jsonnet'"}, "recursion", "", "cycle"},
		"jsonnet import out":     {one("t/a.jsonnet", "import '../../etc/passwd'"), "jsonnet", "t/a.jsonnet:1", "outside the repository"},
		"jsonnet importstr root": {one("a.jsonnet", "{ apps: importstr '/proc/self/environ' }"), "jsonnet", "a.jsonnet:1", "outside the repository"},
		"jsonnet extvar":         {one("a.jsonnet", "{ apps: std.extVar('HOME') }"), "jsonnet", "a.jsonnet:1", "HOME"},
		"jsonnet native":         {one("a.jsonnet", "{ apps: std.native('x')(1) }"), "jsonnet", "a.jsonnet:1", ""},
		"jsonnet tailstrict":     {one("a.jsonnet", "local f(n) = f(n+1) tailstrict;\nf(0)"), "jsonnet", "a.jsonnet:1", "tailstrict"},
		"jsonnet recursion":      {one("a.jsonnet", "local f(n) = 1 + f(n+1); f(0)"), "recursion", "a.jsonnet:1", ""},
		"cue recursion":          {one("a.cue", "package a\napps: web: #X\n#X: {tasks: main: #X}\n"), "cue", "a.cue:", ""},
		"alias bomb":             {one("a.yaml", bomb), "too-big", "a.yaml:", "alias bomb"},
		"alias of itself":        {one("a.yaml", "a: &a [*a]\n"), "too-deep", "a.yaml:1", ""},
		"deep json":              {one("a.json", strings.Repeat("[", 100_000)), "too-deep", "a.json:1", ""},
		"deep yaml":              {one("a.yaml", strings.Repeat("- ", 5_000)+"x"), "too-deep", "a.yaml:1", ""},
		"deep cue":               {one("a.cue", "a: "+strings.Repeat("(", 100_000)), "too-deep", "a.cue:1", ""},
		"deep cue operators":     {one("a.cue", "a: "+strings.Repeat("!", 100_000)+"true"), "too-deep", "a.cue:1", ""},
		"deep jsonnet":           {one("a.jsonnet", strings.Repeat("[", 100_000)), "too-deep", "a.jsonnet:1", ""},
		"big file":               {one("a.json", strings.Repeat(" ", 300<<10)), "too-big", "a.json", "256 KiB"},
		"not utf-8":              {one("a.yaml", "apps: \xff"), "syntax", "a.yaml", "UTF-8"},
		"nan":                    {one("a.yaml", "apps: {web: {count: .nan}}\n"), "type", "a.yaml:1", ""},
		"big number":             {one("a.yaml", "apps: {web: {count: 99999999999999999999999}}\n"), "type", "a.yaml:1", ""},
		"yaml tag":               {one("a.yaml", "apps: !!binary aGk=\n"), "type", "a.yaml:1", "refused"},
		"LFS pointer":            {one("a.yaml", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"), "type", "a.yaml:1", "a string"},
		"LFS pointer in JSON":    {one("a.json", "version https://git-lfs.github.com/spec/v1\n"), "syntax", "a.json:1", ""},
		"negative duration":      {one("a.yaml", "apps:\n  a:\n    rollout: {wait: -5s}\n"), "type", "a.yaml:3", "a duration"},
		"duration in years":      {one("a.yaml", "apps: {a: {rollout: {wait: 1y}}}\n"), "type", "a.yaml:1", "a duration"},
		"endless duration":       {one("a.yaml", "apps: {a: {rollout: {wait: 99999999h}}}\n"), "type", "a.yaml:1", "a duration"},
		"negative count":         {one("a.yaml", "apps: {a: {count: -1}}\n"), "type", "a.yaml:1", "not negative"},
		"share above all":        {one("a.yaml", "apps: {a: {rollout: {max_unavailable: 101%}}}\n"), "type", "a.yaml:1", "a share"},
		"name with a newline":    {one("a\nb.yaml", "apps: {}\n"), "file-name", "", "plain text"},
		"name not utf-8":         {one("a\xff.yaml", "apps: {}\n"), "file-name", "", "plain text"},
		"name too long":          {one(strings.Repeat("a", 256)+".yaml", "apps: {}\n"), "file-name", "", "plain text"},
		"folders too deep":       {one(strings.Repeat("d/", 40)+"a.yaml", "apps: {}\n"), "too-deep", "", "folders"},
		"config key injection":   {one("a.yaml", "apps: {\"a\\nb\": {}}\n"), "name", "a.yaml:1", ""},
		"string where it matters": {map[string]string{"cue.mod/module.cue": module, "platform/lib/l.cue": "package lib\nimport \"locktide.dev/schema\"\n#W: schema.#App & {count: int}\n",
			"t/a.cue": "package t\nimport \"x.example/platform/lib\"\napps: web: lib.#W & {\n\tcount: \"12\"\n}\n"}, "conflict", "t/a.cue:4", "count"},
		"not a map":              {one("a.json", "[]"), "type", "a.json:1", "a list"},
		"bad app name":           {one("a.yaml", "apps: {Web: {}}\n"), "name", "a.yaml:1", "one to four labels"},
		"five labels":            {one("a.yaml", "apps: {a.b.c.d.e: {}}\n"), "name", "a.yaml:1", ""},
		"bad cell":               {one("a.yaml", "apps: {a: {stages: {prod: {groups: {DC1: {}}}}}}\n"), "name", "a.yaml:1", "cell"},
		"bad group name":         {one("a.yaml", "groups: {a: {}}\n"), "name", "a.yaml:1", "<app>/<stage>.<cell>"},
		"bad tombstone":          {one("a.yaml", "remove: [web]\n"), "name", "a.yaml:1", "apps/shop.old"},
		"unknown stage":          {one("a.yaml", "stages: {prod: {}}\napps:\n  a: {stages: {prd: {groups: {dc1: {}}}}}\n"), "datacenter", "a.yaml:3", `stage "prd" is not defined`},
		"unknown datacenter":     {one("a.yaml", "stages: {prod: {datacenters: [dc1]}}\napps:\n  a: {stages: {prod: {groups: {dc9: {}}}}}\n"), "datacenter", "a.yaml:3", "set datacenter"},
		"route to nothing":       {one("a.yaml", "apps: {web: {}}\nroutes:\n  r: {domains: [x], to: [{app: wbe}], via: e}\n"), "unknown-reference", "a.yaml:3", `did you mean "web"?`},
		"group of nothing":       {one("a.yaml", "groups:\n  a/prod.dc1: {}\n"), "unknown-reference", "a.yaml:2", `app "a"`},
		"after nothing":          {one("a.yaml", "apps:\n  web: {}\n  a:\n    after:\n      - wbe\n"), "unknown-reference", "a.yaml:5", `did you mean "web"?`},
		"after itself":           {one("a.yaml", "apps:\n  a: {after: [b]}\n  b: {after: [c]}\n  c: {after: [a]}\n"), "after-cycle", "a.yaml:", "after itself"},
		"after no cell":          {one("a.yaml", "apps:\n  a: {after: [b], stages: {prod: {groups: {east: {after: [wets]}, west: {}}}}}\n  b: {}\n"), "unknown-reference", "a.yaml:2", "east"},
		"after a cell elsewhere": {one("a.yaml", "stages: {prod: {datacenters: [dc1, dc2]}}\napps:\n  a:\n    stages:\n      prod:\n        groups:\n          dc1: {}\n          dc2:\n            after: [dc1]\n"), "unknown-reference", "a.yaml:9", "datacenter dc2"},
		"cells in a circle":      {one("a.yaml", "stages: {prod: {datacenters: [dc1]}}\napps:\n  a:\n    stages:\n      prod:\n        groups:\n          east: {datacenter: dc1, after: [west]}\n          west: {datacenter: dc1, after: [east]}\n"), "after-cycle", "a.yaml:7", "comes after itself"},
		"ignition of two":        {one("a.yaml", "apps:\n  a:\n    ignite: {http: /, tcp: true}\n    stages: {prod: {groups: {dc1: {}}}}\n"), "type", "a.yaml:3", "it asks 2 things"},
		"ignition of nothing":    {one("a.yaml", "apps: {a: {stages: {prod: {groups: {dc1: {}}}},\n  ignite: {timeout: 5s}}}\n"), "type", "a.yaml:2", "it asks 0 things"},
		"schedule of a service":  {one("a.yaml", "apps: {a: {stages: {prod: {groups: {dc1: {}}}},\n  schedule: {cron: '0 2 * * *'}}}\n"), "type", "a.yaml:2", "only kind periodic"},
		"image with a tag":       {one("a.yaml", "apps: {a: {stages: {prod: {groups: {dc1: {}}}},\n  image: 'reg:5000/x:1.2'}}\n"), "type", "a.yaml:2", "the tag is the release"},
		"image with a digest":    {one("a.yaml", "apps: {a: {stages: {prod: {groups: {dc1: {}}}},\n  image: 'x@sha256:ab'}}\n"), "type", "a.yaml:2", "the tag is the release"},
		"unknown network":        {one("a.yaml", "apps: {a: {stages: {prod: {groups: {dc1:\n  {network: bridged}}}}}}\n"), "type", "a.yaml:2", "want host, bridge, none or cni/NAME"},
		"port out of range":      {one("a.yaml", "apps: {a: {stages: {prod: {groups: {dc1: {}}}},\n  ports: {\n  http: {static: 70000}}}}\n"), "type", "a.yaml:3", "70000 is no port"},
		"signal of a raw job":    {one("a.yaml", "apps: {a: {job: {TaskGroups: []}, stages: {prod: {groups: {dc1: {}}}},\n  count: {max: 3, signal: {x: 1}}}}\n"), "type", "a.yaml:2", "scaling block"},
		"default of no stage":    {one("a.yaml", "apps: {a: {}}\nstages: {prod: {}}\ndefaults: {stage: {prd: {count: 3}}}\n"), "unknown-reference", "a.yaml:3", `stage "prd" is not defined: did you mean "prod"?`},
		"route without via":      {one("a.yaml", "apps: {a: {}}\nroutes:\n  r: {domains: [x], to: [{app: a}]}\n"), "type", "a.yaml:3", "via is missing"},
		"default of no tier":     {one("a.yaml", "apps: {a: {}}\ndefaults: {tier: {storge: {count: 3}}}\n"), "unknown-field", "a.yaml:2", `did you mean "storage"?`},
		"window of no tier":      {one("a.yaml", "apps: {a: {}}\nstages: {prod: {windows: {w: {tiers: [storge]}}}}\n"), "type", "a.yaml:2", `want one of "storage"`},
		"grant that is none":     {one("a.yaml", "apps: {a: {}}\nteams: {t: {may: [raw-exec]}}\n"), "type", "a.yaml:2", `want one of "raw_exec"`},
		"kind that is none":      {one("a.yaml", "apps: {a: {}}\nteams: {t: {kinds: [app]}}\n"), "type", "a.yaml:2", `"apps"`},
		"hold until some day":    {one("a.yaml", "apps: {a: {}}\nhosts: {h: {hold: {reason: x, until: tomorrow}}}\n"), "type", "a.yaml:2", "want a time such as"},
		"owner against path":     {one("t/a.yaml", "teams: {x: {paths: [t]}}\napps:\n  a: {owner: y}\n"), "owner", "t/a.yaml:3", `team "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, mapFS(c.files), render.Options{})
			if r.Complete {
				t.Fatal("accepted")
			}
			i := slices.IndexFunc(r.Findings, func(f schema.Finding) bool {
				return f.Code == c.code && strings.HasPrefix(f.At.String(), c.at) && strings.Contains(f.Message, c.text)
			})
			if i < 0 {
				t.Errorf("got %v\nwant %s at %s: %s", r.Findings, c.code, c.at, c.text)
			}
		})
	}
}

// A byte order mark and any line ends are no reason to refuse a file.
func TestMarksAndLineEnds(t *testing.T) {
	for name, text := range map[string]string{
		"a.yaml": "\ufeffapps:\r\n  web: {count: 3}\r\n", "a.json": "\ufeff{\"apps\":\r{\"web\": {\"count\": 3}}}\r\n",
		"a.jsonnet": "{ apps: {\r\n web: { count: 3 } } }\r\n", "a.cue": "package a\r\napps: web: count: 3\r\n",
	} {
		if r := good(t, mapFS(map[string]string{name: text, "s.yaml": "defaults: {fleet: {env: {A: x}}}\n"})); len(r.Fleet.Apps) != 1 {
			t.Errorf("%s: %+v", name, r.Fleet)
		}
	}
}

func TestSymlinksAndDevicesAreRefused(t *testing.T) {
	dir := t.TempDir()
	for name, target := range map[string]string{"out.yaml": "/etc/passwd", "up": "..", "loop": "loop", "dangling.cue": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "a.jsonnet"), []byte("import 'out.yaml'"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, os.DirFS(dir), render.Options{})
	links := 0
	for _, f := range r.Findings {
		if f.Code == "symlink" {
			links++
		}
		if strings.Contains(f.Message, "root:") {
			t.Errorf("content of a file outside: %s", f.Message)
		}
	}
	if links != 4 || len(r.Findings) != 5 {
		t.Errorf("findings: %v", r.Findings)
	}
	r = run(t, fstest.MapFS{"a.yaml": &fstest.MapFile{Mode: fs.ModeNamedPipe}}, render.Options{})
	if len(r.Findings) == 0 || r.Findings[0].Code != "irregular-file" {
		t.Errorf("findings: %v", r.Findings)
	}
}

func TestFreezeKeepsWhatAFileDefined(t *testing.T) {
	files := map[string]string{
		"platform/s.yaml": "stages: {prod: {datacenters: [dc1]}}\n",
		"a.yaml":          "apps: {a: {release: '1', stages: {prod: {groups: {dc1: {}}}}}}\n",
		"b.yaml":          "apps: {b: {release: '1', stages: {prod: {groups: {dc1: {}}}}}}\n",
		"r.yaml":          "routes: {ra: {domains: [a], to: [{app: a}], via: e}, rb: {domains: [b], to: [{app: b}], via: e}}\n",
	}
	before := good(t, mapFS(files))
	files["a.yaml"] = "apps: {a: {release: '2', stages: {prod: {groups: {dc1: {cuont: 1}}}}}}\n"
	files["b.yaml"] = "apps: {b: {release: '2', stages: {prod: {groups: {dc1: {}}}}}}\n"
	files["r.yaml"] = strings.ReplaceAll(files["r.yaml"], "[a]", "[a2]")
	r := run(t, mapFS(files), render.Options{OnError: render.Freeze, Previous: &before})
	if r.Complete || !r.Usable(render.Freeze) || r.Usable(render.Refuse) {
		t.Error("a frozen render is usable only under freeze, and never complete")
	}
	if want := []schema.Ref{"apps/a", "groups/a/prod.dc1", "routes/ra"}; !slices.Equal(r.Frozen, want) {
		t.Errorf("frozen: %v", r.Frozen)
	}
	f := r.Fleet
	if f.Groups.Get("a/prod.dc1").Release != "1" || f.Groups.Get("b/prod.dc1").Release != "2" || f.Routes["ra"].Domains[0] != "a" || f.Apps["a"].Groups[0] != "a/prod.dc1" {
		t.Errorf("fleet: %+v", f)
	}
	if len(r.Provenance.Explain("groups/a/prod.dc1")) == 0 {
		t.Error("a frozen group has no provenance")
	}
	withNew := maps.Clone(files)
	withNew["a.yaml"] = "apps: {a: {release: '2'}, new: {stages: {prod: {groups: {dc9: {}}}}}}\n"
	if late := run(t, mapFS(withNew), render.Options{OnError: render.Freeze, Previous: &before}); late.Fleet.Groups.Get("a/prod.dc1").Release != "1" || len(late.Fleet.Apps) != 2 {
		t.Errorf("a file that fails late must freeze whole: %+v", late.Fleet.Apps)
	}
	again := run(t, mapFS(files), render.Options{OnError: render.Freeze, Previous: &r})
	if !slices.Equal(again.Frozen, r.Frozen) {
		t.Errorf("frozen again: %v", again.Frozen)
	}

	files["platform/s.yaml"] = "stages: [\n"
	r = run(t, mapFS(files), render.Options{OnError: render.Freeze, Previous: &before})
	if string(schema.MustCanonical(r.Fleet.Groups)) != string(schema.MustCanonical(before.Fleet.Groups)) {
		t.Errorf("broken stages must freeze every group: %+v", maps.Collect(r.Fleet.Groups.All()))
	}
	if _, ok := r.Fleet.Stages["prod"]; !ok {
		t.Error("stages are gone")
	}
}

// What a broken library touches is frozen; a package that does not use it goes on.
func TestFreezeOfALibrary(t *testing.T) {
	files := map[string]string{
		"lib/l.cue": "package lib\n#W: {release: \"1\", stages: prod: groups: dc1: {}}\n",
		"a/a.cue":   "package a\nimport \"repo/lib\"\napps: a: lib.#W\n",
		"b/b.cue":   "package b\napps: b: {release: \"1\", stages: prod: groups: dc1: {}}\n",
	}
	before := good(t, mapFS(files))
	files["lib/l.cue"] += "#X: {"
	r := run(t, mapFS(files), render.Options{OnError: render.Freeze, Previous: &before})
	if want := []schema.Ref{"apps/a", "groups/a/prod.dc1"}; !slices.Equal(r.Frozen, want) {
		t.Errorf("frozen: %v, findings %v", r.Frozen, r.Findings)
	}
	if r.Fleet.Groups.Len() != 2 {
		t.Errorf("groups: %v", maps.Collect(r.Fleet.Groups.All()))
	}
}
