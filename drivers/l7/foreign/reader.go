package foreign

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Source names the configuration that served before ours; at most one field
// is set.
type Source struct {
	Nginx   string // nginx.conf, or the output of nginx -T
	HAProxy string // haproxy.cfg
}

// Reader reads a source again when one of its files changed.
type Reader struct {
	source Source
	mu     sync.Mutex
	seen   []string // names, sizes and times of what was read
	config *Config
	err    error
}

// NewReader gives a reader; nil: the source names nothing.
func NewReader(s Source) *Reader {
	if s == (Source{}) {
		return nil
	}
	return &Reader{source: s}
}

// Path is the file that the source names.
func (r *Reader) Path() string { return cmp.Or(r.source.Nginx, r.source.HAProxy) }

// Read gives the configuration as it is now; the caller must not change it.
func (r *Reader) Read() (*Config, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen != nil && slices.Equal(r.seen, r.look()) {
		return r.config, r.err
	}
	if r.source.Nginx != "" {
		r.config, r.err = Nginx(r.source.Nginx)
	} else {
		r.config, r.err = HAProxy(r.source.HAProxy)
	}
	r.seen = r.look()
	return r.config, r.err
}

// look gives names, sizes and times of the files that were read, and of their
// folders, where an include may find another.
func (r *Reader) look() []string {
	paths := []string{r.Path()}
	if r.config != nil {
		paths = append(paths, r.config.Files...)
	}
	for _, p := range slices.Clone(paths) {
		paths = append(paths, filepath.Dir(p))
	}
	slices.Sort(paths)
	var out []string
	for _, p := range slices.Compact(paths) {
		info, err := os.Stat(p)
		if err != nil {
			out = append(out, err.Error())
			continue
		}
		out = append(out, fmt.Sprint(p, info.Size(), info.ModTime().UnixNano()))
	}
	return out
}
