package importer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"locktide.dev/schema"
)

var other = regexp.MustCompile(`[^a-z0-9]+`)

// slug gives text in small letters, digits and single dashes.
func slug(text string) string {
	return strings.Trim(other.ReplaceAllString(strings.ToLower(text), "-"), "-")
}

// document gives a file of definitions.
func document(about string, v any) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Written by `locktide import`: %s. From now on it is yours.\n", about)
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(values(v)); err != nil {
		panic("importer: plain values do not encode: " + err.Error())
	}
	return out.Bytes()
}

// values gives v as maps, lists, texts and whole numbers.
func values(v any) any {
	switch v := v.(type) {
	case json.RawMessage:
		dec := json.NewDecoder(bytes.NewReader(v))
		dec.UseNumber()
		var out any
		if err := dec.Decode(&out); err != nil {
			panic("importer: a definition is no JSON: " + err.Error())
		}
		return values(out)
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case map[string]any:
		for k, x := range v {
			v[k] = values(x)
		}
	case []any:
		for i, x := range v {
			v[i] = values(x)
		}
	}
	return v
}

// Baseline gives exceptions from policy for what was imported as it is: one
// for each rule, until a date. The name of their file tells the day; taken
// says whether a path is in use.
func Baseline(found []schema.Finding, today, expires string, taken func(path string) bool) (file string, content []byte) {
	byRule := map[string][]string{}
	for _, f := range found {
		if ref := string(f.Ref); !slices.Contains(byRule[f.Code], ref) {
			byRule[f.Code] = append(byRule[f.Code], ref)
		}
	}
	if len(byRule) == 0 {
		return "", nil
	}
	name := "import-" + today
	for n := 2; taken("exceptions/" + name + ".yaml"); n++ {
		name = fmt.Sprintf("import-%s-%d", today, n)
	}
	all := map[string]any{}
	for rule, refs := range byRule {
		slices.Sort(refs)
		all[name+"-"+rule] = map[string]any{"rule": rule, "refs": refs, "reason": "it was so when it was imported on " + today, "expires": expires}
	}
	return "exceptions/" + name + ".yaml", document("the baseline of what ran on "+today+", to be worked off", map[string]any{"exceptions": all})
}
