package signature

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// namespace is what git signs for.
const namespace = "git"

// dsa is a kind of key, and of signature, that proves nothing.
const dsa = "ssh-dss"

// signers are the keys of SSH whose signature counts.
type signers struct {
	allowed []signer
	revoked map[string]bool // by fingerprint
}

// signer is one line of an allowed signers file.
type signer struct {
	principals    string
	fingerprint   string
	namespaces    []string // patterns; none: all
	after, before time.Time
}

func loadSigners(file string) (signers, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return signers{}, err
	}
	var s signers
	for i, line := range strings.Split(string(raw), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		one, err := parseSigner(line)
		if err != nil {
			return signers{}, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
		s.allowed = append(s.allowed, one)
	}
	if len(s.allowed) == 0 {
		return signers{}, fmt.Errorf("%s names nobody", file)
	}
	return s, nil
}

// parseSigner reads "principals [options] keytype base64 [comment]".
func parseSigner(line string) (signer, error) {
	principals, rest, _ := cutField(line)
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return signer{}, fmt.Errorf("want principals, options, key type and key: %w", err)
	}
	if err := strong(key); err != nil {
		return signer{}, err
	}
	s := signer{principals: principals, fingerprint: ssh.FingerprintSHA256(key)}
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "namespaces":
			s.namespaces = strings.Split(value, ",")
		case "valid-after":
			s.after, err = parseTime(value)
		case "valid-before":
			s.before, err = parseTime(value)
		case "cert-authority":
			err = errors.New("cert-authority is not supported: name the keys themselves")
		default:
			err = fmt.Errorf("the option %q is not known: namespaces, valid-after and valid-before are", name)
		}
		if err != nil {
			return signer{}, err
		}
	}
	return s, nil
}

// cutField cuts the first word off a line; it may stand in quotes.
func cutField(line string) (first, rest string, ok bool) {
	if quoted, found := strings.CutPrefix(line, `"`); found {
		return strings.Cut(quoted, `"`)
	}
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return line, "", false
	}
	return line[:i], strings.TrimLeft(line[i:], " \t"), true
}

// parseTime reads YYYYMMDD or YYYYMMDDHHMM[SS], in UTC with a Z, else here.
func parseTime(s string) (time.Time, error) {
	digits, utc := strings.CutSuffix(s, "Z")
	zone := time.Local
	if utc {
		zone = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if t, err := time.ParseInLocation(layout, digits, zone); err == nil && len(digits) == len(layout) {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: want YYYYMMDD or YYYYMMDDHHMM[SS], with a Z for UTC", s)
}

// strong refuses keys that prove nothing today, and certificates.
func strong(key ssh.PublicKey) error {
	if _, ok := key.(*ssh.Certificate); ok {
		return errors.New("a certificate is not supported: name the key itself")
	}
	if key.Type() == dsa {
		return errors.New("a DSA key proves nothing: use ed25519")
	}
	if k, ok := key.(ssh.CryptoPublicKey); ok {
		if r, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok && r.N.BitLen() < 2048 {
			return fmt.Errorf("an RSA key of %d bits proves nothing: use ed25519", r.N.BitLen())
		}
	}
	return nil
}

// revoke reads the keys that sign nothing any more.
func (s *signers) revoke(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if bytes.HasPrefix(raw, []byte("SSHKRL")) {
		return fmt.Errorf("%s is a revocation list in OpenSSH's binary form, which is not supported: list the public keys, one a line", file)
	}
	s.revoked = map[string]bool{}
	for i, line := range strings.Split(string(raw), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return fmt.Errorf("%s:%d: want a public key: %w", file, i+1, err)
		}
		s.revoked[ssh.FingerprintSHA256(key)] = true
	}
	return nil
}

func (s signers) verify(payload []byte, text string, now time.Time) (string, error) {
	sig, err := sshsig.Unarmor([]byte(text))
	if err != nil {
		return "", refuse(nextAlarm, "its SSH signature cannot be read: %s", err)
	}
	fingerprint := ssh.FingerprintSHA256(sig.PublicKey)
	who := "the SSH key " + fingerprint
	if err := strong(sig.PublicKey); err != nil {
		return "", refuse(nextTrust, "it is signed by %s: %s", who, err)
	}
	if len(s.allowed) == 0 {
		return "", refuse(nextTrust, "it is signed by %s, and no ssh_allowed_signers_file is configured", who)
	}
	// SHA-1 and the like prove nothing.
	if f := sig.Signature.Format; f == ssh.KeyAlgoRSA || f == dsa {
		return "", refuse(nextTrust, "it is signed by %s with the weak algorithm %s", who, f)
	}
	if err := sshsig.Verify(bytes.NewReader(payload), sig, sig.PublicKey, sig.HashAlgorithm, namespace); err != nil {
		return "", refuse(nextAlarm, "its signature by %s does not fit it: it was changed after it was signed, or carries another commit's signature (%s)", who, err)
	}
	if s.revoked[fingerprint] {
		return "", refuse(nextAlarm, "it is signed by %s, which is revoked", who)
	}
	why := "ssh_allowed_signers_file does not hold"
	for _, one := range s.allowed {
		if one.fingerprint != fingerprint {
			continue
		}
		who = fmt.Sprintf("%s (SSH key %s)", one.principals, fingerprint)
		switch {
		case !one.signsFor(namespace):
			why = "may not sign for the namespace git"
		case !one.after.IsZero() && now.Before(one.after):
			why = "is valid only from " + one.after.Format(time.RFC3339)
		case !one.before.IsZero() && !now.Before(one.before):
			why = "has expired: it was valid until " + one.before.Format(time.RFC3339)
		default:
			return who, nil
		}
	}
	return "", refuse(nextTrust, "it is signed by %s, which %s", who, why)
}

// signsFor says whether a key may sign for a namespace: some pattern matches,
// and none with a "!".
func (s signer) signsFor(namespace string) bool {
	if s.namespaces == nil {
		return true
	}
	matches := func(pattern string) bool {
		ok, err := path.Match(pattern, namespace)
		return err == nil && ok
	}
	if slices.ContainsFunc(s.namespaces, func(p string) bool { return strings.HasPrefix(p, "!") && matches(p[1:]) }) {
		return false
	}
	return slices.ContainsFunc(s.namespaces, matches)
}
