package gitsource

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Redact gives an address without the password that it may carry. A user name
// alone is a token where an address over HTTP has one without a password.
func Redact(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return inURL.ReplaceAllString(address, "${1}***@")
	}
	if u.User == nil {
		return address
	}
	_, secret := u.User.Password()
	if !secret && strings.HasPrefix(u.Scheme, "http") {
		u.User = url.User("***")
	} else {
		u.User = url.User(u.User.Username())
	}
	return u.String()
}

var (
	inURL    = regexp.MustCompile(`(\w+://)[^/\s@'"]*@`)
	inHeader = regexp.MustCompile(`(?i)((?:proxy-)?authorization|(?:set-)?cookie|private-token)(["']?\s*[:=]\s*)[^\r\n]+`)
)

// hide gives a text without what is secret: the token and the password of the
// configuration, credentials in any address, and headers that carry them; and
// without control characters, which a server may have sent.
func (c Config) hide(text string) string {
	for _, secret := range c.secrets() {
		text = strings.ReplaceAll(text, secret, "***")
		text = strings.ReplaceAll(text, url.QueryEscape(secret), "***")
		text = strings.ReplaceAll(text, url.PathEscape(secret), "***")
	}
	text = inURL.ReplaceAllString(text, "${1}***@")
	text = inHeader.ReplaceAllString(text, "${1}${2}***")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text))
}

func (c Config) secrets() []string {
	user, password, err := c.login()
	if err != nil || user+password == "" {
		return nil
	}
	out := []string{base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}
	if password == "" { // a token in the user's place
		return append(out, user)
	}
	return append(out, password)
}

// login gives user and password for HTTP; both empty: none.
func (c Config) login() (user, password string, err error) {
	if u, err := url.Parse(c.URL); err == nil && u.User != nil && c.scheme() != "ssh" {
		user = u.User.Username()
		password, _ = u.User.Password()
	}
	if c.TokenFile != "" {
		user = c.user()
		if password, err = c.token(); err != nil {
			return "", "", err
		}
	}
	return user, password, nil
}

// token reads the token's file.
func (c Config) token() (string, error) {
	raw, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("git.credentials_file: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if strings.ContainsAny(token, "\r\n\x00") {
		return "", errors.New("git.credentials_file: the token has more than one line")
	}
	return token, nil
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
	if u, err := url.Parse(address); isURL && err == nil {
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && metadata(ip) {
			return bad(noGitServer)
		}
	}
	return nil
}

const noGitServer = "no Git server has a link-local address, but a cloud's metadata service, which gives credentials"

// metadata says whether an address may be that of a cloud's metadata service.
func metadata(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	return ip.IsLinkLocalUnicast() || ip == metadata6
}

// metadata6 is where AWS serves a machine's metadata over IPv6.
var metadata6 = netip.MustParseAddr("fd00:ec2::254")
