// Package foreign reads configurations of proxies that other hands wrote, as
// routes of ours: what a route can say becomes one, and a virtual server with
// anything that no route can say is left out as a whole, with file and line.
// Nothing is guessed and nothing is written.
package foreign

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"locktide.dev/drivers/l7"
)

// Config is what a configuration serves.
type Config struct {
	Routes  []Route
	Refused []Refused
	Files   []string // that were read, sorted
	at      map[place]int
}

// place is what one route alone can serve.
type place struct {
	domain, path string
	exact        bool
}

// Route is one path of one virtual server. To is empty: Servers say who answers.
type Route struct {
	l7.Route
	At      string   // FILE:LINE of the path
	Servers []Server // none: it redirects
	Cert    string   // file of the certificate, "" without TLS
	CertKey string   // file of its key
	Notes   []string // FILE:LINE: settings that are not carried over; sorted
}

// Server is one member as a configuration names it.
type Server struct {
	Address string // host:port
	Weight  int    // at least 1
}

// Refused is a virtual server that is left out.
type Refused struct {
	At   string // FILE:LINE of the reason
	Name string // its first domain, or what stands for it
	Why  string
}

// Find gives the route that answers for a domain under a path, if there is one.
func (c *Config) Find(domain, path string, exact bool) (Route, bool) {
	if i, ok := c.at[place{domain, path, exact}]; ok {
		return c.Routes[i], true
	}
	return Route{}, false
}

func (c *Config) refuse(at, name, format string, args ...any) {
	c.Refused = append(c.Refused, Refused{At: at, Name: name, Why: fmt.Sprintf(format, args...)})
}

// Limits of what is read: a configuration that people keep is far below.
const (
	maxFile  = 4 << 20
	maxFiles = 4096
	maxDepth = 64
)

// readFile gives a file that can be a configuration.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return text, plausible(path, text)
}

// plausible refuses what is no configuration, or would cost a parser more
// than a configuration may.
func plausible(path string, text []byte) error {
	if len(text) > maxFile {
		return fmt.Errorf("%s is longer than %d MiB: it is no configuration", path, maxFile>>20)
	}
	line, depth := 1, 0
	for _, c := range text {
		switch c {
		case '\n':
			line++
		case 0:
			return fmt.Errorf("%s:%d: it is no text: it holds a zero byte", path, line)
		case '{':
			depth++
		case '}':
			depth--
		}
		if depth > maxDepth {
			return fmt.Errorf("%s:%d: blocks are nested deeper than %d", path, line, maxDepth)
		}
	}
	return nil
}

// dumpMark starts each file in the output of nginx -T.
const dumpMark = "# configuration file "

// files is a configuration's files: on disk, or in one dump.
type files struct {
	dump map[string][]byte // nil: on disk
	seen map[string]bool
}

// dumped parts the output of nginx -T, and names its first file.
func dumped(text []byte) (main string, parts map[string][]byte) {
	at := bytes.Index(text, []byte(dumpMark))
	if at < 0 || at > 0 && text[at-1] != '\n' {
		return "", nil
	}
	parts = map[string][]byte{}
	name := ""
	for line := range bytes.Lines(text[at:]) {
		if rest, ok := strings.CutPrefix(string(line), dumpMark); ok && strings.HasSuffix(rest, ":\n") {
			if name = strings.TrimSuffix(rest, ":\n"); main == "" {
				main = name
			}
			continue
		}
		parts[name] = append(parts[name], line...)
	}
	return main, parts
}

func (f *files) read(path string) ([]byte, error) {
	if f.seen[path] = true; len(f.seen) > maxFiles {
		return nil, fmt.Errorf("the configuration has more than %d files", maxFiles)
	}
	if f.dump == nil {
		return readFile(path)
	}
	text, ok := f.dump[path]
	if !ok {
		return nil, fmt.Errorf("%s is not in the output of nginx -T", path)
	}
	return text, plausible(path, text)
}

func (f *files) glob(pattern string) ([]string, error) {
	if f.dump == nil {
		return filepath.Glob(pattern)
	}
	var out []string
	for name := range f.dump {
		if ok, err := filepath.Match(pattern, name); err != nil {
			return nil, err
		} else if ok {
			out = append(out, name)
		}
	}
	return out, nil
}
