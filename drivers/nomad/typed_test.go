package nomad

import (
	"encoding/json"
	"strings"
	"testing"

	"locktide.dev/schema"
)

// TestTyped: what the fields of a group can say becomes one, the rest an
// overlay, and together they are the raw job's digest; else it stays raw.
func TestTyped(t *testing.T) {
	web := `{"Type":"service","Datacenters":["*"],"TaskGroups":[{"Name":"app","Count":2,"ShutdownDelay":3000000000,"Networks":[{"DynamicPorts":[{"Label":"http"}]}],
		"Services":[{"Name":"web","PortLabel":"http","Tags":["a"],"Checks":[{"Name":"ready","Type":"http","Path":"/","Interval":1000000000,"Timeout":1000000000}]}],
		"Tasks":[{"Name":"main","Driver":"docker","User":"nobody","Config":{"image":"reg:5000/x/web:1.2@sha256:ab","args":["-v"],"ports":["http"]},"Env":{"A":"1"},"Resources":{"CPU":10,"MemoryMB":20}}]}]}`
	c := Config{Name: "a", Owner: "o", Datacenters: []string{"dc1"}}
	group := func(raw string) schema.Group {
		return schema.Group{Datacenter: "dc1", Body: schema.Body{Kind: "service", Job: "web", Count: schema.Count{Number: 2}, Raw: json.RawMessage(raw)}}
	}
	out, why := c.typed(group(web))
	if why != "" {
		t.Fatalf("it stays raw: %s", why)
	}
	main := out.Tasks["main"]
	if out.Image != "reg:5000/x/web" || out.Release != "1.2@sha256:ab" || main.Image != "" || main.Resources.MemoryMiB != 20 || main.Env["A"] != "1" || len(main.Args) != 1 ||
		out.Stop.Delay.Std().Seconds() != 3 || out.Services["main"].Name != "web" || len(out.Raw) > 0 {
		t.Errorf("the fields are %s", schema.MustCanonical(out))
	}
	if o := string(out.Overlay); !strings.Contains(o, `"Name":"app"`) || !strings.Contains(o, `"Datacenters":["*"]`) || strings.Contains(o, "MemoryMB") {
		t.Errorf("the overlay is %s", o)
	}
	if is := digest(c, out); is == "" || is != digest(c, group(web)) {
		t.Errorf("as fields it is another job")
	}
	for why, raw := range map[string]string{
		"2 task groups":    strings.Replace(web, `"TaskGroups":[`, `"TaskGroups":[{"Name":"other","Tasks":[{"Name":"t","Driver":"exec"}]},`, 1),
		"no field":         strings.Replace(web, `"Env"`, `"Templates":[{"EmbeddedTmpl":"`+strings.Repeat("x", 2000)+`","DestPath":"local/x"}],"Env"`, 1),
		"does not compile": `{"TaskGroups":[]}`,
		"are no group":     strings.Replace(web, `"PortLabel":"http"`, `"PortLabel":"nowhere"`, 1),
	} {
		if _, got := c.typed(group(raw)); !strings.Contains(got, why) {
			t.Errorf("want %q, got %q", why, got)
		}
	}
}
