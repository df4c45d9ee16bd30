package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path"
	"runtime/debug"
	"syscall"
	"time"

	"locktide.dev/render"
	"locktide.dev/schema"
)

// Command is the argument with which a program serves as a child.
const Command = "evaluate-definitions"

// maxOutput bounds what one unit may say.
const maxOutput = 16 << 20

// Service answers what Pool.Call asks. It runs in the child, with no files; nil
// if there is none.
type Service func(question []byte) (answer []byte, err error)

// Serve is the child: it evaluates what the parent asks for over in and out,
// and ends the process when in ends.
func Serve(in io.Reader, out io.Writer, service Service) error {
	signal.Ignore(os.Interrupt, syscall.SIGTERM) // they are the parent's, which ends us when it is done
	limitProcess()
	debug.SetMaxStack(128 << 20)
	frames := make(chan frame)
	go func() {
		for {
			kind, payload, err := readFrame(in)
			if err != nil { // the parent is gone: an endless evaluation must not outlive it
				os.Exit(0)
			}
			frames <- frame{kind, payload}
		}
	}()
	c := &child{in: frames, out: out}
	for {
		f := <-frames
		var err error
		switch f.kind {
		case frameTree:
			c.engines = nil
		case frameTask:
			err = c.task(f.payload)
		case frameCall:
			err = call(out, service, f.payload)
		default:
			err = fmt.Errorf("a frame %q is not expected", f.kind)
		}
		if err != nil {
			return errors.Join(err, writeFrame(out, frameBroken, []byte(err.Error())))
		}
	}
}

func call(out io.Writer, service Service, question []byte) error {
	if service == nil {
		return errors.New("this program has no service")
	}
	answer, err := service(question)
	if err != nil {
		return err
	}
	if len(answer) > maxOutput {
		return fmt.Errorf("the answer is larger than %d MiB", maxOutput>>20)
	}
	return writeFrame(out, frameAnswer, answer)
}

type frame struct {
	kind    byte
	payload []byte
}

type child struct {
	in      <-chan frame
	out     io.Writer
	engines *render.Engines
	opened  map[string]frame // of this tree
}

func (c *child) task(payload []byte) error {
	var t render.Task
	if err := json.Unmarshal(payload, &t); err != nil {
		return fmt.Errorf("cannot read a task: %w", err)
	}
	if len(t.Files) == 0 {
		return errors.New("a task has no files")
	}
	if c.engines == nil {
		c.engines, c.opened = render.NewEngines(c), map[string]frame{}
	}
	a, err := c.engines.Evaluate(t)
	if err != nil {
		return err
	}
	b := render.AppendAnswer(nil, a)
	if len(b) > maxOutput {
		f := schema.Finding{Code: "too-big", Severity: schema.Deny, At: schema.Position{File: t.Files[0]}, Message: fmt.Sprintf("what this evaluates to is larger than %d MiB", maxOutput>>20)}
		b = render.AppendAnswer(nil, render.Answer{Reads: a.Reads, Found: []schema.Finding{f}})
	}
	return writeFrame(c.out, frameAnswer, b)
}

// Open implements fs.FS by asking the parent.
func (c *child) Open(name string) (fs.File, error) {
	fail := func(err error) (fs.File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	f, known := c.opened[name]
	if !known {
		if err := writeFrame(c.out, frameOpen, []byte(name)); err != nil {
			return fail(err)
		}
		f = <-c.in
		c.opened[name] = f
	}
	i := info{entry{Name: path.Base(name)}, int64(len(f.payload))}
	switch f.kind {
	case frameFile:
		i.entry.Mode = 0o444
		return &file{info: i, rest: f.payload}, nil
	case frameFolder:
		var entries []entry
		if err := json.Unmarshal(f.payload, &entries); err != nil {
			return fail(err)
		}
		i.entry.Mode = fs.ModeDir | 0o555
		return &file{info: i, entries: entries}, nil
	case frameOther:
		if err := json.Unmarshal(f.payload, &i.entry.Mode); err != nil {
			return fail(err)
		}
		return &file{info: i}, nil
	case frameNone:
		if string(f.payload) == "" {
			return fail(fs.ErrNotExist)
		}
		return fail(errors.New(string(f.payload)))
	}
	return fail(fmt.Errorf("a frame %q is not expected", f.kind))
}

type info struct {
	entry
	size int64
}

func (i info) Name() string               { return i.entry.Name }
func (i info) Size() int64                { return i.size }
func (i info) Mode() fs.FileMode          { return i.entry.Mode }
func (i info) ModTime() (t time.Time)     { return t }
func (i info) IsDir() bool                { return i.entry.Mode.IsDir() }
func (i info) Sys() any                   { return nil }
func (i info) Type() fs.FileMode          { return i.entry.Mode.Type() }
func (i info) Info() (fs.FileInfo, error) { return i, nil }

// file is an opened file or folder.
type file struct {
	info
	rest    []byte
	entries []entry
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

func (f *file) Read(b []byte) (int, error) {
	if !f.Mode().IsRegular() {
		return 0, fs.ErrInvalid
	}
	if len(f.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// ReadDir implements fs.ReadDirFile.
func (f *file) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(f.entries) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(f.entries) {
		n = len(f.entries)
	}
	var out []fs.DirEntry
	for _, e := range f.entries[:n] {
		out = append(out, info{entry: e})
	}
	f.entries = f.entries[n:]
	return out, nil
}

var _ fs.ReadDirFile = (*file)(nil)
