// Package signature verifies who signed a commit: with GPG by a keyring, with
// SSH by a file of allowed signers. It fails closed: what it cannot read,
// does not know or does not support is no signature.
//
// Keys are judged as of now, not as of the time that a commit claims: a key
// that has expired or is revoked signs nothing any more.
package signature

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Config names the files that say whose signature counts.
type Config struct {
	GPGKeyring     string // public keys, armored or not
	AllowedSigners string // of SSH, as in ssh-keygen(1)
	RevokedKeys    string // public keys of SSH, one a line
}

// Required says whether commits must be signed.
func (c Config) Required() bool { return c.GPGKeyring != "" || c.AllowedSigners != "" }

// Keys are those whose signature counts.
type Keys struct {
	cfg Config
	gpg keyring
	ssh signers
}

// Load reads the files. An error names the field, and the line that is wrong.
func Load(c Config) (*Keys, error) {
	k := &Keys{cfg: c}
	var err error
	if c.GPGKeyring != "" {
		if k.gpg, err = loadKeyring(c.GPGKeyring); err != nil {
			return nil, fmt.Errorf("git.signatures.gpg_keyring_file: %w", err)
		}
	}
	if c.AllowedSigners != "" {
		if k.ssh, err = loadSigners(c.AllowedSigners); err != nil {
			return nil, fmt.Errorf("git.signatures.ssh_allowed_signers_file: %w", err)
		}
	}
	if c.RevokedKeys != "" {
		if err := k.ssh.revoke(c.RevokedKeys); err != nil {
			return nil, fmt.Errorf("git.signatures.ssh_revoked_keys_file: %w", err)
		}
	}
	return k, nil
}

// String tells how many keys there are.
func (k *Keys) String() string {
	return fmt.Sprintf("%d GPG and %d SSH keys may sign", len(k.gpg), len(k.ssh.allowed))
}

// Refusal is why a commit's signature does not count.
type Refusal struct {
	Why  string // with who signed, as far as it is known
	Next string // what to do
}

func (r *Refusal) Error() string { return r.Why }

func refuse(next, why string, args ...any) *Refusal {
	return &Refusal{Why: fmt.Sprintf(why, args...), Next: next}
}

const (
	nextSign  = "sign it with an allowed key (git commit --amend -S) and push it, or revert to the last good commit"
	nextTrust = "have it signed by an allowed key, or add this key if it is trusted"
	nextAlarm = "do not use this commit: find out who pushed it and how"
)

// Verify says who signed a commit object, whose hashes are SHA-256 or SHA-1.
// Any error is a Refusal.
func (k *Keys) Verify(raw []byte, sha256 bool, now time.Time) (signer string, err error) {
	payload, text, err := split(raw, sha256)
	switch {
	case err != nil:
		return "", refuse(nextAlarm, "%s", err)
	case text == "":
		return "", refuse(nextSign, "it is not signed")
	case strings.HasPrefix(text, "-----BEGIN PGP SIGNATURE-----"):
		return k.gpg.verify(payload, text, now)
	case strings.HasPrefix(text, "-----BEGIN SSH SIGNATURE-----"):
		return k.ssh.verify(payload, text, now)
	}
	return "", refuse(nextSign, "its signature is neither of GPG nor of SSH")
}

// split takes a commit object's signature out of it, as git does before it
// signs: what is left is what was signed.
func split(raw []byte, sha256 bool) (payload []byte, text string, err error) {
	ours, other := "gpgsig", "gpgsig-sha256"
	if sha256 {
		ours, other = other, ours
	}
	header, message, ok := strings.Cut(string(raw), "\n\n")
	if !ok {
		header, message = strings.TrimSuffix(header, "\n"), ""
	}
	var kept, signature []string
	found, in := 0, ""
	for line := range strings.SplitSeq(header, "\n") {
		if value, more := strings.CutPrefix(line, " "); more {
			switch in {
			case ours:
				signature = append(signature, value)
			case other:
			default:
				kept = append(kept, line)
			}
			continue
		}
		var value string
		in, value, _ = strings.Cut(line, " ")
		switch in {
		case ours:
			found++
			signature = []string{value}
		case other:
		default:
			kept = append(kept, line)
		}
	}
	if found > 1 {
		return nil, "", errors.New("it has more than one signature")
	}
	return []byte(strings.Join(kept, "\n") + "\n\n" + message), strings.TrimSpace(strings.Join(signature, "\n")), nil
}
