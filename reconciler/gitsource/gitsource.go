// Package gitsource reads definitions from a Git branch with go-git, without
// a checkout. It keeps the last good revision when a fetch fails, fetches
// only when the branch moved, and proves fast-forwards by ancestry.
package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"unicode"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/memory"

	"locktide.dev/reconciler"
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
}

// Source follows one branch. Methods may be called by one goroutine at a time.
type Source struct {
	cfg Config

	mu   sync.Mutex
	repo *git.Repository
	last *reconciler.Revision
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
	repo, err := git.Init(memory.NewStorage(), nil)
	if err != nil {
		return nil, fmt.Errorf("could not prepare the object store: %w", err)
	}
	if _, err := repo.CreateRemote(&config.RemoteConfig{Name: "origin", URLs: []string{cfg.URL}}); err != nil {
		return nil, fmt.Errorf("git.url: %q is no repository address: %w", Redact(cfg.URL), err)
	}
	return &Source{cfg: cfg, repo: repo}, nil
}

// Latest gives the branch's newest revision. When the branch cannot be read,
// it gives an error that names the repository without credentials; the caller
// keeps the revision that it has. FastForward is true for the first revision
// and for one that descends from the revision given before.
func (s *Source) Latest(ctx context.Context) (reconciler.Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tip, err := s.fetch(ctx)
	if err != nil {
		return reconciler.Revision{}, fmt.Errorf("could not fetch %s of %s: %s; the last good commit stays in force",
			s.cfg.Branch, Redact(s.cfg.URL), s.hide(err))
	}
	if s.last != nil && s.last.Commit == tip.String() {
		return *s.last, nil
	}
	rev, err := s.revision(tip)
	if err != nil {
		return reconciler.Revision{}, fmt.Errorf("could not read commit %s of %s: %s", tip, Redact(s.cfg.URL), s.hide(err))
	}
	s.last = &rev
	return rev, nil
}

// At gives a revision by its commit id, the beginning of one, or the name of a
// branch, on any branch; the branch that is followed does not move.
func (s *Source) At(ctx context.Context, rev string) (reconciler.Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(err error) (reconciler.Revision, error) {
		return reconciler.Revision{}, fmt.Errorf("could not read %.80q of %s: %s", rev, Redact(s.cfg.URL), s.hide(err))
	}
	auth, err := s.auth()
	if err != nil {
		return fail(err)
	}
	remote, err := s.repo.Remote("origin")
	if err != nil {
		return fail(err)
	}
	err = remote.FetchContext(ctx, &git.FetchOptions{Auth: auth, RefSpecs: []config.RefSpec{"+refs/heads/*:refs/remotes/origin/*"}, Tags: git.NoTags, Force: true})
	if err != nil && !errors.Is(err, git.NoErrAlreadyUpToDate) {
		return fail(err)
	}
	var tip plumbing.Hash
	if ref, err := s.repo.Reference(plumbing.NewRemoteReferenceName("origin", rev), true); err == nil {
		tip = ref.Hash()
	} else if h, err := s.repo.ResolveRevision(plumbing.Revision(rev)); err == nil {
		tip = *h
	} else {
		return fail(errors.New("there is no such commit or branch"))
	}
	found, err := s.revision(tip)
	if err != nil {
		return fail(err)
	}
	return found, nil
}

// Descends says whether commit is new or a descendant of old, as far as the
// fetched history proves it. It serves a daemon that restarts.
func (s *Source) Descends(old, commit string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return old == commit || s.descends(plumbing.NewHash(old), plumbing.NewHash(commit))
}

func (s *Source) fetch(ctx context.Context) (plumbing.Hash, error) {
	auth, err := s.auth()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	remote, err := s.repo.Remote("origin")
	if err != nil {
		return plumbing.ZeroHash, err
	}
	refs, err := remote.ListContext(ctx, &git.ListOptions{Auth: auth})
	if err != nil {
		return plumbing.ZeroHash, err
	}
	name := plumbing.NewBranchReferenceName(s.cfg.Branch)
	tip := plumbing.ZeroHash
	for _, r := range refs {
		if r.Name() == name {
			tip = r.Hash()
		}
	}
	if tip.IsZero() {
		return tip, fmt.Errorf("the repository has no branch %q", s.cfg.Branch)
	}
	if _, err := s.repo.CommitObject(tip); err == nil {
		return tip, nil
	}
	spec := config.RefSpec(fmt.Sprintf("+%s:refs/remotes/origin/%s", name, s.cfg.Branch))
	err = remote.FetchContext(ctx, &git.FetchOptions{Auth: auth, RefSpecs: []config.RefSpec{spec}, Tags: git.NoTags, Force: true})
	if err != nil && !errors.Is(err, git.NoErrAlreadyUpToDate) {
		return plumbing.ZeroHash, err
	}
	ref, err := s.repo.Reference(plumbing.NewRemoteReferenceName("origin", s.cfg.Branch), true)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	return ref.Hash(), nil
}

func (s *Source) revision(tip plumbing.Hash) (reconciler.Revision, error) {
	commit, err := s.repo.CommitObject(tip)
	if err != nil {
		return reconciler.Revision{}, err
	}
	tree, err := commit.Tree()
	if err != nil {
		return reconciler.Revision{}, err
	}
	if s.cfg.Path != "" {
		if tree, err = tree.Tree(s.cfg.Path); err != nil {
			return reconciler.Revision{}, fmt.Errorf("folder %q: %w", s.cfg.Path, err)
		}
	}
	if err := verify(tree); err != nil {
		return reconciler.Revision{}, err
	}
	subject, _, _ := strings.Cut(strings.TrimSpace(commit.Message), "\n")
	rev := reconciler.Revision{Commit: tip.String(), Author: commit.Author.Name + " <" + commit.Author.Email + ">",
		Subject: subject, At: commit.Committer.When, Tree: treeFS{mu: &sync.Mutex{}, root: tree, at: commit.Committer.When}, FastForward: true}
	if s.last != nil {
		rev.Previous = s.last.Commit
		rev.FastForward = s.descends(plumbing.NewHash(s.last.Commit), tip)
	}
	return rev, nil
}

func (s *Source) descends(old, tip plumbing.Hash) bool {
	before, err := s.repo.CommitObject(old)
	if err != nil {
		return false
	}
	after, err := s.repo.CommitObject(tip)
	if err != nil {
		return false
	}
	ok, err := before.IsAncestor(after)
	return err == nil && ok
}

// verify reads every object of the tree once: a fetch that lost objects is an
// error now, not in the middle of a render.
func verify(tree *object.Tree) error {
	files := tree.Files()
	defer files.Close()
	return files.ForEach(func(*object.File) error { return nil })
}

func (s *Source) auth() (transport.AuthMethod, error) {
	switch {
	case s.cfg.TokenFile != "":
		token, err := os.ReadFile(s.cfg.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("git.token_file: %w", err)
		}
		user := s.cfg.User
		if user == "" {
			user = "git"
		}
		return &http.BasicAuth{Username: user, Password: strings.TrimSpace(string(token))}, nil
	case s.cfg.SSHKey != "":
		user := s.cfg.User
		if user == "" {
			user = "git"
		}
		keys, err := ssh.NewPublicKeysFromFile(user, s.cfg.SSHKey, "")
		if err != nil {
			return nil, fmt.Errorf("git.ssh_key: %w", err)
		}
		if s.cfg.KnownHosts != "" {
			check, err := ssh.NewKnownHostsCallback(s.cfg.KnownHosts)
			if err != nil {
				return nil, fmt.Errorf("git.known_hosts: %w", err)
			}
			keys.HostKeyCallback = check
		}
		return keys, nil
	}
	return nil, nil
}

// hide gives err's text without the token and without credentials in URLs.
func (s *Source) hide(err error) string {
	text := strings.ReplaceAll(err.Error(), s.cfg.URL, Redact(s.cfg.URL))
	if u, perr := url.Parse(s.cfg.URL); perr == nil && u.User != nil {
		if password, ok := u.User.Password(); ok && password != "" {
			text = strings.ReplaceAll(text, password, "***")
		}
	}
	if s.cfg.TokenFile != "" {
		if token, rerr := os.ReadFile(s.cfg.TokenFile); rerr == nil {
			if t := strings.TrimSpace(string(token)); t != "" {
				text = strings.ReplaceAll(text, t, "***")
			}
		}
	}
	return text
}

// Redact gives an address without the password that it may carry.
func Redact(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.User == nil {
		return address
	}
	u.User = url.User(u.User.Username())
	return u.String()
}

// checkAddress refuses addresses that name a program or that a program would
// take for an option.
func checkAddress(address string) error {
	bad := func(why string) error {
		return fmt.Errorf("git.url: %q is refused: %s; give https://, ssh://, git@host:path or a local path", Redact(address), why)
	}
	if strings.ContainsFunc(address, unicode.IsControl) {
		return errors.New("git.url: the address has control characters")
	}
	scheme, rest, isURL := strings.Cut(address, "://")
	switch {
	case strings.HasPrefix(address, "-"):
		return bad("it begins like an option")
	case isURL && !slices.Contains([]string{"https", "http", "ssh", "file"}, scheme):
		return bad("it is not one of https, http, ssh and file")
	case !isURL && strings.Contains(address, "::"):
		return bad("a transport of its own would be run")
	}
	_, host, at := strings.Cut(rest, "@")
	if !isURL {
		_, host, at = strings.Cut(address, "@")
	}
	if strings.HasPrefix(rest, "-") || at && strings.HasPrefix(host, "-") {
		return bad("its host begins like an option")
	}
	return nil
}
