package accesslog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

const (
	chunk   = 256 << 10 // of one read; longer lines are left out
	backlog = 64 << 20  // that is read at most of what was written before or meanwhile
)

// file is one log file that is followed across rotations.
type file struct {
	path   string
	open   *os.File
	offset int64 // of the first byte that was not counted: a line's start
}

// follow gives take each line that is new. After an idle time, and at first,
// it only moves to the end.
func (f *file) follow(ctx context.Context, idle bool, take func([]byte)) error {
	now, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) && f.open != nil {
		return f.rest(ctx, idle, take) // being rotated
	}
	if err != nil {
		return fmt.Errorf("cannot read the access log: %w", err)
	}
	if f.open != nil {
		had, err := f.open.Stat()
		if err != nil {
			return fmt.Errorf("cannot read the access log %s: %w", f.path, err)
		}
		if !os.SameFile(had, now) {
			err := errors.Join(f.rest(ctx, idle, take), f.open.Close())
			f.open, f.offset = nil, 0
			if err != nil {
				return err
			}
			if f.open, err = os.Open(f.path); err != nil {
				return fmt.Errorf("cannot read the access log: %w", err)
			}
		}
		return f.rest(ctx, idle, take)
	}
	if f.open, err = os.Open(f.path); err != nil {
		return fmt.Errorf("cannot read the access log: %w", err)
	}
	return f.rest(ctx, true, take)
}

// rest reads from offset to the end.
func (f *file) rest(ctx context.Context, idle bool, take func([]byte)) error {
	info, err := f.open.Stat()
	if err != nil {
		return fmt.Errorf("cannot read the access log %s: %w", f.path, err)
	}
	size := info.Size()
	if size < f.offset {
		f.offset = 0 // truncated in place
	}
	if idle {
		take = func([]byte) {}
		f.offset = max(f.offset, size-chunk) // only to find the last line's end
	}
	f.offset = max(f.offset, size-backlog)
	f.offset, err = f.scan(ctx, f.offset, size, take)
	return err
}

// again reads what was counted before, or passed over, at most backlog bytes.
func (f *file) again(ctx context.Context, take func([]byte)) error {
	from := max(0, f.offset-backlog)
	if from > 0 {
		skipped := false
		whole := take
		take = func(b []byte) { // the first one may be the end of a line
			if skipped {
				whole(b)
			}
			skipped = true
		}
	}
	_, err := f.scan(ctx, from, f.offset, take)
	return err
}

// scan gives take each whole line in [from, to) and the offset behind the last.
func (f *file) scan(ctx context.Context, from, to int64, take func([]byte)) (int64, error) {
	buf := make([]byte, chunk)
	tooLong := false
	for from < to {
		if ctx.Err() != nil {
			return from, fmt.Errorf("cannot read the access log %s in time: %w", f.path, ctx.Err())
		}
		n, err := f.open.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return from, fmt.Errorf("cannot read the access log: %w", err)
		}
		if n == 0 {
			return from, nil
		}
		text := buf[:n]
		end := bytes.LastIndexByte(text, '\n')
		if end < 0 {
			if n < len(buf) {
				return from, nil // not yet whole
			}
			tooLong, from = true, from+int64(n)
			continue
		}
		from += int64(end) + 1
		for text = text[:end+1]; len(text) > 0; {
			i := bytes.IndexByte(text, '\n')
			if !tooLong {
				take(text[:i])
			}
			tooLong, text = false, text[i+1:]
		}
	}
	return from, nil
}
