// Package gitsource reads definitions from a Git branch without a checkout.
// It keeps the last good revision when a fetch fails, verifies every object of
// a commit before it gives it out, and proves fast-forwards by ancestry.
//
// Two clients fetch: the built-in one (go-git, all in memory) and the git
// command with a mirror on disk, for what the first cannot do. Whatever they
// report, credentials are taken out.
package gitsource

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"locktide.dev/reconciler"
	"locktide.dev/reconciler/gitsource/signature"
)

// Config says what to follow.
type Config struct {
	URL        string // https://, ssh://, git@host:path, or a local path
	Branch     string // default main
	Path       string // folder of the definitions inside the repository; "": the root
	User       string // for HTTPS; default "git"
	TokenFile  string // HTTPS password or token; read again for every fetch
	SSHKey     string // private key file for SSH
	KnownHosts string // known_hosts file for SSH; default the user's own
	Client     string // builtin, the default, or git: the git command
	ConfigFile string // git's own configuration for the git command; default none
	MirrorDir  string // where the git command keeps its mirrors; "": a temporary folder, removed by Close
	Signatures signature.Config
}

// client fetches from the repository and holds what it fetched.
type client interface {
	// fetch makes the branch's newest commit readable and gives its id.
	fetch(ctx context.Context, branch string) (string, error)
	// refetch does it anew, without what was fetched before.
	refetch(ctx context.Context, branch string) (string, error)
	// objects gives what the newest fetch made readable.
	objects() objects
	// descends says whether commit is old or descends from it, as far as the
	// fetched history proves it.
	descends(old, commit string) bool
	// reach fetches what descends needs to tell of the two.
	reach(ctx context.Context, old, commit string) error
	// find makes any commit readable by its id, the beginning of it, or the
	// name of a branch.
	find(ctx context.Context, rev string) (string, objects, error)
	close() error
}

// Source follows one branch. Methods may be called concurrently; they wait for
// each other.
type Source struct {
	cfg Config

	mu     sync.Mutex
	client client
	last   *reconciler.Revision
	// The newest tree that was verified, and where.
	verified string
	in       objects
}

// New gives a source; nothing is fetched before Latest.
func New(cfg Config) (*Source, error) {
	if cfg.URL == "" {
		return nil, errors.New("git.url: no repository is named; give an https or ssh address or a local path")
	}
	if cfg.Branch == "" {
		cfg.Branch = "main"
	}
	if err := checkAddress(cfg.URL); err != nil {
		return nil, err
	}
	if err := plumbing.NewBranchReferenceName(cfg.Branch).Validate(); err != nil || strings.HasPrefix(cfg.Branch, "-") || strings.Contains(cfg.Branch, ":") {
		return nil, fmt.Errorf("git.branch: %q is not the name of a branch", cfg.Branch)
	}
	cfg.Path = strings.Trim(cfg.Path, "/")
	if cfg.Path != "" && !fs.ValidPath(cfg.Path) {
		return nil, fmt.Errorf("git.path: %q is not a folder inside a repository", cfg.Path)
	}
	if _, err := signature.Load(cfg.Signatures); err != nil {
		return nil, err
	}
	c, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	return &Source{cfg: cfg, client: c}, nil
}

func newClient(cfg Config) (client, error) {
	switch cfg.Client {
	case "", "builtin":
		return newBuiltin(cfg)
	case "git":
		return newCommand(cfg)
	}
	return nil, fmt.Errorf("git.client: want builtin or git, not %q", cfg.Client)
}

// Close ends what the source runs.
func (s *Source) Close() error { return s.client.close() }

// Latest gives the branch's newest revision. When the branch cannot be read,
// it gives an error that names the repository without credentials; the caller
// keeps the revision that it has. When the commit's signature is missing or
// does not count, the error is a reconciler.Refused. FastForward is true for the
// first revision and for one that descends from the revision given before.
func (s *Source) Latest(ctx context.Context) (reconciler.Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tip, err := s.client.fetch(ctx, s.cfg.Branch)
	if err != nil {
		return reconciler.Revision{}, s.failed("fetch "+s.cfg.Branch, err)
	}
	if s.last != nil && s.last.Commit == tip {
		return *s.last, nil
	}
	rev, err := s.revision(s.client.objects(), tip)
	if repairable(err) {
		if tip, err = s.client.refetch(ctx, s.cfg.Branch); err != nil {
			return reconciler.Revision{}, s.failed("fetch "+s.cfg.Branch, err)
		}
		rev, err = s.revision(s.client.objects(), tip)
	}
	if err != nil {
		return reconciler.Revision{}, s.failed("read commit "+tip, err)
	}
	if rev.Signer, err = s.signer(rev); err != nil {
		return reconciler.Revision{}, err
	}
	if s.last != nil {
		rev.Previous = s.last.Commit
		rev.FastForward = s.client.descends(s.last.Commit, tip)
	}
	s.last = &rev
	return rev, nil
}

// signer says who signed a commit; "" if none needs to be.
func (s *Source) signer(rev reconciler.Revision) (string, error) {
	if !s.cfg.Signatures.Required() {
		return "", nil
	}
	keys, err := signature.Load(s.cfg.Signatures) // a key is added or revoked without a restart
	if err != nil {
		return "", s.failed("judge the signature of commit "+rev.Commit, err)
	}
	_, raw, err := readCommit(s.client.objects(), rev.Commit)
	if err != nil {
		return "", s.failed("read commit "+rev.Commit, err)
	}
	who, err := keys.Verify(raw, len(rev.Commit) == 2*sha256.Size, time.Now())
	var no *signature.Refusal
	if errors.As(err, &no) {
		return "", &reconciler.Refused{Code: "signature", Commit: rev.Commit, Author: rev.Author, Why: no.Why, Next: no.Next}
	}
	return who, err
}

// failed names the repository, and hides what is secret.
func (s *Source) failed(what string, err error) error {
	return fmt.Errorf("could not %s of %s: %s; the last good commit stays in force", what, Redact(s.cfg.URL), s.cfg.hide(err.Error()))
}

// At gives a revision by its commit id, the beginning of one, or the name of a
// branch, on any branch; the branch that is followed does not move.
func (s *Source) At(ctx context.Context, rev string) (reconciler.Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	commit, found, err := s.client.find(ctx, rev)
	if err != nil {
		return reconciler.Revision{}, fmt.Errorf("could not read %.80q of %s: %s", rev, Redact(s.cfg.URL), s.cfg.hide(err.Error()))
	}
	r, err := s.revision(found, commit)
	if err != nil {
		return r, fmt.Errorf("could not read commit %s of %s: %s", commit, Redact(s.cfg.URL), s.cfg.hide(err.Error()))
	}
	return r, nil
}

// Descends says whether commit is old or a descendant of it, as far as the
// fetched history proves it.
func (s *Source) Descends(old, commit string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client.descends(old, commit)
}

// Reach fetches what Descends needs to tell of two commits: a daemon that
// restarts has but the newest. An error means that the repository could not be
// asked.
func (s *Source) Reach(ctx context.Context, old, commit string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !isID(old) || s.client.descends(old, commit) {
		return nil
	}
	if err := s.client.reach(ctx, old, commit); err != nil {
		return s.failed("read the history from "+old+" to "+commit, err)
	}
	return nil
}

// revision reads a commit and verifies all that is below its folder.
func (s *Source) revision(o objects, id string) (reconciler.Revision, error) {
	c, _, err := readCommit(o, id)
	if err != nil {
		return reconciler.Revision{}, err
	}
	tree := &treeFS{objects: o, root: c.tree, at: c.at}
	if s.cfg.Path != "" {
		folder, err := tree.find(s.cfg.Path)
		if err == nil && !folder.mode.IsDir() {
			err = errors.New("is no folder")
		}
		if err != nil {
			return reconciler.Revision{}, fmt.Errorf("git.path: %q: %w", s.cfg.Path, err)
		}
		tree.root = folder.id
	}
	before := ""
	if s.in == o {
		before = s.verified
	}
	if err := verify(o, tree.root, before); err != nil {
		return reconciler.Revision{}, err
	}
	s.in, s.verified = o, tree.root
	return reconciler.Revision{Commit: id, Author: c.author, Subject: c.subject, Body: c.body, At: c.at, Tree: tree, FastForward: true}, nil
}

func noBranch(name string) error { return fmt.Errorf("the repository has no branch %q", name) }
