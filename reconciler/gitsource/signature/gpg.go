package signature

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// keyring holds the public keys of GPG whose signature counts.
type keyring openpgp.EntityList

func loadKeyring(file string) (keyring, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	read := openpgp.ReadKeyRing
	if bytes.Contains(raw, []byte("-----BEGIN PGP")) {
		read = openpgp.ReadArmoredKeyRing
	}
	list, err := read(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s is no keyring of GPG (gpg --export --armor): %w", file, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s holds no key", file)
	}
	return keyring(list), nil
}

func (k keyring) verify(payload []byte, text string, now time.Time) (string, error) {
	id := issuer(text)
	if len(k) == 0 {
		return "", refuse(nextTrust, "it is signed with GPG by %s, and no gpg_keyring_file is configured", id)
	}
	cfg := &packet.Config{Time: func() time.Time { return now }}
	signer, err := openpgp.CheckArmoredDetachedSignature(openpgp.EntityList(k), bytes.NewReader(payload), strings.NewReader(text), cfg)
	who := id
	if signer != nil {
		who = name(signer)
	}
	switch {
	case err == nil:
		return who, nil
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return "", refuse(nextTrust, "it is signed by the GPG key %s, which gpg_keyring_file does not hold", id)
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return "", refuse(nextTrust, "it is signed by %s, whose key is not valid now: it has expired, or begins later", who)
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return "", refuse(nextAlarm, "it is signed by %s, whose key is revoked", who)
	case errors.Is(err, pgperrors.ErrSignatureExpired), errors.Is(err, pgperrors.ErrSignatureOlderThanKey):
		return "", refuse("compare the clocks of the signer and of this host, or sign it anew", "the signature of %s has expired, or was made at a time that cannot be", who)
	}
	return "", refuse(nextAlarm, "its signature by the GPG key %s does not fit it: it was changed after it was signed, or carries another commit's signature (%s)", id, err)
}

// name gives the key's main identity and fingerprint.
func name(e *openpgp.Entity) string {
	fingerprint := fmt.Sprintf("%X", e.PrimaryKey.Fingerprint)
	if i := e.PrimaryIdentity(); i != nil {
		return fmt.Sprintf("%s (GPG key %s)", i.Name, fingerprint)
	}
	return "the GPG key " + fingerprint
}

// issuer gives the id of the key that a signature claims.
func issuer(text string) string {
	block, err := armor.Decode(strings.NewReader(text))
	if err != nil {
		return "unknown"
	}
	p, err := packet.NewReader(block.Body).Next()
	if s, ok := p.(*packet.Signature); ok && err == nil && s.IssuerKeyId != nil {
		return fmt.Sprintf("%016X", *s.IssuerKeyId)
	}
	return "unknown"
}
