package gitsource_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"locktide.dev/reconciler"
	"locktide.dev/reconciler/gitsource"
	"locktide.dev/reconciler/gitsource/signature"
)

// Where signatures are required, a head without a good one is refused by name
// and the last good one stays; a signed one after it is taken.
func TestOnlySignedHeadsAreTaken(t *testing.T) {
	each(t, func(t *testing.T, cfg gitsource.Config) {
		o := newOrigin(t)
		key := filepath.Join(t.TempDir(), "key")
		out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput()
		if err != nil {
			t.Fatalf("ssh-keygen: %v %s", err, out)
		}
		public, err := os.ReadFile(key + ".pub")
		must(t, err)
		allowed := filepath.Join(t.TempDir(), "allowed")
		must(t, os.WriteFile(allowed, append([]byte("ada@example.org "), public...), 0o600))
		sign := func() string {
			o.git("-c", "gpg.format=ssh", "-c", "user.signingKey="+key, "commit", "-q", "--amend", "-S", "--no-edit")
			return o.git("rev-parse", "HEAD")
		}
		s := open(t, with(cfg, gitsource.Config{URL: o.dir, Signatures: signature.Config{AllowedSigners: allowed}}))
		refused := func(commit, why string) {
			t.Helper()
			for range 2 {
				rev, err := s.Latest(t.Context())
				var r *reconciler.Refused
				if !errors.As(err, &r) || rev.Tree != nil || r.Code != "signature" || r.Commit != commit || !strings.Contains(r.Why, why) || r.Next == "" || r.Author != "Ada <ada@example.org>" {
					t.Errorf("revision %s, error %v", rev.Commit, err)
				}
			}
		}
		refused(o.commit("a.yaml", "one\n"), "not signed")
		first := sign()
		if rev := latest(t, s, first); !strings.Contains(rev.Signer, "ada@example.org") || !rev.FastForward {
			t.Errorf("signed by %q, fast-forward %v", rev.Signer, rev.FastForward)
		}
		// The signature of the first one on another commit.
		o.commit("a.yaml", "two\n")
		header, _, _ := strings.Cut(o.git("cat-file", "commit", first), "\n\n")
		forged := strings.Replace(o.git("cat-file", "commit", "HEAD"), "\n\n", header[strings.Index(header, "\ngpgsig "):]+"\n\n", 1)
		raw := filepath.Join(t.TempDir(), "commit")
		must(t, os.WriteFile(raw, []byte(forged), 0o600))
		replayed := o.git("hash-object", "-t", "commit", "-w", raw)
		o.git("reset", "-q", "--hard", replayed)
		refused(replayed, "does not fit")
		// An unsigned one on top of it, then a signed one: the head counts.
		refused(o.commit("a.yaml", "three\n"), "not signed")
		o.commit("a.yaml", "four\n")
		second := sign()
		rev := latest(t, s, second)
		content(t, rev, "a.yaml", "four\n")
		if !rev.FastForward || rev.Previous != first {
			t.Errorf("previous %s, fast-forward %v", rev.Previous, rev.FastForward)
		}
		// The key is taken away without a restart: what comes then is refused.
		must(t, os.WriteFile(allowed, []byte("eve@example.org "+otherKey(t)+"\n"), 0o600))
		o.commit("a.yaml", "five\n")
		refused(sign(), "does not hold")
		must(t, os.Remove(allowed))
		if rev, err := s.Latest(t.Context()); err == nil || !strings.Contains(err.Error(), "ssh_allowed_signers_file") {
			t.Errorf("without the file: revision %s, error %v", rev.Commit, err)
		}
	})
}

func otherKey(t *testing.T) string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	must(t, exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).Run())
	public, err := os.ReadFile(key + ".pub")
	must(t, err)
	return strings.TrimSpace(string(public))
}
