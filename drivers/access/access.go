// Package access is how a driver reaches the HTTP API of a server: a CA, a
// client certificate and an ACL token in files, of which certificate and
// token are used anew as soon as their files change. No error shows a token.
package access

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Files of one server; empty: none.
type Files struct {
	CA         string // PEM certificates that may sign the server's; none: the system's
	Cert, Key  string // client certificate, both or none
	ServerName string // expected in the server's certificate; none: the host of its address
	Token      string // ACL token
}

// Transport gives a transport that uses the files and sends the token under
// header. base is changed. An error names the field that is wrong.
func (f Files) Transport(base *http.Transport, header string) (http.RoundTripper, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s holds no PEM certificate", f.CA)
		}
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, errors.New("cert_file and key_file go together")
	}
	if f.Cert != "" {
		pair := &pair{cert: file{path: f.Cert}, key: file{path: f.Key}}
		if _, err := pair.get(); err != nil {
			return nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get() }
	}
	base.TLSClientConfig, base.ForceAttemptHTTP2 = config, false
	if f.Token == "" {
		return base, nil
	}
	t := &tokened{next: base, header: header, token: file{path: f.Token}}
	if _, err := t.read(); err != nil {
		return nil, err
	}
	return t, nil
}

// file is read again when it changes. Its times are coarse, so that a change
// right after another one may not show in them: a young file is read always.
type file struct {
	path string
	info os.FileInfo // as it was read; nil: read it again
	data []byte
}

const young = 2 * time.Second

// load gives the content and whether it changed.
func (f *file) load() ([]byte, bool, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return f.data, false, err
	}
	if f.info != nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) && info.Size() == f.info.Size() && time.Since(info.ModTime()) > young {
		return f.data, false, nil
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return f.data, false, err
	}
	changed := !bytes.Equal(data, f.data)
	f.data, f.info = data, info
	return data, changed, nil
}

// pair is a client certificate. While its files are being exchanged and do
// not fit, the one before stays in use.
type pair struct {
	mu        sync.Mutex
	cert, key file
	good      *tls.Certificate
}

func (p *pair) get() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cert, fresh, err := p.cert.load()
	if err != nil && p.good == nil {
		return nil, fmt.Errorf("cert_file: %w", err)
	}
	key, changed, err := p.key.load()
	if err != nil && p.good == nil {
		return nil, fmt.Errorf("key_file: %w", err)
	}
	if !fresh && !changed && p.good != nil {
		return p.good, nil
	}
	loaded, err := tls.X509KeyPair(cert, key)
	if err == nil {
		p.good = &loaded
	}
	if p.good == nil {
		return nil, fmt.Errorf("cert_file %s with key_file %s: %w", p.cert.path, p.key.path, err)
	}
	return p.good, nil
}

// tokened puts the token on every request.
type tokened struct {
	next   http.RoundTripper
	header string
	mu     sync.Mutex
	token  file
}

func (t *tokened) read() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	data, _, err := t.token.load()
	text := strings.TrimSpace(string(data))
	switch {
	case text != "": // also while the file is away for a moment
		return text, nil
	case err != nil:
		return "", fmt.Errorf("token_file: %w", err)
	}
	return "", fmt.Errorf("token_file: %s is empty", t.token.path)
}

// RoundTrip implements http.RoundTripper; after a refusal the file is read
// again for the next request.
func (t *tokened) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := t.read()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set(t.header, token)
	resp, err := t.next.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusForbidden {
		t.mu.Lock()
		t.token.info = nil
		t.mu.Unlock()
	}
	return resp, err
}

// Explain tells which setting a failed connection is about; ok is false when
// it is about none.
func Explain(err error) (message, next string, ok bool) {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	text := err.Error()
	switch {
	case errors.As(err, &host):
		return "the server's certificate is for another name: " + host.Error(), "set server_name to a name in the server's certificate", true
	case errors.As(err, &authority):
		return "the server's certificate is not signed by ca_file: " + authority.Error(), "set ca_file to the CA that signed the server's certificate", true
	case errors.As(err, &invalid):
		return "the server's certificate is not valid: " + invalid.Error(), "renew the server's certificate, or check this machine's clock", true
	case strings.Contains(text, "tls: certificate required"), strings.Contains(text, "tls: bad certificate"),
		strings.Contains(text, "tls: unknown certificate"), strings.Contains(text, "tls: expired certificate"):
		return "the server does not accept our client certificate: " + text, "set cert_file and key_file to a certificate that the server's CA signed and that is not expired", true
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return "the server speaks HTTP without TLS", "write http:// in address, or turn on TLS on the server", true
	case strings.Contains(text, "HTTP request to an HTTPS server"):
		return "the server speaks HTTPS", "write https:// in address", true
	case strings.Contains(text, "token_file"):
		return text, "write the token to the file, mode 0600", true
	}
	return "", "", false
}
