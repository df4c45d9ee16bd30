package journal_test

import (
	"bytes"
	"testing"

	"locktide.dev/reconciler/journal"
)

// An export that is not whole imports nothing; what is imported can be exported
// and imported again.
func FuzzImport(f *testing.F) {
	f.Add([]byte("{\"format\":1}\n{\"table\":\"t\",\"key\":\"k\",\"value\":{\"a\":1}}\n{\"end\":true}\n"))
	f.Add([]byte("{\"format\":1}\n{\"table\":\"t\",\"key\":\"k\"}\n{\"end\":true}\n"))
	f.Add([]byte("{\"format\":9}\n"))
	f.Add([]byte("{\"format\":1}\n{\"table\":\"t\",\"key\":\"k\",\"value\":null}\n{\"end\":true}\n"))
	f.Fuzz(func(t *testing.T, export []byte) {
		m := loaded(t, journal.NewShared(newKV(), "f"))
		err := journal.Import(t.Context(), m, bytes.NewReader(export))
		have, loadErr := m.Load(t.Context())
		if loadErr != nil || err != nil && len(have) > 0 {
			t.Fatalf("import %v left %v, load %v", err, have, loadErr)
		}
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := m.Export(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		if err := journal.Import(t.Context(), loaded(t, journal.NewShared(newKV(), "f")), &out); err != nil {
			t.Errorf("what was imported cannot be imported again: %v", err)
		}
	})
}

// A journal that others can write to is read, or refused with a reason.
func FuzzShared(f *testing.F) {
	f.Add([]byte(`{"format": 1, "epoch": 3, "blobs": [{"name": "log/1-1", "parts": 1}]}`), []byte("\x1f\x8b"))
	f.Add([]byte(`{"format": 1, "blobs": [{"name": "log/1-1", "parts": 9223372036854775807}]}`), []byte("{}"))
	f.Add([]byte(`{"format": 1, "blobs": [{"name": "log/1-1", "parts": -1}]}`), []byte(""))
	f.Fuzz(func(t *testing.T, commit, part []byte) {
		k := newKV()
		k.values["f/commit"], k.values["f/log/1-1/0"] = commit, part
		k.index["f/commit"], k.index["f/log/1-1/0"] = 1, 1
		if _, err := journal.NewShared(k, "f").Load(t.Context()); err != nil && err.Error() == "" {
			t.Error("refused without a reason")
		}
	})
}
