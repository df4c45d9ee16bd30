package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"locktide.dev/cmd/internal/httpapi"
	"locktide.dev/reconciler/relations"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

var update = flag.Bool("update", false, "write the generated files")

// engine is an Engine that answers from fixed values.
type engine struct {
	Engine
	plan     schema.Plan
	rendered Rendered
	braked   string
}

func (e *engine) TestPolicies(_ context.Context, folder string) ([]PolicyTest, error) {
	tests := []PolicyTest{{File: "policy/tests/a.yaml", Name: "good"}}
	if folder == "bad" {
		tests = append(tests, PolicyTest{File: "policy/tests/a.yaml", Name: "wrong", Missing: []string{"deny two groups/x"}})
	}
	return tests, nil
}
func (e *engine) Format(_ context.Context, path string, _ bool) ([]string, error) {
	return []string{path + "/a.cue"}, nil
}
func (e *engine) Plan(context.Context, string, string) (schema.Plan, error) { return e.plan, nil }
func (e *engine) WhatIf(_ context.Context, rev, config string, start time.Duration) (schema.Forecast, error) {
	if rev != "3f0c9a1" || config != DefaultConfig || start != 45*time.Second {
		return schema.Forecast{}, fmt.Errorf("asked for %s, %s, %s", rev, config, start)
	}
	job := schema.Key{Kind: "nomad.job", Instance: "dc1", Name: "web"}
	return schema.Forecast{Commit: rev, Members: 3, Batches: 2, Took: 95 * time.Second, Assumes: []string{"every gate passes"},
		Awaits: []schema.Await{{Rule: "deletions", Why: "6 of 20", Items: []string{"x"}}},
		Partitions: []schema.PartitionForecast{{ID: "shop.web", Wave: 1, Ends: 95 * time.Second, Steps: []schema.ForecastStep{
			{Key: job, Verb: schema.VerbStage, Batch: 1, Members: []string{"0 on n4"}, Serving: 12, Of: 12}}},
			{ID: "shop.api", Stuck: &schema.Reason{Message: "no capacity"}}}}, nil
}
func (e *engine) PrintPlan(w io.Writer, p schema.Plan, _ bool) error {
	for _, part := range p.Partitions {
		if _, err := io.WriteString(w, part.ID+"\n"); err != nil {
			return err
		}
	}
	return nil
}
func (e *engine) Render(context.Context, string, string) (Rendered, error) { return e.rendered, nil }
func (e *engine) Vet(context.Context, string, string) ([]schema.Finding, error) {
	return e.rendered.Findings, nil
}
func (e *engine) Doctor(_ context.Context, path string) ([]schema.Diagnosis, error) {
	return []schema.Diagnosis{{Name: "configuration", OK: true, Says: path}}, nil
}
func (e *engine) CheckJournal(path string) (string, error)        { return "whole: " + path, nil }
func (e *engine) Tested() map[string]string                       { return map[string]string{"nomad": "1.11.3"} }
func (e *engine) Brake(_ context.Context, _, reason string) error { e.braked = reason; return nil }

type fleet struct {
	mu      sync.Mutex
	asked   []schema.Command
	foreign []schema.ObjectReport
}

func (f *fleet) Report() *schema.Report {
	no := false
	now := time.Now()
	return &schema.Report{Owner: "acme", Health: "PROGRESSING", Leading: true, Epoch: 3, Turn: now, Head: "0123456789abcdef",
		Pins:  []schema.Pin{{App: "shop.web", What: "release", Value: "1.2.0"}},
		Holds: []schema.HoldReport{{Scope: "member:cccccccc-1111-2222-3333-444444444444", Bit: schema.Bit{Owner: "ann", Reason: "disk", First: "bbbbbbbb-1111-2222-3333-444444444444"}}},
		Partitions: []schema.PartitionReport{{ID: "shop.web", Phase: "braked", Commit: "c2", Started: now, ETA: now.Add(time.Minute), IfAbort: "takes it back",
			Gates: []schema.Judgment{{Name: "errors", Group: "shop.web/prod.dc1", Result: schema.GateTooLittle, Sample: 42, Why: "0.00 % errors of 42 requests; 100 are needed", Threshold: "at most 1% errors", At: now}},
			Items: []schema.ItemReport{{Key: schema.Key{Kind: "nomad.job", Instance: "dc1", Name: "shop--web"}, Group: "shop.web/prod.dc1", State: "staged", Batch: 2, Batches: 3,
				Members: 3, Done: 2, Next: []string{"aaaaaaaa-1111-2222-3333-444444444444"}}}}},
		Groups: []schema.GroupReport{{Name: "shop.web/prod.dc1", App: "shop.web", Team: "shop", Contact: "#shop", Desired: 2, Serving: 1, Cap: 1, Release: "1.2.0",
			Members: []schema.MemberReport{{Member: schema.Member{ID: "aaaaaaaa-1111-2222-3333-444444444444", Group: "shop.web/prod.dc1", Node: "n1", Running: true, Passing: &no, Since: now, Created: now}}},
			Goods:   []schema.GoodReport{{Version: "1.2.0", Commit: "c2", At: now}, {Version: "1.1.0", Commit: "c1", At: now, Back: 1}}}},
		Objects: append(f.foreign, schema.ObjectReport{Key: schema.Key{Kind: "nomad.job", Instance: "dc1", Name: "shop--web"}, Group: "shop.web/prod.dc1", Apps: []string{"shop.web"}, State: schema.StateDiffers,
			Diff: []schema.Change{{Field: "count", Was: "2", Is: "5"}}, Writer: "eve", Why: []schema.Reason{{Code: schema.WaitRepair, Message: "repaired in 14 min", Next: "locktide repair shop.web"}}})}
}
func (f *fleet) Recent() *schema.Report { return f.Report() }
func (f *fleet) Relations() *relations.Index {
	return relations.Of(&schema.Fleet{
		Apps:      map[string]schema.App{"shop.web": {Owner: "shop", Groups: []string{"shop.web/prod.dc1"}}, "shop.api": {Uses: map[string]schema.Use{"shop.web": {}}}},
		Groups:    persistent.Of(map[string]schema.Group{"shop.web/prod.dc1": {App: "shop.web", Stage: "prod", Datacenter: "dc1"}}),
		Routes:    map[string]schema.Route{"web": {Domains: []string{"shop.example"}, To: []schema.Target{{App: "shop.web"}}, Via: schema.StringList{"edge"}}},
		Consul:    map[string]schema.Consul{"vendor": {Keys: map[string]schema.ConsulKey{"vendor/a": {}}}},
		Teams:     map[string]schema.Team{"metal": {Paths: []string{"metal"}}},
		Positions: map[schema.Ref]schema.Position{"apps/shop.web": {File: "shop.cue", Line: 3}, "consul/vendor": {File: "metal/consul.yaml", Line: 2}},
	}).With(f.Report().Groups)
}
func (f *fleet) Plan() schema.Plan { return schema.Plan{} }
func (f *fleet) Explain(ref string) []schema.Reason {
	if ref == "web" {
		return []schema.Reason{{Code: schema.WaitNotDefined, Message: "there is no web"}}
	}
	return []schema.Reason{{Code: schema.WaitSoak, Message: "about " + ref}}
}
func (f *fleet) History(time.Time) []schema.HistoryEntry {
	return []schema.HistoryEntry{{Writer: "foreign eve", What: "count 2 -> 5", Group: "shop.web/prod.dc1"}}
}
func (f *fleet) Changes(_ context.Context, since time.Time) ([]schema.HistoryEntry, []string) {
	return append(f.History(since), schema.HistoryEntry{Writer: "autoscaler", What: "scaled from 2 to 5", Group: "shop.web/prod.dc1", Starts: 3}), []string{"nomad:dc2: away"}
}
func (f *fleet) Trace(_ context.Context, url string, headers map[string]string) (schema.Trace, error) {
	return schema.Trace{URL: url, Route: "routes/shop", Match: headers, At: schema.Position{File: "shop.cue", Line: 7}, Proxies: []schema.TraceProxy{{ProxyReport: schema.ProxyReport{Name: "nginx:edge", At: time.Now()}, State: schema.StateSame}},
		Targets: []schema.TraceTarget{{Group: "shop.web/prod.dc1", Weight: 90, Now: f.Report().Groups[0]}}}, nil
}
func (f *fleet) Diagnose(context.Context) []schema.Diagnosis {
	return []schema.Diagnosis{{Name: "journal", OK: true, Says: "an append is durable after 2ms"}, {Name: "backup", Says: "never exported", Next: "locktide journal export"}}
}
func (f *fleet) Backup(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "{\"format\":1}\n")
	return err
}
func (f *fleet) Do(_ context.Context, c schema.Command) schema.Answer {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, c)
	if strings.HasSuffix(c.Target, "nobody") {
		return schema.Answer{Message: "there is no nobody", Next: "locktide get"}
	}
	return schema.Answer{OK: true, Message: "done: " + c.Verb, Details: []string{"one group"}, Standing: []string{"braked: all"}}
}

// run gives the exit code and what was printed.
func run(t *testing.T, e Engine, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, r bytes.Buffer
	code = Main(t.Context(), args, Streams{In: strings.NewReader(""), Out: &o, Err: &r}, "test", e)
	return code, o.String(), r.String()
}

func daemon(t *testing.T) (*fleet, []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("t"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &fleet{}
	srv := httptest.NewServer(httpapi.Handler(httpapi.Options{Fleet: f, TokenFile: file}))
	t.Cleanup(srv.Close)
	return f, []string{"--api", srv.URL, "--token-file", file}
}

// docs/cli.md is what the commands say of themselves.
func TestReference(t *testing.T) {
	code, out, errs := run(t, &engine{}, "docs")
	if code != 0 {
		t.Fatal(errs)
	}
	const file = "../../../docs/cli.md"
	if *update {
		if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != out {
		t.Error("docs/cli.md is stale; run: go test ./cmd/internal/cli -update")
	}
}

func TestPlanExitCodes(t *testing.T) {
	changes := schema.Plan{Partitions: []schema.Partition{{ID: "shop.web"}}}
	denied := schema.Plan{Notes: []schema.Finding{{Severity: schema.Deny, Code: "syntax"}}}
	awaits := schema.Plan{Awaits: []schema.Await{{Rule: "deletions"}}}
	for _, c := range []struct {
		name string
		plan schema.Plan
		want int
	}{{"nothing", schema.Plan{}, 0}, {"changes", changes, 2}, {"awaits", awaits, 2}, {"denied", denied, 1}} {
		if code, _, errs := run(t, &engine{plan: c.plan}, "plan", "folder"); code != c.want {
			t.Errorf("%s: exit code %d, want %d (%s)", c.name, code, c.want, errs)
		}
	}
	code, out, _ := run(t, &engine{plan: changes}, "plan", "folder", "-o", "json")
	if code != 2 || !strings.Contains(out, `"id": "shop.web"`) {
		t.Errorf("-o json: exit code %d, %s", code, out)
	}
}

func TestValidate(t *testing.T) {
	bad := Rendered{Fleet: &schema.Fleet{}, Findings: []schema.Finding{{Code: "syntax", Severity: schema.Deny, Message: "no comma",
		At: schema.Position{File: "a.cue", Line: 3}, Next: "write one"}}}
	code, out, errs := run(t, &engine{rendered: bad}, "validate", "x")
	if code != 1 || !strings.Contains(out, "a.cue:3: no comma [deny syntax]") || !strings.Contains(out, "next: write one") || errs == "" {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	bad.Findings[0].Severity = schema.Warn
	if code, _, errs := run(t, &engine{rendered: bad}, "validate", "x"); code != 0 {
		t.Errorf("a warning gave exit code %d: %s", code, errs)
	}
	if _, out, _ := run(t, &engine{rendered: Rendered{Fleet: &schema.Fleet{}}}, "validate", "x", "-o", "json"); out != "[]\n" {
		t.Errorf("no findings are printed as %q", out)
	}
}

func TestCodeownersGiveAPathToItsTeam(t *testing.T) {
	r := Rendered{Fleet: &schema.Fleet{Teams: map[string]schema.Team{
		"a": {Paths: []string{"/teams/shop/cart/", "shared", "two words"}}, "b": {Paths: []string{"teams/shop", "shared"}}}}}
	code, out, errs := run(t, &engine{rendered: r}, "codeowners", "--prefix", "@acme/", "--platform", "@acme/platform")
	want := "# Written by `locktide codeowners`.\n* @acme/platform\n/shared @acme/a\n/teams/shop @acme/b\n/teams/shop/cart @acme/a\n/two\\ words @acme/a\n"
	if code != 0 || out != want {
		t.Errorf("exit code %d, %s\n%swant\n%s", code, errs, out, want)
	}
	if code, _, errs := run(t, &engine{rendered: Rendered{Fleet: &schema.Fleet{}}}, "codeowners"); code != 1 || !strings.Contains(errs, "define teams") {
		t.Errorf("without teams: exit code %d, %s", code, errs)
	}
	r.Findings = []schema.Finding{{Code: "syntax", Severity: schema.Deny}}
	if code, out, errs := run(t, &engine{rendered: r}, "codeowners"); code != 1 || out != "" || !strings.Contains(errs, "not valid") {
		t.Errorf("with a broken file: exit code %d, %s%s", code, out, errs)
	}
}

func TestVetExitCodes(t *testing.T) {
	found := func(severity schema.Severity, excepted string) []schema.Finding {
		return []schema.Finding{{Code: "unused", Severity: severity, Excepted: excepted, Message: "no group", At: schema.Position{File: "a.cue", Line: 3}}}
	}
	for name, c := range map[string]struct {
		found []schema.Finding
		code  int
		says  string
	}{"nothing": {nil, 0, "nothing to say"}, "advice": {found(schema.Warn, ""), 2, "a.cue:3: no group [warn unused]"},
		"denied": {found(schema.Deny, ""), 1, "a.cue:3"}, "excepted": {found(schema.Deny, "x"), 0, "excepted by x"}} {
		code, out, errs := run(t, &engine{rendered: Rendered{Findings: c.found}}, "vet", "x")
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit code %d, %s%s", name, code, out, errs)
		}
		var list []schema.Finding
		code, out, _ = run(t, &engine{rendered: Rendered{Findings: c.found}}, "vet", "x", "-o", "json")
		if err := json.Unmarshal([]byte(out), &list); err != nil || list == nil || code != c.code || len(list) != len(c.found) {
			t.Errorf("%s, -o json: exit code %d, %s (%v)", name, code, out, err)
		}
	}
}

func TestVerbsReachTheDaemon(t *testing.T) {
	f, flags := daemon(t)
	for _, c := range []struct {
		args string
		want schema.Command
	}{
		{"approve abcd", schema.Command{Verb: "approve", Target: "abcd"}},
		{"brake --all --reason fire", schema.Command{Verb: "brake", Target: "all", Reason: "fire"}},
		{"brake --dc dc1 --reason fire", schema.Command{Verb: "brake", Target: "dc:dc1", Reason: "fire"}},
		{"brake --team payments --reason fire", schema.Command{Verb: "brake", Target: "team:payments", Reason: "fire"}},
		{"resume --all --preview", schema.Command{Verb: "resume", Target: "all", Preview: true}},
		{"resume shop.web", schema.Command{Verb: "resume", Target: "app:shop.web"}},
		{"unhold groups/shop.web/prod.dc1", schema.Command{Verb: "unhold", Target: "group:shop.web/prod.dc1"}},
		{"unhold bbbb", schema.Command{Verb: "unhold", Target: "member:cccccccc-1111-2222-3333-444444444444"}},
		{"hold aaaa --reason disk", schema.Command{Verb: "hold", Target: "member:aaaaaaaa-1111-2222-3333-444444444444", Reason: "disk"}},
		{"hold n1 --reason disk --for 1h", schema.Command{Verb: "hold", Target: "host:n1", Reason: "disk", For: time.Hour}},
		{"rollback shop.web --to 2 --fast", schema.Command{Verb: "rollback", Target: "shop.web", Number: 2, Value: "fast"}},
		{"pin shop.web 1.2 --for 4h", schema.Command{Verb: "pin", Target: "shop.web", Value: "1.2", For: 4 * time.Hour}},
		{"scale shop.web/prod.dc1 7", schema.Command{Verb: "scale", Target: "shop.web/prod.dc1", Number: 7}},
		{"drain n1 --force --deadline 10m", schema.Command{Verb: "drain", Target: "n1", Force: true, For: 10 * time.Minute}},
		{"sync", schema.Command{Verb: "sync"}},
	} {
		f.asked = nil
		code, out, errs := run(t, &engine{}, append(strings.Fields(c.args), flags...)...)
		if code != 0 || !strings.Contains(out, "done: "+c.want.Verb) || len(f.asked) != 1 {
			t.Errorf("%s: exit code %d, %s%s", c.args, code, out, errs)
			continue
		}
		got := f.asked[0]
		if got.By == "" || got.From == "" {
			t.Errorf("%s: the audit lacks who or from where: %+v", c.args, got)
		}
		got.By, got.From = "", ""
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: the daemon got %+v", c.args, got)
		}
	}
}

func TestErrorsSayWhatNext(t *testing.T) {
	_, flags := daemon(t)
	for _, c := range []struct{ args, want string }{
		{"hold n1", "--reason"},
		{"brake --reason x", "--all"},
		{"brake a --all --reason x", "--all"},
		{"brake a --dc x --reason x", "one scope"},
		{"brake a --direct --reason x", "--all --direct"},
		{"brake --all --reason x --api 127.0.0.1:1", "--direct"},
		{"scale g many", "not a number"},
		{"retry nobody", "next: locktide get"},
		{"get none", "locktide get"},
		{"hold nothing --reason x", "locktide get GROUP"},
		{"adopt shop.web", "locktide diff"},
		{"explain web", "there is no web"},
		{"get apps/web", "did you mean shop.web?"},
		{"rollout shop.api", "has no rollout"},
		{"changes --since yesterday", "02:40"},
		{"status -o xml", "yaml"},
		{"status --api http://127.0.0.1:1", "locktide serve"},
		{"status --token-file /nonexistent/token", "cannot read the API token"},
		{"render fleet --objects", "--config"},
		{"out --dc dc9", "no group runs in a datacenter dc9"},
		{"diff shop.wbe", "there is no object of shop.wbe: did you mean shop.web?"},
		{"get apps/shop.wbe", "did you mean shop.web?"},
		{"history --team shpo", "there is no teams/shpo"},
		{"changes --dc dc9", "there is no datacenters/dc9"},
		{"policy tset", "`locktide policy --help`"},
		{"import", "write locktide import FOLDER"},
		{"get --frist", "locktide get [GROUP"},
	} {
		code, out, errs := run(t, &engine{}, append(flags, strings.Fields(c.args)...)...)
		if code != 1 || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit code %d, %q does not say %q (printed %q)", c.args, code, errs, c.want, out)
		}
	}
}

func TestBrakeDirectNeedsNoDaemon(t *testing.T) {
	e := &engine{}
	code, _, errs := run(t, e, "brake", "--all", "--direct", "--reason", "fire", "--api", "http://127.0.0.1:1")
	if code != 0 || e.braked != "fire" {
		t.Errorf("exit code %d, braked %q: %s", code, e.braked, errs)
	}
	code, _, errs = run(t, e, "resume", "--all", "--direct", "--reason", "it is out", "--api", "http://127.0.0.1:1")
	if code != 0 || e.braked != "" {
		t.Errorf("exit code %d, braked %q: %s", code, e.braked, errs)
	}
}

func TestCompletionOffersTheFleetsNames(t *testing.T) {
	f, flags := daemon(t)
	f.foreign = []schema.ObjectReport{{Key: schema.Key{Kind: "consul.key", Instance: "main", Name: "vendor/a"}, From: []schema.Ref{"consul/vendor"}, State: schema.StateForeign}}
	for args, want := range map[string]string{"get ": "apps", "get shop.web/": "shop.web/prod.dc1", "get cons": "consul", "get consul/": "consul/vendor", "get shop.web ow": "owner", "explain consul": "consul/vendor", "history cons": "consul/vendor", "adopt con": "consul/vendor", "hold n": "n1", "rollout ": "shop.web", "unpin sh": "shop.web", "unpin x": "", "sync ": ""} {
		code, out, _ := run(t, &engine{}, append(append([]string{"__complete"}, flags...), strings.Split(args, " ")...)...)
		first, _, _ := strings.Cut(out, "\n")
		if strings.HasPrefix(first, ":") {
			first = ""
		}
		if code != 0 || first != want {
			t.Errorf("%q offers %q, want %q", args, out, want)
		}
	}
	if _, out, _ := run(t, &engine{}, "__complete", "--api", "127.0.0.1:1", "get", ""); !strings.HasPrefix(out, ":") {
		t.Errorf("without a daemon: %q", out)
	}
}

// Every command has an example, and every flag says what it is.
func TestEveryCommandHasHelp(t *testing.T) {
	root := New(Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}, "test", &engine{})
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		if c.Hidden || c.HasSubCommands() || strings.Contains(c.CommandPath(), "completion") || c.Name() == "help" {
			return
		}
		if c.Short == "" || !strings.Contains(c.Example, "locktide ") {
			t.Errorf("%s has no example", c.CommandPath())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s says nothing", c.CommandPath(), f.Name)
			}
		})
	}
	visit(root)
}

// Doctor fails when a check does, and says that the daemon is dead.
func TestDoctor(t *testing.T) {
	_, flags := daemon(t)
	code, out, _ := run(t, &engine{}, append([]string{"doctor"}, flags...)...)
	if code != 1 || !strings.Contains(out, "FAIL  backup: never exported") || !strings.Contains(out, "next: locktide journal export") || !strings.Contains(out, "ok    journal: an append") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	code, out, _ = run(t, &engine{}, "doctor", "--api", "127.0.0.1:1")
	if code != 1 || !strings.Contains(out, "FAIL  daemon: cannot reach") || !strings.Contains(out, "locktide eject") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// What stands between Git and what runs is on every page, once.
func TestEveryVerbShowsWhatStands(t *testing.T) {
	_, flags := daemon(t)
	for _, args := range []string{"get", "diff", "out", "changes", "explain apps/shop.web", "plan", "sync", "unpin shop.web"} {
		_, out, errs := run(t, &engine{}, append(strings.Fields(args), flags...)...)
		if strings.Count(errs, "!! ") != 1 || strings.Contains(out, "!!") {
			t.Errorf("%s printed %q and %q", args, out, errs)
		}
	}
}

func TestConfirmAsksAfterThePreview(t *testing.T) {
	f, flags := daemon(t)
	for answer, want := range map[string]bool{"y\n": true, "Yes\n": true, "n\n": false, "\n": false, "": false} {
		var out bytes.Buffer
		root := New(Streams{In: strings.NewReader(answer), Out: &out, Err: io.Discard}, "test", &engine{})
		s := &shared{Streams: Streams{In: strings.NewReader(answer), Out: &out, Err: io.Discard}, api: flags[1], token: flags[3]}
		f.asked = nil
		root.SetContext(t.Context())
		err := s.confirm(root, schema.Command{Verb: "resume", Target: "all"})
		if (err == nil) != want || len(f.asked) != 1 || !f.asked[0].Preview || !strings.Contains(out.String(), "one group") {
			t.Errorf("%q: %v, asked %+v, printed %q", answer, err, f.asked, out.String())
		}
	}
}

func TestLooking(t *testing.T) {
	_, flags := daemon(t)
	for _, c := range []struct {
		args string
		want []string
	}{
		{"status", []string{"PROGRESSING  fleet acme, leading, epoch 3", "head 0123456789", "shop.web/prod.dc1  shop  1.2.0", "objects   1, 1 not as desired"}},
		{"get shop.web", []string{"apps/shop.web  owner teams/shop  (shop.cue:3)", "locktide get apps/shop.web domains"}},
		{"get domains/shop.example apps", []string{"apps/shop.web"}},
		{"get domains/shop.example apps -o yaml", []string{"found:\n  - apps/shop.web\n"}},
		{"get hosts", []string{"hosts/n1"}},
		{"get consul", []string{"consul/vendor"}},
		{"get consul/vendor", []string{"consul/vendor  owner teams/metal  (metal/consul.yaml:2)", "locktide get consul/vendor keys"}},
		{"get keys/vendor/a owner", []string{"teams/metal"}},
		{"get shop.web/prod.dc1", []string{"release 1.2.0, team shop, contact #shop", "2 desired, 1 serving, cap 1, 0 free", "aaaaaaaa", "its checks do not pass", "hor-", "locktide rollback shop.web --to 1"}},
		{"diff", []string{"nomad.job:dc1:shop--web  differs", "by eve", "count: 2 -> 5", "repaired in 14 min", "next: locktide repair shop.web"}},
		{"get domains/shop.example hosts", []string{"hosts/n1"}},
		{"get apps/shop.web consul", []string{"apps/shop.web has no consul"}},
		{"rollout shop.web", []string{"shop.web  braked, commit c2", "about 1m0s left", "2 of 3", "next batch of shop.web/prod.dc1: aaaaaaaa on n1", "locktide abort shop.web: takes it back",
			"errors  shop.web/prod.dc1  too little  42", "0.00 % errors of 42 requests; 100 are needed  at most 1% errors"}},
		{"trace https://shop.example/cart -H X-Canary:1", []string{"routes/shop (shop.cue:7)", "X-Canary: 1", "nginx:edge: the route there is same", "shop.web/prod.dc1, weight 90: 2 desired, 1 serving"}},
		{"diff shop.web/prod.dc1 --foreign", []string{"everything is as desired"}},
		{"out", []string{"aaaaaaaa", "its checks do not pass"}},
		{"explain groups/shop.web/prod.dc1", []string{"Soak: about groups/shop.web/prod.dc1"}},
		{"changes --since 2h", []string{"foreign eve", "count 2 -> 5", "autoscaler", "scaled from 2 to 5", "nomad:dc2: away"}},
		{"report --since 2h", []string{"# Fleet acme", "PROGRESSING", "| autoscaler | scaled from 2 to 5 |", "shop.web/prod.dc1", "nomad:dc2: away"}},
		{"status -o json", []string{`"owner": "acme"`}},
		{"journal export", []string{`{"format":1}`}},
		{"journal check x.db", []string{"whole: x.db"}},
		{"doctor --config c.yaml", []string{"ok    configuration: c.yaml"}},
		{"version", []string{"Nomad 1.11.3"}},
	} {
		code, out, errs := run(t, &engine{}, append(strings.Fields(c.args), flags...)...)
		for _, w := range c.want {
			if code != 0 || !strings.Contains(out, w) {
				t.Errorf("%s: exit code %d, lacks %q\n%s%s", c.args, code, w, out, errs)
			}
		}
		if strings.Contains(out, "\x1b[") {
			t.Errorf("%s: colour without a terminal", c.args)
		}
	}
}

func TestWhatIf(t *testing.T) {
	code, out, errs := run(t, &engine{}, "what-if", "3f0c9a1", "--start", "45s")
	for _, want := range []string{"3f0c9a1: 2 partitions, 3 members in 2 batches, at least 1m35s", "wave 1, +0s", "  shop.web, ends +1m35s",
		"+0s      stage nomad.job:dc1:web, batch 1: takes 0 on n4 (12 of 12 serve)", "shop.api, would not end: no capacity",
		"awaits approval first deletions: 6 of 20 (1 change)", "assumes: every gate passes"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if code != ExitOK {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

func TestPolicyTestTellsWhatFailed(t *testing.T) {
	for folder, want := range map[string]int{"good": ExitOK, "bad": ExitError} {
		code, out, errs := run(t, &engine{}, "policy", "test", folder)
		if failed := strings.Contains(out, "missing: deny two groups/x") && strings.Contains(errs, "1 of 2 tests of rules failed"); code != want || failed != (want != ExitOK) {
			t.Errorf("%s: code %d\n%s%s", folder, code, out, errs)
		}
		if code, out, _ := run(t, &engine{}, "policy", "test", folder, "-o", "json"); code != want || !strings.Contains(out, `"name": "good"`) {
			t.Errorf("%s as JSON: code %d\n%s", folder, code, out)
		}
	}
}
