package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	gitclient "github.com/go-git/go-git/v5/plumbing/transport/client"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/storage/memory"
)

const (
	maxStore   = 1 << 30   // bytes of objects that are held, inflated
	maxHistory = 128 << 20 // of what is read only to learn who descends from whom
	minGrowth  = 16 << 20  // a small store may grow by this before it is made anew
)

// builtin speaks Git's protocol with go-git and keeps objects in memory. It
// begins with the newest commit alone; what comes later is added, until the
// store has doubled and is made anew.
type builtin struct {
	cfg     Config
	store   *store
	first   int64 // the store's size when it was made
	last    plumbing.Hash
	history history
}

func newBuiltin(cfg Config) (*builtin, error) {
	if _, err := transport.NewEndpoint(cfg.URL); err != nil {
		return nil, fmt.Errorf("git.url: %q is no repository address: %w", Redact(cfg.URL), err)
	}
	return &builtin{cfg: cfg, history: history{}}, nil
}

func (b *builtin) objects() objects { return b.store }
func (b *builtin) close() error     { return nil }

func (b *builtin) fetch(ctx context.Context, branch string) (string, error) {
	c, err := b.connect(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	tip, err := c.tip(branch)
	if err != nil || b.store.has(tip) {
		return tip.String(), err
	}
	if b.store == nil {
		return tip.String(), b.begin(ctx, c, tip)
	}
	if err := c.pull(ctx, pull{want: []plumbing.Hash{tip}, have: b.last}, b.store); err != nil {
		// The newest may be whole where one before it is not.
		if anew, err := b.refetch(ctx, branch); err == nil {
			return anew, nil
		}
		return "", err
	}
	b.history.learn(b.store, tip.String())
	b.last = tip
	if b.store.size > max(2*b.first, b.first+minGrowth) {
		return b.refetch(ctx, branch)
	}
	return tip.String(), nil
}

// refetch begins anew with the newest commit alone. Trees that were given out
// keep the store that they came from.
func (b *builtin) refetch(ctx context.Context, branch string) (string, error) {
	c, err := b.connect(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	tip, err := c.tip(branch)
	if err != nil {
		return "", err
	}
	return tip.String(), b.begin(ctx, c, tip)
}

func (b *builtin) begin(ctx context.Context, c *connection, tip plumbing.Hash) error {
	fresh := newStore(maxStore)
	if err := c.pull(ctx, pull{want: []plumbing.Hash{tip}, depth: 1}, fresh); err != nil {
		return err
	}
	b.store, b.first, b.last = fresh, fresh.size, tip
	b.history.learn(fresh, tip.String())
	return nil
}

func (b *builtin) descends(old, commit string) bool { return b.history.descends(old, commit) }

// reach asks for the commits between old and commit, and drops all but who
// descends from whom. What is too much, or what the server cannot give, stays
// unproven.
func (b *builtin) reach(ctx context.Context, old, commit string) error {
	c, err := b.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	scratch := newStore(maxHistory)
	p := pull{want: []plumbing.Hash{plumbing.NewHash(commit)}, have: plumbing.NewHash(old), commitsOnly: true}
	if err := c.pull(ctx, p, scratch); err != nil && ctx.Err() != nil {
		return err
	}
	for h := range scratch.Commits {
		if c, _, err := readCommit(scratch, h.String()); err == nil {
			b.history[h.String()] = c.parents
		}
	}
	return nil
}

// find gives a commit of any branch, with objects of its own.
func (b *builtin) find(ctx context.Context, rev string) (string, objects, error) {
	found := newStore(maxStore)
	if tip, err := b.fetchNamed(ctx, rev, found); err == nil {
		return tip, found, nil
	}
	c, err := b.connect(ctx)
	if err != nil {
		return "", nil, err
	}
	defer c.Close()
	if err := c.pull(ctx, pull{want: c.heads()}, found); err != nil {
		return "", nil, err
	}
	match := ""
	for h := range found.Commits {
		if id := h.String(); len(rev) >= 4 && strings.HasPrefix(id, rev) {
			if match != "" {
				return "", nil, fmt.Errorf("%s and %s begin so: give more of it", match, id)
			}
			match = id
		}
	}
	if match == "" {
		return "", nil, errors.New("there is no such commit or branch")
	}
	return match, found, nil
}

// fetchNamed fetches one commit alone: the tip of a branch of that name, or a
// whole id that the server gives out.
func (b *builtin) fetchNamed(ctx context.Context, rev string, into *store) (string, error) {
	c, err := b.connect(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	tip, err := c.tip(rev)
	if err != nil {
		if !plumbing.IsHash(rev) {
			return "", err
		}
		tip = plumbing.NewHash(rev)
	}
	if err := c.pull(ctx, pull{want: []plumbing.Hash{tip}, depth: 1}, into); err != nil {
		return "", err
	}
	_, _, err = readCommit(into, tip.String())
	return tip.String(), err
}

// connection is one conversation with the server: it tells of its branches and
// gives one pack.
type connection struct {
	transport.UploadPackSession
	refs *packp.AdvRefs
}

// speaker speaks an address's protocol. Over HTTP it connects to no address that
// git.url may not name, wherever a name or a redirect leads.
func speaker(at *transport.Endpoint) (transport.Transport, error) {
	if at.Protocol != "http" && at.Protocol != "https" {
		return gitclient.NewClient(at)
	}
	dialer := &net.Dialer{Timeout: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		if to, err := netip.ParseAddrPort(address); err == nil && metadata(to.Addr()) {
			return fmt.Errorf("%s is refused, to which git.url led: %s", to.Addr(), noGitServer)
		}
		return nil
	}}
	way := http.DefaultTransport.(*http.Transport).Clone()
	way.DialContext, way.DisableKeepAlives = dialer.DialContext, true
	return githttp.NewClient(&http.Client{Transport: way}), nil
}

func (b *builtin) connect(ctx context.Context) (*connection, error) {
	auth, err := b.cfg.auth()
	if err != nil {
		return nil, err
	}
	at, err := transport.NewEndpoint(b.cfg.URL)
	if err != nil {
		return nil, err
	}
	t, err := speaker(at)
	if err != nil {
		return nil, err
	}
	session, err := t.NewUploadPackSession(at, auth)
	if err != nil {
		return nil, err
	}
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		session.Close()
		switch {
		case errors.Is(err, transport.ErrEmptyRemoteRepository):
			err = errors.New("the repository has no commits")
		case strings.Contains(err.Error(), "object-format=sha256"):
			err = errors.New("the repository has SHA-256 hashes, which the built-in client does not read: set git.client: git")
		}
		return nil, err
	}
	return &connection{session, refs}, nil
}

func (c *connection) tip(branch string) (plumbing.Hash, error) {
	tip, ok := c.refs.References["refs/heads/"+branch]
	if !ok {
		return tip, noBranch(branch)
	}
	return tip, nil
}

func (c *connection) heads() []plumbing.Hash {
	var out []plumbing.Hash
	for name, h := range c.refs.References {
		if strings.HasPrefix(name, "refs/heads/") {
			out = append(out, h)
		}
	}
	return out
}

// pull is what is asked of a server. What a client has it has with all that
// came before: then the server sends no more than what is new, but may leave
// out what only an older commit holds; that is seen when it is verified.
type pull struct {
	want        []plumbing.Hash
	have        plumbing.Hash
	depth       int  // commits; 0: all
	commitsOnly bool // trees and files may be left out
}

func (c *connection) pull(ctx context.Context, p pull, into *store) (err error) {
	req := packp.NewUploadPackRequestFromCapabilities(c.refs.Capabilities)
	req.Wants = p.want
	if !p.have.IsZero() {
		req.Haves = []plumbing.Hash{p.have}
	}
	if p.depth > 0 {
		req.Depth = packp.DepthCommits(p.depth)
		if err := req.Capabilities.Set(capability.Shallow); err != nil {
			return err
		}
	}
	if p.commitsOnly && c.refs.Capabilities.Supports(capability.Filter) {
		req.Filter = packp.FilterTreeDepth(0)
		if err := req.Capabilities.Set(capability.Filter); err != nil {
			return err
		}
	}
	answer, err := c.UploadPack(ctx, req)
	if errors.Is(err, transport.ErrEmptyUploadPackRequest) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, answer.Close()) }()
	var pack io.Reader = answer
	switch {
	case req.Capabilities.Supports(capability.Sideband64k):
		pack = sideband.NewDemuxer(sideband.Sideband64k, answer)
	case req.Capabilities.Supports(capability.Sideband):
		pack = sideband.NewDemuxer(sideband.Sideband, answer)
	}
	return packfile.UpdateObjectStorage(into, pack)
}

var errTooLarge = errors.New("the repository is too large for the built-in client: set git.client: git, or a smaller git.path in a repository of its own")

// store keeps objects in memory, up to a limit.
type store struct {
	*memory.Storage
	size, limit int64
}

func newStore(limit int64) *store { return &store{Storage: memory.NewStorage(), limit: limit} }

// SetEncodedObject implements storer.EncodedObjectStorer.
func (s *store) SetEncodedObject(o plumbing.EncodedObject) (plumbing.Hash, error) {
	if s.size += o.Size(); s.size > s.limit {
		return plumbing.ZeroHash, errTooLarge
	}
	return s.Storage.SetEncodedObject(o)
}

func (s *store) has(h plumbing.Hash) bool { return s != nil && s.HasEncodedObject(h) == nil }

func (s *store) object(id string) (string, []byte, error) {
	o, err := s.EncodedObject(plumbing.AnyObject, plumbing.NewHash(id))
	if err != nil {
		return "", nil, errMissing
	}
	r, err := o.Reader()
	if err != nil {
		return "", nil, err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	return o.Type().String(), content, err
}
