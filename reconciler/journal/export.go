package journal

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"go.etcd.io/bbolt"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// line is one record of an export: JSON lines, the first names the format and
// the last one the end: an export that was cut off lacks it.
type line struct {
	Format int             `json:"format,omitempty"`
	Table  string          `json:"table,omitempty"`
	Key    string          `json:"key,omitempty"`
	Value  json.RawMessage `json:"value,omitempty"`
	Body   schema.Digest   `json:"body,omitempty"`
	End    bool            `json:"end,omitempty"`
}

// Export writes the whole journal as JSON lines, sorted: equal journals give
// equal exports.
func (b *Bolt) Export(ctx context.Context, w io.Writer) error {
	tables, err := b.Load(ctx)
	if err != nil {
		return err
	}
	err = export(w, tables, func(each func(schema.Digest, []byte) error) error {
		return b.db.View(func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketBodies).ForEach(func(k, v []byte) error { return each(schema.Digest(k), v) })
		})
	})
	if err != nil {
		return fmt.Errorf("could not export journal %s: %w", b.path, err)
	}
	return nil
}

// export writes tables and then the bodies, sorted, that each is given.
func export(w io.Writer, tables reconciler.Tables, bodies func(each func(schema.Digest, []byte) error) error) error {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(line{Format: Format}); err != nil {
		return err
	}
	for _, t := range sortedKeys(tables) {
		for _, k := range sortedKeys(tables[t]) {
			if err := enc.Encode(line{Table: t, Key: k, Value: tables[t][k]}); err != nil {
				return err
			}
		}
	}
	if err := bodies(func(d schema.Digest, body []byte) error { return enc.Encode(line{Body: d, Value: body}) }); err != nil {
		return err
	}
	if err := enc.Encode(line{End: true}); err != nil {
		return err
	}
	return out.Flush()
}

// Size implements reconciler.Exporter.
func (b *Bolt) Size() int64 {
	info, err := os.Stat(b.path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// Import fills an empty journal from an export. Nothing is written unless the
// whole export reads well.
func Import(ctx context.Context, s reconciler.Store, r io.Reader) error {
	have, err := s.Load(ctx)
	if err != nil {
		return err
	}
	if len(have) > 0 {
		return errors.New("the journal is not empty: move it away before an import")
	}
	var entries []reconciler.Entry
	bodies := map[schema.Digest][]byte{}
	dec := json.NewDecoder(r)
	ended := false
	for n := 1; ; n++ {
		var l line
		if err := dec.Decode(&l); err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("line %d of the export: %w; nothing was imported", n, err)
		}
		if ended {
			return fmt.Errorf("line %d of the export comes after its end; nothing was imported", n)
		}
		switch {
		case n == 1 && (l.Format < 1 || l.Format > Format):
			return fmt.Errorf("line 1 of the export: format %d, this binary reads up to %d", l.Format, Format)
		case n == 1:
		case l.End:
			ended = true
		case l.Body != "":
			if schema.DigestOf(l.Value) != l.Body {
				return fmt.Errorf("line %d of the export: body %s has another digest; nothing was imported", n, l.Body)
			}
			bodies[l.Body] = l.Value
		case l.Table == "" || l.Key == "" || l.Value == nil:
			return fmt.Errorf("line %d of the export is no journal entry; nothing was imported", n)
		default:
			entries = append(entries, reconciler.Entry{Table: l.Table, Key: l.Key, Value: l.Value})
		}
	}
	if !ended {
		return errors.New("the export is cut off: its last line is not there; nothing was imported")
	}
	if err := s.Put(ctx, bodies); err != nil {
		return err
	}
	return s.Append(ctx, 0, entries)
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
