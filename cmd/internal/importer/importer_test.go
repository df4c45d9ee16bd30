package importer

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"locktide.dev/drivers"
	"locktide.dev/render/plain"
	"locktide.dev/schema"
)

func TestAppName(t *testing.T) {
	for job, want := range map[string]string{
		"cart-api": "cart-api", "Shop.Cart_API": "shop.cart-api", "7-zip": "n7-zip", "a..b": "a.b", "a.b.c.d.e": "a.b.c.d-e",
		"shop/cart": "shop-cart", "--x--": "x", "x.9.y": "x.n9.y", "日本": "", "": "",
	} {
		if got := appName(job); got != want {
			t.Errorf("%q becomes %q, want %q", job, got, want)
		}
	}
}

func exported(instance, namespace, id string) drivers.Exported {
	return drivers.Exported{Key: schema.Key{Kind: "nomad.job", Instance: instance, Name: id + "@" + namespace}, Name: id,
		Group: &schema.Group{Datacenter: instance, Body: schema.Body{Kind: "service", Job: id, Namespace: namespace, Raw: json.RawMessage(`{"TaskGroups":[]}`)}}}
}

func everything(string) bool { return true }

func TestNamesThatClash(t *testing.T) {
	r := Define([]drivers.Exported{
		exported("dc1", "", "web"), exported("dc2", "", "web"), // one app in two datacenters
		exported("dc1", "shop", "api"), exported("dc1", "pay", "api"), exported("dc1", "", "api"),
		exported("dc1", "", "Old_Name"), exported("dc1", "", "old-name"), // no namespace tells them apart
		exported("dc1", "", "taken"), exported("dc1", "", "日本"),
		{Key: schema.Key{Name: "gone"}, Name: "gone", Why: "it has ended"},
	}, Options{Stage: "prod", Date: "2026-01-02", Selected: everything, Taken: map[schema.Ref]bool{"apps/taken": true}})
	var groups []string
	for _, item := range r.Defined {
		groups = append(groups, string(item.Ref)+" "+item.File)
	}
	want := []string{
		"groups/web/prod.dc1 jobs/default/web.yaml", "groups/web/prod.dc2 jobs/default/web.yaml",
		"groups/shop.api/prod.dc1 jobs/shop/shop.api.yaml", "groups/pay.api/prod.dc1 jobs/pay/pay.api.yaml", "groups/api/prod.dc1 jobs/default/api.yaml",
		"groups/old-name/prod.dc1 jobs/default/old-name.yaml",
	}
	if !slices.Equal(groups, want) {
		t.Errorf("defined %q\nwant    %q", groups, want)
	}
	var refused []string
	for _, item := range r.Refused {
		refused = append(refused, item.Why)
	}
	for i, part := range []string{"has a group in dc1 already", "app taken is defined already", "no app can be named after it", "it has ended"} {
		if i >= len(refused) || !strings.Contains(refused[i], part) {
			t.Errorf("refused %q, want %q at %d", refused, part, i)
		}
	}
	if text := string(r.Files["stages.yaml"]); !strings.Contains(text, "dc1") || !strings.Contains(text, "dc2") {
		t.Errorf("stages.yaml: %s", text)
	}
	r = r.Without(map[schema.Ref]string{"groups/web/prod.dc1": "it differs"})
	if r.Files["jobs/default/web.yaml"] != nil || len(r.Defined) != 4 || len(r.Refused) != 6 {
		t.Errorf("half of an app is left: %v %+v", r.Files["jobs/default/web.yaml"], r.Defined)
	}
}

// TestDocument: whatever a job says comes back as it was.
func TestDocument(t *testing.T) {
	said := map[string]any{}
	for _, text := range []string{"", "yes", "0012", "1e3", "~", "null", "# no comment", "---", "a: b", " leading", "trailing ", "\ttab", "one\ntwo\n", "\n\nlate\n  in\n",
		"end \n\n\n", "windows\r\nline", "{{ key `x` }}", "grün ✓ \u2028 \ufeff", "\x00\x7f", "2026-01-02", "0x10", "1_000", "<<", "!!int 3", "*a", "&a", "'", `"`, "\\n", "- x", "? y", "%d", "@", "`"} {
		said[text] = text
	}
	for _, n := range []string{"0", "-1", "9007199254740993", "0.6", "1000000000000"} {
		said["number "+n] = json.Number(n)
	}
	said["list"] = []any{true, nil, map[string]any{"x": "1\n2"}, []any{}}
	raw := schema.MustCanonical(said)
	got, err := plain.Parse("x.yaml", document("a test", map[string]any{"job": raw}))
	if err != nil {
		t.Fatal(err.Message)
	}
	out, fault := got[0].Get("job").MarshalJSON()
	if fault != nil {
		t.Fatal(fault)
	}
	var back any
	dec := json.NewDecoder(strings.NewReader(string(out)))
	dec.UseNumber()
	if err := dec.Decode(&back); err != nil {
		t.Fatal(err)
	}
	if again := schema.MustCanonical(back); string(again) != string(raw) {
		t.Errorf("wrote %s\nread  %s", raw, again)
	}
}

func TestBaseline(t *testing.T) {
	found := []schema.Finding{{Code: "raw-exec", Ref: "groups/b/prod.dc1"}, {Code: "raw-exec", Ref: "groups/a/prod.dc1"}, {Code: "raw-exec", Ref: "groups/a/prod.dc1"}}
	file, text := Baseline(found, "2026-01-02", "2026-04-02", func(p string) bool { return p == "exceptions/import-2026-01-02.yaml" })
	want := `# Written by ` + "`locktide import`" + `: the baseline of what ran on 2026-01-02, to be worked off. From now on it is yours.
exceptions:
  import-2026-01-02-2-raw-exec:
    expires: "2026-04-02"
    reason: it was so when it was imported on 2026-01-02
    refs:
      - groups/a/prod.dc1
      - groups/b/prod.dc1
    rule: raw-exec
`
	if file != "exceptions/import-2026-01-02-2.yaml" || string(text) != want {
		t.Errorf("%s:\n%s", file, text)
	}
	if file, _ := Baseline(nil, "2026-01-02", "2026-04-02", nil); file != "" {
		t.Errorf("no findings gave %s", file)
	}
}
