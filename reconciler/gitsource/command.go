package gitsource

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// command follows a branch with the git command and a bare mirror on disk. The
// mirror begins with the newest commit alone, and keeps what comes later.
type command struct {
	git    git
	dir    string // of the mirror
	temp   string // to be removed at the end; "" if the mirror stays
	mirror *mirror
}

func newCommand(cfg Config) (*command, error) {
	c := &command{git: git{cfg}}
	folder := cfg.MirrorDir
	if folder == "" {
		var err error
		if folder, err = os.MkdirTemp("", "locktide-git-"); err != nil {
			return nil, fmt.Errorf("could not make a folder for the mirror: %w", err)
		}
		c.temp = folder
	}
	// Another repository or another branch has another mirror.
	name := sha256.Sum256([]byte(cfg.URL + "\n" + cfg.Branch))
	c.dir = filepath.Join(folder, fmt.Sprintf("%x.git", name[:8]))
	c.mirror = &mirror{git: c.git, dir: c.dir}
	return c, nil
}

func (c *command) objects() objects { return c.mirror }

func (c *command) close() error {
	c.mirror.stop()
	if c.temp == "" {
		return nil
	}
	return os.RemoveAll(c.temp)
}

func (c *command) fetch(ctx context.Context, branch string) (string, error) {
	tip, err := c.remoteTip(ctx, branch)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(c.dir); err != nil {
		return c.refetch(ctx, branch)
	}
	if have, err := c.tip(ctx, branch); err == nil && have == tip {
		return tip, nil
	}
	if err := c.pull(ctx, c.dir, branch); err != nil {
		// A mirror that a crash or its disk has damaged is made anew.
		if anew, err := c.refetch(ctx, branch); err == nil {
			return anew, nil
		}
		return "", err
	}
	return c.tip(ctx, branch)
}

func (c *command) refetch(ctx context.Context, branch string) (string, error) {
	fresh := c.dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(fresh), 0o700); err != nil {
		return "", fmt.Errorf("git.mirror_dir: %w", err)
	}
	format := "sha1"
	if tip, err := c.remoteTip(ctx, branch); err != nil {
		return "", err
	} else if len(tip) == 2*sha256.Size {
		format = "sha256"
	}
	if _, err := c.git.run(ctx, "init", "--quiet", "--bare", "--template=", "--object-format="+format, fresh); err != nil {
		return "", err
	}
	if err := c.pull(ctx, fresh, branch, "--depth=1"); err != nil {
		return "", err
	}
	c.mirror.stop()
	if err := errors.Join(os.RemoveAll(c.dir), os.Rename(fresh, c.dir)); err != nil {
		return "", err
	}
	c.mirror = &mirror{git: c.git, dir: c.dir}
	return c.tip(ctx, branch)
}

func (c *command) descends(old, commit string) bool {
	if !isID(old) || !isID(commit) {
		return false
	}
	_, err := c.git.run(context.Background(), "--git-dir="+c.dir, "merge-base", "--is-ancestor", old, commit)
	return err == nil
}

// reach fetches the whole history. What the server cannot give stays unproven.
func (c *command) reach(ctx context.Context, _, _ string) error {
	branch := c.git.cfg.Branch
	if err := c.deepen(ctx, branch); err == nil {
		return nil
	}
	_, err := c.remoteTip(ctx, branch)
	return err
}

func (c *command) find(ctx context.Context, rev string) (string, objects, error) {
	if _, err := os.Stat(c.dir); err != nil {
		if _, err := c.refetch(ctx, c.git.cfg.Branch); err != nil {
			return "", nil, err
		}
	}
	if err := c.deepen(ctx, "*"); err != nil {
		return "", nil, err
	}
	if id, err := c.tip(ctx, rev); err == nil && plumbing.NewBranchReferenceName(rev).Validate() == nil {
		return id, c.mirror, nil
	}
	id, err := c.git.run(ctx, "--git-dir="+c.dir, "rev-parse", "--verify", "--quiet", "--end-of-options", rev+"^{commit}")
	if err != nil || len(rev) < 4 || !strings.HasPrefix(id, rev) {
		return "", nil, errors.New("there is no such commit or branch")
	}
	return id, c.mirror, nil
}

// deepen fetches branches with all that came before them.
func (c *command) deepen(ctx context.Context, branches string) error {
	shallow, err := c.git.run(ctx, "--git-dir="+c.dir, "rev-parse", "--is-shallow-repository")
	if err != nil {
		return err
	}
	if shallow == "true" {
		return c.pull(ctx, c.dir, branches, "--unshallow")
	}
	return c.pull(ctx, c.dir, branches)
}

// pull fetches branches into a mirror.
func (c *command) pull(ctx context.Context, dir, branches string, options ...string) error {
	args := append([]string{"--git-dir=" + dir, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--force"}, options...)
	_, err := c.git.run(ctx, append(args, "--", c.git.cfg.bareURL(), "+refs/heads/"+branches+":refs/heads/"+branches)...)
	return err
}

// remoteTip asks the server.
func (c *command) remoteTip(ctx context.Context, branch string) (string, error) {
	out, err := c.git.run(ctx, "ls-remote", "--", c.git.cfg.bareURL(), "refs/heads/"+branch)
	if err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(out, "\n") {
		if id, name, _ := strings.Cut(line, "\t"); name == "refs/heads/"+branch && isID(id) {
			return id, nil
		}
	}
	return "", noBranch(branch)
}

func (c *command) tip(ctx context.Context, branch string) (string, error) {
	return c.git.run(ctx, "--git-dir="+c.dir, "rev-parse", "--verify", "--end-of-options", "refs/heads/"+branch)
}
