package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"locktide.dev/render"
	"locktide.dev/render/source"
	"locktide.dev/schema"
)

// Config of a pool; zero values are the defaults.
type Config struct {
	Program   string        // that serves as a child when called with Command
	Size      int           // children at once; default 2
	Deadline  time.Duration // for one unit; default 10s
	MemoryMiB int           // of one child; default 768
	Units     int           // that one child evaluates before it is replaced; default 500
}

// Pool keeps children between renders. It is safe for concurrent use.
type Pool struct {
	cfg  Config
	mu   sync.Mutex
	idle []*process
}

// New gives a pool; children start when they are needed.
func New(cfg Config) *Pool {
	if cfg.Size == 0 {
		cfg.Size = 2
	}
	if cfg.Deadline == 0 {
		cfg.Deadline = 10 * time.Second
	}
	if cfg.MemoryMiB == 0 {
		cfg.MemoryMiB = 768
	}
	if cfg.Units == 0 {
		cfg.Units = 500
	}
	return &Pool{cfg: cfg}
}

// Close ends all children.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.kill()
	}
	p.idle = nil
}

// Evaluate implements render.Evaluator. The error means that no child could
// work, or that ctx ended.
func (p *Pool) Evaluate(ctx context.Context, fsys fs.FS, tasks []render.Task) ([]render.Answer, error) {
	answers := make([]render.Answer, len(tasks))
	next := make(chan int, len(tasks))
	for i := range tasks {
		next <- i
	}
	close(next)
	n := min(p.cfg.Size, (len(tasks)+7)/8)
	lanes := make([]*lane, n)
	var group sync.WaitGroup
	for i := range lanes {
		l := &lane{cfg: p.cfg, fsys: fsys, child: p.take()}
		lanes[i] = l
		group.Go(func() {
			for i := range next {
				if answers[i], l.err = l.evaluate(ctx, tasks[i]); l.err != nil {
					return
				}
			}
		})
	}
	group.Wait()
	var errs []error
	for _, l := range lanes {
		errs = append(errs, l.err)
		switch {
		case l.child == nil:
		case l.err != nil:
			l.child.kill()
		default:
			p.give(l.child)
		}
	}
	return answers, errors.Join(errs...)
}

func (p *Pool) take() *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	last := len(p.idle) - 1
	c := p.idle[last]
	p.idle = p.idle[:last]
	return c
}

func (p *Pool) give(c *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= p.cfg.Size {
		c.kill()
		return
	}
	p.idle = append(p.idle, c)
}

// lane is one child after another, for one tree.
type lane struct {
	cfg   Config
	fsys  fs.FS
	child *process
	told  bool // the child knows that it is another tree
	err   error
}

// evaluate gives a unit's answer. A child that dies after it has evaluated
// others gets a second chance in a fresh one: the memory may be theirs.
func (l *lane) evaluate(ctx context.Context, t render.Task) (render.Answer, error) {
	for {
		if l.child != nil && l.child.units >= l.cfg.Units {
			l.child.kill()
			l.child = nil
		}
		if l.child == nil {
			var err error
			if l.child, err = start(l.cfg); err != nil {
				return render.Answer{}, err
			}
			l.told = false
		}
		fresh := l.child.units == 0
		a, failure, err := l.ask(ctx, t)
		l.child.units++
		if failure == nil || err != nil {
			return a, err
		}
		l.child.kill()
		l.child = nil
		if fresh || failure.final {
			f := schema.Finding{Code: failure.code, Severity: schema.Deny, At: schema.Position{File: t.Files[0]}, Message: failure.why, Next: "find what does not end or grows without bound in it, or in what it imports"}
			reads := slices.Sorted(slices.Values(append(failure.reads, t.Files...)))
			return render.Answer{Found: []schema.Finding{f}, Reads: slices.Compact(reads)}, nil
		}
	}
}

// failure is why a unit has no answer.
type failure struct {
	code, why string
	final     bool // a fresh child would do no better
	reads     []string
}

// ask sends a task and serves files until the answer comes. The failure is the
// unit's, the error is the pool's.
func (l *lane) ask(ctx context.Context, t render.Task) (a render.Answer, bad *failure, err error) {
	var reads []string
	watch := l.child.watch(ctx, l.cfg)
	defer func() {
		killed := watch()
		if bad == nil {
			return
		}
		if ctx.Err() != nil {
			bad, err = nil, ctx.Err()
			return
		}
		if killed != nil {
			bad.code, bad.why, bad.final = killed.code, killed.why, killed.final
		}
		bad.reads = reads
	}()
	died := func(error) (render.Answer, *failure, error) {
		return a, &failure{code: "crash", why: "the evaluator crashed: " + l.child.lastWords()}, nil
	}
	if !l.told {
		if err := writeFrame(l.child.in, frameTree, nil); err != nil {
			return died(err)
		}
		l.told = true
	}
	payload, err := json.Marshal(t)
	if err != nil {
		return a, nil, err
	}
	if err := writeFrame(l.child.in, frameTask, payload); err != nil {
		return died(err)
	}
	for {
		kind, payload, err := readFrame(l.child.out)
		if err != nil {
			return died(err)
		}
		switch kind {
		case frameOpen:
			name := string(payload)
			reads = append(reads, name)
			kind, content := open(l.fsys, name)
			if err := writeFrame(l.child.in, kind, content); err != nil {
				return died(err)
			}
		case frameAnswer:
			a, err := render.ReadAnswer(payload)
			return a, nil, err
		case frameBroken:
			return a, nil, fmt.Errorf("the evaluator of definitions cannot work: %s", payload)
		default:
			return a, nil, fmt.Errorf("the evaluator of definitions sent an unknown frame %q", kind)
		}
	}
}

// open gives what a child gets to see of a path: no more of a file than a
// definition may have, and of folders the names.
func open(fsys fs.FS, name string) (kind byte, content []byte) {
	none := func(err error) (byte, []byte) {
		if errors.Is(err, fs.ErrNotExist) {
			return frameNone, nil
		}
		return frameNone, []byte(err.Error())
	}
	info, err := lstat(fsys, name)
	if err != nil {
		return none(err)
	}
	switch {
	case info.IsDir():
		list, err := fs.ReadDir(fsys, name)
		if err != nil {
			return none(err)
		}
		entries := make([]entry, 0, len(list))
		for _, d := range list {
			entries = append(entries, entry{d.Name(), d.Type()})
		}
		if content, err = json.Marshal(entries); err != nil {
			return none(err)
		}
		return frameFolder, content
	case !info.Mode().IsRegular():
		if content, err = json.Marshal(info.Mode()); err != nil {
			return none(err)
		}
		return frameOther, content
	}
	if content, err = source.Head(fsys, name); err != nil {
		return none(err)
	}
	return frameFile, content
}

func lstat(fsys fs.FS, name string) (fs.FileInfo, error) {
	if l, ok := fsys.(fs.ReadLinkFS); ok {
		return l.Lstat(name)
	}
	return fs.Stat(fsys, name)
}

var _ render.Evaluator = (*Pool)(nil)
