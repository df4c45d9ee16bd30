package schema

import (
	"bytes"
	"encoding/json"
	"testing"
)

// sortedAgain is what Canonical means: encoding/json sorts the keys of maps.
func sortedAgain(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := encode(v)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var plain any
	if err := dec.Decode(&plain); err != nil {
		t.Fatal(err)
	}
	again, err := encode(plain)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// FuzzCanonical compares the canonical text of any JSON with that of the maps
// that it means, alone and inside a struct whose fields are not in order.
func FuzzCanonical(f *testing.F) {
	for _, text := range []string{`{}`, `[]`, `null`, `-1.50e+3`, `"a\u003cb\/\u2028\ud800"`, `{"b":[1,{"z":{},"a":[]}],"a":true,"b":2,"\u0061":3}`,
		`[[],[{}],"",{"":""}]`, `{"k":"<&>\u007f\u00e9\t\"\\"}`, "{\"\u00e9\":1,\"e\":2,\"\xff\":3,\"\\ufffd\":4}",
		`{"q":1,"p":2,"o":3,"n":4,"m":5,"l":6,"k":7,"j":8,"i":9,"h":10,"g":11,"f":12,"e":13,"d":14,"c":15,"b":16,"a":17}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) {
			return
		}
		raw := json.RawMessage(text)
		for _, v := range []any{raw, struct {
			Z json.RawMessage `json:"z"`
			S string          `json:"s"`
			A []any           `json:"a"`
		}{raw, text, []any{raw, text, nil, 1.5, map[string]any{"y": raw, "x": text}}}} {
			got, err := Canonical(v)
			if want := sortedAgain(t, v); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%q: %v\n%s\nwant\n%s", text, err, got, want)
			}
		}
	})
}
