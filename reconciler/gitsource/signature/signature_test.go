package signature_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"locktide.dev/reconciler/gitsource/signature"
)

// signer makes commits with real keys, and what says that they count.
type signer struct {
	t    *testing.T
	repo string
	env  []string
	args []string // of git, to sign with its key
}

func run(t *testing.T, env []string, dir, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = dir, append(os.Environ(), env...), strings.NewReader(stdin)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, said.String())
	}
	return out.String()
}

func newRepo(t *testing.T, format string, env, args []string) signer {
	s := signer{t, t.TempDir(), append(env, "GIT_CONFIG_GLOBAL=/dev/null"), args}
	run(t, s.env, s.repo, "", "git", "init", "-q", "--object-format="+format)
	return s
}

// commit gives the raw object of a new commit.
func (s signer) commit(message string, more ...string) string {
	s.t.Helper()
	args := append([]string{"-c", "user.name=Ada", "-c", "user.email=ada@example.org"}, s.args...)
	args = append(args, "commit", "-q", "--allow-empty", "-m", message)
	run(s.t, s.env, s.repo, "", "git", append(args, more...)...)
	return run(s.t, s.env, s.repo, "", "git", "cat-file", "commit", "HEAD")
}

// gpgHome makes a home of GPG with one key, and gives its fingerprint.
func gpgHome(t *testing.T, expires string) (env []string, fingerprint string) {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg") // a short name: an agent's socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	env = []string{"GNUPGHOME=" + home}
	t.Cleanup(func() {
		run(t, env, "/", "", "gpgconf", "--kill", "all")
		_ = os.RemoveAll(home) // the agent may remove its socket meanwhile
	})
	run(t, env, "/", "", "gpg", "--batch", "-q", "--passphrase", "", "--quick-generate-key", "Ada <ada@example.org>", "ed25519", "sign", expires)
	for line := range strings.SplitSeq(run(t, env, "/", "", "gpg", "--batch", "--with-colons", "-K"), "\n") {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			return env, f[9]
		}
	}
	t.Fatal("no key")
	return nil, ""
}

func sshKey(t *testing.T, kind string) (file, public string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	run(t, nil, "/", "", "ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "ada", "-f", file)
	raw, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimSpace(string(raw))
}

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// verify gives who signed, or "" and why not.
func verify(t *testing.T, c signature.Config, raw string, now time.Time) (string, string) {
	t.Helper()
	keys, err := signature.Load(c)
	if err != nil {
		t.Fatal(err)
	}
	who, err := keys.Verify([]byte(raw), strings.Contains(raw, "\ngpgsig-sha256 "), now)
	if err == nil {
		return who, ""
	}
	var r *signature.Refusal
	if !errors.As(err, &r) || r.Next == "" || who != "" {
		t.Fatalf("signed by %q, error %v without what to do", who, err)
	}
	return "", r.Why
}

func counts(t *testing.T, c signature.Config, raw, who string) {
	t.Helper()
	if got, why := verify(t, c, raw, time.Now()); !strings.Contains(got, who) || why != "" {
		t.Errorf("signed by %q, want %q: %s", got, who, why)
	}
}

func refused(t *testing.T, c signature.Config, raw string, now time.Time, because ...string) {
	t.Helper()
	who, why := verify(t, c, raw, now)
	if who != "" {
		t.Errorf("a signature by %s counts; want: %s", who, because)
	}
	for _, part := range because {
		if !strings.Contains(why, part) {
			t.Errorf("refused because %q, which does not say %q", why, part)
		}
	}
}

// carried gives a commit the signature of another.
func carried(of, to string) string {
	start := strings.Index(of, "gpgsig")
	end := strings.Index(of[start:], "-----END ")
	end = start + end + strings.Index(of[start+end:], "\n") + 1
	if next := of[end:]; strings.HasPrefix(next, " ") { // git ends GPG's with an empty line
		end += strings.Index(next, "\n") + 1
	}
	head, message, _ := strings.Cut(to, "\n\n")
	return head + "\n" + of[start:end] + "\n" + message
}

func TestGPG(t *testing.T) {
	t.Parallel()
	env, fingerprint := gpgHome(t, "1y")
	other, _ := gpgHome(t, "never")
	export := func(env []string) string { return run(t, env, "/", "", "gpg", "--batch", "--armor", "--export") }
	c := signature.Config{GPGKeyring: write(t, export(env))}
	binary := signature.Config{GPGKeyring: write(t, run(t, env, "/", "", "gpg", "--batch", "--export"))}
	stranger := signature.Config{GPGKeyring: write(t, export(other))}
	_, public := sshKey(t, "ed25519")
	onlySSH := signature.Config{AllowedSigners: write(t, "ada "+public+"\n")}
	for _, format := range []string{"sha1", "sha256"} {
		s := newRepo(t, format, env, nil)
		unsigned := s.commit("Unsigned")
		signed := s.commit("Signed", "-S")
		counts(t, c, signed, fingerprint)
		counts(t, c, signed, "Ada <ada@example.org>")
		counts(t, binary, signed, fingerprint)
		now := time.Now()
		refused(t, c, unsigned, now, "it is not signed")
		refused(t, stranger, signed, now, fingerprint[len(fingerprint)-16:], "does not hold")
		refused(t, onlySSH, signed, now, "no gpg_keyring_file")
		refused(t, c, strings.Replace(signed, "\n\nSigned", "\n\nForged", 1), now, "does not fit")
		refused(t, c, strings.Replace(signed, "author Ada", "author Eve", 1), now, "does not fit")
		refused(t, c, carried(signed, unsigned), now, "does not fit")
		refused(t, c, carried(signed, signed), now, "more than one")
		refused(t, c, signed, now.AddDate(2, 0, 0), "Ada", "expired")
		refused(t, c, signed, now.AddDate(-1, 0, 0), "begins later")
	}

	// A subkey signs for its key.
	run(t, env, "/", "", "gpg", "--batch", "-q", "--passphrase", "", "--quick-add-key", fingerprint, "ed25519", "sign", "never")
	s := newRepo(t, "sha1", env, nil)
	bySubkey := s.commit("By a subkey", "-S")
	counts(t, signature.Config{GPGKeyring: write(t, export(env))}, bySubkey, fingerprint)
	refused(t, c, bySubkey, time.Now(), "does not hold")

	// The key is revoked later.
	raw, err := os.ReadFile(filepath.Join(strings.TrimPrefix(env[0], "GNUPGHOME="), "openpgp-revocs.d", fingerprint+".rev"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, env, "/", strings.Replace(string(raw), ":-----BEGIN", "-----BEGIN", 1), "gpg", "--batch", "-q", "--import")
	refused(t, signature.Config{GPGKeyring: write(t, export(env))}, bySubkey, time.Now(), "Ada", "revoked")
}

func TestSSH(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		key, public := sshKey(t, kind)
		_, stranger := sshKey(t, "ed25519")
		as := func(options string) signature.Config {
			return signature.Config{AllowedSigners: write(t, "# who may sign\n\neve@example.org "+stranger+"\nada@example.org "+options+public+"\n")}
		}
		s := newRepo(t, "sha1", nil, []string{"-c", "gpg.format=ssh", "-c", "user.signingKey=" + key})
		unsigned := s.commit("Unsigned")
		signed := s.commit("Signed", "-S")
		for _, options := range []string{"", `namespaces="git" `, `namespaces="file,g*",valid-after="20200101",valid-before="20990101Z" `, `valid-after="202001010000" `} {
			counts(t, as(options), signed, "ada@example.org (SSH key SHA256:")
		}
		now := time.Now()
		refused(t, as(""), unsigned, now, "it is not signed")
		refused(t, signature.Config{AllowedSigners: write(t, "eve@example.org "+stranger+"\n")}, signed, now, "SHA256:", "does not hold")
		refused(t, as(""), strings.Replace(signed, "\n\nSigned", "\n\nForged", 1), now, "does not fit")
		refused(t, as(""), carried(signed, unsigned), now, "does not fit")
		refused(t, as(`valid-before="20200101" `), signed, now, "ada@example.org", "expired", "2020-01-01")
		refused(t, as(`valid-after="20990101" `), signed, now, "ada@example.org", "only from")
		refused(t, as(`namespaces="file" `), signed, now, "ada@example.org", "namespace git")
		refused(t, as(`namespaces="*,!git" `), signed, now, "namespace git")
		revoked := as("")
		revoked.RevokedKeys = write(t, public+"\n")
		refused(t, revoked, signed, now, "SHA256:", "revoked")
		// A signature that was made for something else.
		payload := write(t, unsigned)
		run(t, nil, "/", "", "ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", key, payload)
		text, err := os.ReadFile(payload + ".sig")
		if err != nil {
			t.Fatal(err)
		}
		sig := "gpgsig " + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n ") + "\n"
		refused(t, as(""), strings.Replace(unsigned, "\n\n", "\n"+sig+"\n", 1), now, "does not fit", "namespace")
	}
}

// A certificate is signed by somebody who is allowed, the key in it is not.
func TestSSHCertificates(t *testing.T) {
	t.Parallel()
	authority, public := sshKey(t, "ed25519")
	key, own := sshKey(t, "ed25519")
	run(t, nil, "/", "", "ssh-keygen", "-q", "-s", authority, "-I", "ada", "-n", "ada", key+".pub")
	s := newRepo(t, "sha1", nil, []string{"-c", "gpg.format=ssh", "-c", "user.signingKey=" + key + "-cert.pub"})
	signed := s.commit("Signed", "-S")
	for _, line := range []string{"ada " + own, "ada " + public} {
		refused(t, signature.Config{AllowedSigners: write(t, line+"\n")}, signed, time.Now(), "certificate")
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	_, public := sshKey(t, "ed25519")
	small := filepath.Join(t.TempDir(), "small")
	run(t, nil, "/", "", "ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", small)
	weak, err := os.ReadFile(small + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                      "names nobody",
		"# nobody\n":            "names nobody",
		"ada\n":                 "file:1",
		"\nada ssh-ed25519 x\n": "file:2",
		"*.example cert-authority " + public + "\n":              "cert-authority is not supported",
		"ada verify-required " + public + "\n":                   `"verify-required" is not known`,
		"ada valid-before=\"tomorrow\" " + public + "\n":         `"tomorrow" is no time`,
		"ada " + public + "\nada valid-after=\"2026\" " + public: "file:2",
		"ada " + string(weak):                                    "1024 bits",
	} {
		_, err := signature.Load(signature.Config{AllowedSigners: write(t, text)})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "git.signatures.ssh_allowed_signers_file") {
			t.Errorf("%q: error %v", text, err)
		}
	}
	good := write(t, "ada "+public+"\n")
	for _, text := range []string{"SSHKRL\n\x00", "not a key\n"} {
		if _, err := signature.Load(signature.Config{AllowedSigners: good, RevokedKeys: write(t, text)}); err == nil || !strings.Contains(err.Error(), "ssh_revoked_keys_file") {
			t.Errorf("%q: error %v", text, err)
		}
	}
	for _, text := range []string{"", "nothing", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"} {
		if _, err := signature.Load(signature.Config{GPGKeyring: write(t, text)}); err == nil || !strings.Contains(err.Error(), "gpg_keyring_file") {
			t.Errorf("%q: error %v", text, err)
		}
	}
	if _, err := signature.Load(signature.Config{GPGKeyring: "/nowhere"}); err == nil {
		t.Error("a keyring that is not there was read")
	}
}

// Whatever the commit, no signature counts that no key made.
func FuzzVerify(f *testing.F) {
	name := filepath.Join(f.TempDir(), "signers")
	const nobody = "ada ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFmH0xYk2yWqJZ5p8lHLGPbZCKpDRPYFYfHFFQFJxGY2\n"
	if err := os.WriteFile(name, []byte(nobody), 0o600); err != nil {
		f.Fatal(err)
	}
	keys, err := signature.Load(signature.Config{AllowedSigners: name})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("tree 1\nauthor a\n\nx"))
	f.Add([]byte("tree 1\ngpgsig -----BEGIN SSH SIGNATURE-----\n U1NIU0lH\n -----END SSH SIGNATURE-----\n\nx"))
	f.Add([]byte("tree 1\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n iQ==\n -----END PGP SIGNATURE-----\n\nx"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if who, err := keys.Verify(raw, false, time.Unix(1<<31, 0)); err == nil {
			t.Errorf("signed by %s", who)
		}
	})
}
