package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// Summary is what a check of a journal that nobody uses found.
type Summary struct {
	Bytes   int64         `json:"bytes"`
	Tables  int           `json:"tables"`
	Entries int           `json:"entries"`
	Bodies  int           `json:"bodies"`
	Epoch   string        `json:"epoch,omitempty"`
	Backup  time.Time     `json:"backup,omitzero"` // last export
	Fsync   time.Duration `json:"fsync"`           // of one write beside it; nanoseconds
}

// ErrInUse says that a daemon holds the journal.
var ErrInUse = errors.New("a running daemon holds it")

// Check reads a whole journal without changing it: its pages, every body's
// digest, and that every body that the record names is there.
func Check(path string) (Summary, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Summary{}, fmt.Errorf("could not check the journal: %w", err)
	}
	s := Summary{Bytes: info.Size()}
	tables, bodies, err := salvage(path, &s)
	if err != nil {
		return s, err
	}
	for d, body := range bodies {
		if schema.DigestOf(body) != d {
			return s, damaged(path, fmt.Errorf("body %s has another digest", d))
		}
	}
	if name, missing := lacking(tables, bodies); missing != "" {
		return s, damaged(path, fmt.Errorf("table %s names body %s, which is not there", name, missing))
	}
	s.Fsync, err = fsync(path)
	return s, err
}

// salvage reads all that can be read; an error says what could not be.
func salvage(path string, s *Summary) (tables reconciler.Tables, bodies map[schema.Digest][]byte, err error) {
	tables, bodies = reconciler.Tables{}, map[schema.Digest][]byte{}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged(path, fmt.Errorf("%v", r))
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if errors.Is(err, berrors.ErrTimeout) {
		return tables, bodies, fmt.Errorf("could not open journal %s: %w", path, ErrInUse)
	}
	if err != nil {
		return tables, bodies, damaged(path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(func(tx *bbolt.Tx) error {
		if err := complete(path, tx); err != nil {
			return err
		}
		if err := sound(path, tx); err != nil {
			return err
		}
		if m := tx.Bucket(bucketMeta); m != nil {
			s.Epoch = string(m.Get(keyEpoch))
		}
		all := tx.Bucket(bucketTables)
		if all == nil || tx.Bucket(bucketBodies) == nil {
			return damaged(path, errors.New("it is no journal"))
		}
		if err := all.ForEachBucket(func(table []byte) error {
			rows := map[string]json.RawMessage{}
			tables[string(table)] = rows
			s.Tables++
			return all.Bucket(table).ForEach(func(k, v []byte) error {
				rows[string(k)] = append(json.RawMessage(nil), v...)
				s.Entries++
				return nil
			})
		}); err != nil {
			return err
		}
		return tx.Bucket(bucketBodies).ForEach(func(k, v []byte) error {
			bodies[schema.Digest(k)] = append([]byte(nil), v...)
			s.Bodies++
			return nil
		})
	})
	var meta struct {
		Backup time.Time `json:"backup"`
	}
	if raw, ok := tables["meta"]["state"]; ok && json.Unmarshal(raw, &meta) == nil {
		s.Backup = meta.Backup
	}
	return tables, bodies, err
}

var named = regexp.MustCompile(`"body":"(sha256:[0-9a-f]+)"`)

// lacking gives a body that the record names and the store does not hold.
func lacking(tables reconciler.Tables, bodies map[schema.Digest][]byte) (table, body string) {
	for _, t := range []string{"head", "target", "goods", "rollouts"} {
		for _, k := range sortedKeys(tables[t]) {
			for _, m := range named.FindAllSubmatch(tables[t][k], -1) {
				if _, ok := bodies[schema.Digest(m[1])]; !ok {
					return t, string(m[1])
				}
			}
		}
	}
	return "", ""
}

// fsync measures how long a small write beside the journal takes to be durable.
func fsync(path string) (took time.Duration, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".locktide-fsync-")
	if err != nil {
		return 0, fmt.Errorf("could not write beside the journal: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	began := time.Now()
	if _, err := f.Write(make([]byte, 4096)); err != nil {
		return 0, fmt.Errorf("could not write beside the journal: %w", err)
	}
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("could not make a write beside the journal durable: %w", err)
	}
	return time.Since(began), nil
}
