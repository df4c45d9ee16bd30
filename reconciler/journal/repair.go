package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"go.etcd.io/bbolt"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// decided are the tables that no backend can give back, what people decided,
// and what a row of each is; nil: one of any shape. Slots are none: nothing
// would ever free those of rollouts that are lost.
var decided = map[string]func() any{
	"pins":       func() any { return new(schema.Pin) },
	"overrides":  func() any { return new(schema.Override) },
	"holds":      func() any { return new(schema.Bit) },
	"quarantine": func() any { return new(schema.Verdict) },
	"history":    func() any { return new(schema.HistoryEntry) },
	"ledger":     nil,
	"commits":    nil,
	"taken":      nil,
}

// Repair puts a journal in the place of a damaged one: what people decided is
// kept where it can be read, the rest is rebuilt by the daemon from the marks
// of what runs. The damaged file stays, under another name. It gives what it
// did and what is lost; a journal that is whole is left alone.
func Repair(ctx context.Context, path string) (string, error) {
	_, damage := Check(path)
	if damage == nil {
		return "the journal is whole: nothing was done", nil
	}
	if errors.Is(damage, ErrInUse) || errors.Is(damage, os.ErrNotExist) {
		return "", damage
	}
	entries, lost := rescue(path)
	aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405")
	if err := os.Rename(path, aside); err != nil {
		return "", fmt.Errorf("could not move the damaged journal away: %w", err)
	}
	b, err := Open(path)
	if err != nil {
		return "", err
	}
	err = errors.Join(b.Append(ctx, 0, entries), b.Close())
	says := fmt.Sprintf("it was damaged: %v\nkept %d entries of what people decided (brakes, pins, holds, quarantine, history); the daemon rebuilds the rest from the marks of what runs, and observes until resume; the damaged file is %s", damage, len(entries), aside)
	if len(lost) > 0 {
		says += fmt.Sprintf("\nnot readable as a whole: %s; what is kept of it may lack the newest: compare `locktide status` with what you know, or import the last export instead", strings.Join(lost, ", "))
	}
	return says, err
}

// rescue reads what people decided, table by table: a page that is damaged
// costs what lies behind it. It names the tables that are not whole.
func rescue(path string) (entries []reconciler.Entry, lost []string) {
	for _, table := range sortedKeys(decided) {
		rows, err := readTable(path, table)
		if err != nil {
			lost = append(lost, table)
		}
		for _, k := range sortedKeys(rows) {
			if json.Valid(rows[k]) && (err == nil || alike(table, k, rows[k])) {
				entries = append(entries, reconciler.Entry{Table: table, Key: k, Value: rows[k]})
			}
		}
	}
	return entries, lost
}

// readTable reads the rows of a table up to the first that it cannot; a damaged
// page may point anywhere, also in circles.
func readTable(path, table string) (rows map[string]json.RawMessage, err error) {
	rows = map[string]json.RawMessage{}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged(path, fmt.Errorf("%v", r))
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return rows, damaged(path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(func(tx *bbolt.Tx) error {
		all := tx.Bucket(bucketTables)
		if all == nil {
			return errors.New("it is no journal")
		}
		b := all.Bucket([]byte(table))
		if b == nil {
			return nil
		}
		var last []byte
		return b.ForEach(func(k, v []byte) error {
			if last != nil && bytes.Compare(k, last) <= 0 || !utf8.Valid(k) {
				return errors.New("its rows are out of order")
			}
			last = append([]byte(nil), k...)
			rows[string(k)] = append(json.RawMessage(nil), v...)
			return nil
		})
	})
	return rows, err
}

// alike says whether a row of a damaged table is one of that table.
func alike(table, key string, value json.RawMessage) bool {
	if decided[table] == nil {
		return key == table
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.DisallowUnknownFields()
	return dec.Decode(decided[table]()) == nil
}
