package gitsource

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"
)

// objects gives Git objects by id, in hexadecimal: what a client has fetched.
// It may be used concurrently.
type objects interface {
	// object gives an object's kind and content; errMissing if it is not there.
	object(id string) (kind string, content []byte, err error)
}

var (
	errMissing = errors.New("the object is missing")
	errDamaged = errors.New("its content is not what its hash says")
)

// repairable says whether fetching again may help.
func repairable(err error) bool { return errors.Is(err, errMissing) || errors.Is(err, errDamaged) }

// read gives the content of an object whose kind and hash are as they should.
func read(o objects, kind, id string) ([]byte, error) {
	have, content, err := o.object(id)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, id, err)
	}
	if have != kind {
		return nil, fmt.Errorf("%s is a %s, not a %s", id, have, kind)
	}
	h := hasher(id)
	fmt.Fprintf(h, "%s %d\x00", kind, len(content))
	h.Write(content)
	if hex.EncodeToString(h.Sum(nil)) != id {
		return nil, fmt.Errorf("%s %s: %w", kind, id, errDamaged)
	}
	return content, nil
}

// hasher gives the hash that an id of this length was made with.
func hasher(id string) hash.Hash {
	if len(id) == 2*sha256.Size {
		return sha256.New()
	}
	return sha1.New()
}

// commit is what is read of a commit object.
type commit struct {
	tree    string
	parents []string
	author  string // name and address
	at      time.Time
	subject string
	body    string
}

func readCommit(o objects, id string) (commit, []byte, error) {
	raw, err := read(o, "commit", id)
	if err != nil {
		return commit{}, nil, err
	}
	c, err := parseCommit(raw)
	if err != nil {
		return commit{}, nil, fmt.Errorf("commit %s: %w", id, err)
	}
	return c, raw, nil
}

func parseCommit(raw []byte) (commit, error) {
	var c commit
	header, message, _ := strings.Cut(string(raw), "\n\n")
	for line := range strings.SplitSeq(header, "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "tree":
			c.tree = value
		case "parent":
			c.parents = append(c.parents, value)
		case "author":
			c.author, _ = person(value)
		case "committer":
			_, c.at = person(value)
		}
	}
	if !isID(c.tree) {
		return c, fmt.Errorf("it names no tree")
	}
	c.subject, c.body, _ = strings.Cut(strings.TrimSpace(message), "\n")
	return c, nil
}

// person splits "Ada <ada@example.org> 1700000000 +0100".
func person(s string) (string, time.Time) {
	end := strings.LastIndexByte(s, '>')
	who, when := s[:end+1], strings.Fields(s[end+1:])
	if len(when) == 0 {
		return who, time.Time{}
	}
	seconds, err := strconv.ParseInt(when[0], 10, 64)
	if err != nil {
		return who, time.Time{}
	}
	return who, time.Unix(seconds, 0)
}

// isID says whether s is an object's id: SHA-1 or SHA-256 in hexadecimal.
func isID(s string) bool {
	if len(s) != 2*sha1.Size && len(s) != 2*sha256.Size {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}

// entry is one line of a tree.
type entry struct {
	name string
	mode fs.FileMode // folder, regular, symbolic link, or irregular: a submodule
	id   string
}

func readTree(o objects, id string) ([]entry, error) {
	raw, err := read(o, "tree", id)
	if err != nil {
		return nil, err
	}
	entries, err := parseTree(raw, len(id)/2)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", id, err)
	}
	return entries, nil
}

// parseTree gives a tree's entries sorted by name, each name once and none that
// leads out of its folder.
func parseTree(raw []byte, idSize int) ([]entry, error) {
	var out []entry
	for len(raw) > 0 {
		head, rest, ok := bytes.Cut(raw, []byte{0})
		mode, name, spaced := strings.Cut(string(head), " ")
		if !ok || !spaced || len(rest) < idSize {
			return nil, errors.New("it is cut off")
		}
		if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
			return nil, fmt.Errorf("it holds an entry named %.300q, which no path can name: rename it", name)
		}
		e := entry{name: name, id: hex.EncodeToString(rest[:idSize])}
		switch mode {
		case "40000", "040000":
			e.mode = fs.ModeDir | 0o755
		case "120000":
			e.mode = fs.ModeSymlink | 0o777
		case "160000":
			e.mode = fs.ModeIrregular
		case "100644", "100755", "100664":
			e.mode = 0o644
		default:
			return nil, fmt.Errorf("%.300q has the mode %.20q, which is no file's", name, mode)
		}
		out, raw = append(out, e), rest[idSize:]
	}
	slices.SortFunc(out, byName)
	for i := range out {
		if i > 0 && out[i].name == out[i-1].name {
			return nil, fmt.Errorf("it holds %.300q twice", out[i].name)
		}
	}
	return out, nil
}

func byName(a, b entry) int { return strings.Compare(a.name, b.name) }
