// Package journal keeps a fleet's record: a bbolt file by default, memory for
// tests and simulation. bbolt writes pages copy-on-write with checksummed
// meta pages, so that a torn write is cut off by itself at the next open.
package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// Format is the version of the file's layout.
const Format = 1

var (
	bucketMeta   = []byte("meta")
	bucketTables = []byte("tables")
	bucketBodies = []byte("bodies")
	keyFormat    = []byte("format")
	keyEpoch     = []byte("epoch")
)

// Bolt is a Store in one bbolt file.
type Bolt struct {
	db   *bbolt.DB
	path string
}

// Open opens or creates the file. It refuses a file that another process
// holds, that a newer Locktide wrote, or that is damaged; it never repairs by
// itself.
func Open(path string) (*Bolt, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("could not make the journal's folder: %w", err)
	}
	db, err := openFile(path)
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("could not open journal %s: another process holds it; end that one first", path)
	}
	if err != nil {
		return nil, damaged(path, err)
	}
	b := &Bolt{db: db, path: path}
	if err := b.prepare(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return b, nil
}

func openFile(path string) (db *bbolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // pages that a cut off file lacks
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second})
}

func damaged(path string, err error) error {
	return fmt.Errorf("journal %s is damaged: %w; `locktide journal repair %s` keeps what people decided and has the rest rebuilt from the marks of what runs, without a write (or restore a backup with `locktide journal import`)", path, err, path)
}

func (b *Bolt) prepare() (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged(b.path, fmt.Errorf("%v", r))
		}
	}()
	return b.db.Update(func(tx *bbolt.Tx) error {
		if err := complete(b.path, tx); err != nil {
			return err
		}
		for _, name := range [][]byte{bucketMeta, bucketTables, bucketBodies} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return damaged(b.path, err)
			}
		}
		meta := tx.Bucket(bucketMeta)
		have := meta.Get(keyFormat)
		if have == nil {
			return meta.Put(keyFormat, []byte(strconv.Itoa(Format)))
		}
		n, err := strconv.Atoi(string(have))
		if err != nil {
			return damaged(b.path, err)
		}
		if n > Format {
			return fmt.Errorf("journal %s has format %d, this binary reads up to %d: use the newer locktide that wrote it", b.path, n, Format)
		}
		return sound(b.path, tx)
	})
}

// complete says whether the file holds all pages that are in use.
func complete(path string, tx *bbolt.Tx) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("could not check the journal: %w", err)
	}
	if info.Size() < tx.Size() {
		return damaged(path, fmt.Errorf("it is cut off after %d of %d bytes", info.Size(), tx.Size()))
	}
	return nil
}

// sound checks every page. The check is heard to its end: it reads on in a
// goroutine of its own, which must be over before the file is closed.
func sound(path string, tx *bbolt.Tx) error {
	var first error
	for err := range tx.Check() {
		if first == nil {
			first = damaged(path, err)
		}
	}
	return first
}

// Load implements reconciler.Store.
func (b *Bolt) Load(context.Context) (reconciler.Tables, error) {
	out := reconciler.Tables{}
	err := b.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketTables).ForEachBucket(func(table []byte) error {
			rows := map[string]json.RawMessage{}
			out[string(table)] = rows
			return tx.Bucket(bucketTables).Bucket(table).ForEach(func(k, v []byte) error {
				rows[string(k)] = append(json.RawMessage(nil), v...)
				return nil
			})
		})
	})
	if err != nil {
		return nil, damaged(b.path, err)
	}
	return out, nil
}

// Append implements reconciler.Store.
func (b *Bolt) Append(_ context.Context, epoch uint64, entries []reconciler.Entry) error {
	err := b.db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if seen, err := strconv.ParseUint(string(meta.Get(keyEpoch)), 10, 64); err == nil && seen > epoch {
			return stale(epoch, seen)
		}
		if err := meta.Put(keyEpoch, []byte(strconv.FormatUint(epoch, 10))); err != nil {
			return err
		}
		for _, e := range entries {
			table, err := tx.Bucket(bucketTables).CreateBucketIfNotExists([]byte(e.Table))
			if err != nil {
				return err
			}
			if e.Value == nil {
				err = table.Delete([]byte(e.Key))
			} else {
				err = table.Put([]byte(e.Key), e.Value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("could not append %d entries to journal %s: %w; nothing is dispatched until it can", len(entries), b.path, err)
	}
	return nil
}

func stale(epoch, seen uint64) error {
	return fmt.Errorf("epoch %d is older than %d: another daemon has taken this fleet over", epoch, seen)
}

// Put implements reconciler.Store.
func (b *Bolt) Put(_ context.Context, bodies map[schema.Digest][]byte) error {
	missing := map[schema.Digest][]byte{}
	err := b.db.View(func(tx *bbolt.Tx) error {
		for d, body := range bodies {
			if tx.Bucket(bucketBodies).Get([]byte(d)) == nil {
				missing[d] = body
			}
		}
		return nil
	})
	if err != nil || len(missing) == 0 {
		return err
	}
	return b.db.Update(func(tx *bbolt.Tx) error {
		for d, body := range missing {
			if err := tx.Bucket(bucketBodies).Put([]byte(d), body); err != nil {
				return err
			}
		}
		return nil
	})
}

// Get implements reconciler.Store.
func (b *Bolt) Get(_ context.Context, d schema.Digest) (body []byte, err error) {
	err = b.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketBodies).Get([]byte(d))
		if v == nil {
			return fmt.Errorf("the journal holds no body %s", d)
		}
		body = append([]byte(nil), v...)
		return nil
	})
	return body, err
}

// Retain implements reconciler.Store.
func (b *Bolt) Retain(_ context.Context, keep map[schema.Digest]bool) error {
	return b.db.Update(func(tx *bbolt.Tx) error {
		bodies := tx.Bucket(bucketBodies)
		var drop [][]byte
		if err := bodies.ForEach(func(k, _ []byte) error {
			if !keep[schema.Digest(k)] {
				drop = append(drop, append([]byte(nil), k...))
			}
			return nil
		}); err != nil {
			return err
		}
		for _, k := range drop {
			if err := bodies.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// Close implements reconciler.Store.
func (b *Bolt) Close() error { return b.db.Close() }
