package pki

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// CheckServer checks an API server's URL as a worker wants it.
func CheckServer(server string) error {
	if strings.Contains(server, "@") {
		return errors.New("the server's URL has a user name in it, which Kubernetes ignores")
	}
	fail := func(what string) error {
		shown := strconv.Quote(shorten(server))
		if !strings.Contains(server, "://") && MayBeSecret(server) {
			shown = fmt.Sprintf("(%d characters)", len(server))
		}
		return fmt.Errorf("the server %s %s (want https://HOST:6443)", shown, what)
	}
	u, err := url.Parse(server)
	switch {
	case strings.ContainsAny(server, "<>{}$"):
		return fail("has a placeholder in it")
	case err != nil:
		return fail("is not a URL")
	case u.Scheme != "https":
		return fail("is not an https URL, and without TLS no certificate is shown")
	case u.Hostname() == "":
		return fail("names no host")
	case strings.Contains(u.Path, "//") || strings.EqualFold(u.Host, "https:"):
		return fail("has https:// twice, or an empty part in its path")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fail("has more than a host, a port and a path")
	}
	if what := checkHost(u); what != "" {
		return fail(what)
	}
	return nil
}

// checkProxy checks the proxy between a worker and its API server. Its URL may
// have a password in it and is not shown.
func checkProxy(proxy string) error {
	fail := func(what string) error {
		return fmt.Errorf("has a proxy-url that %s (want http://HOST:PORT, or none)", what)
	}
	u, err := url.Parse(proxy)
	switch {
	case err != nil:
		return fail("is not a URL")
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5":
		return fail("is neither http, https nor socks5")
	case u.Hostname() == "":
		return fail("names no host")
	}
	if what := checkHost(u); what != "" {
		return fail(what)
	}
	return nil
}

// checkHost says why a worker can't reach the host and port of u, if it can't.
func checkHost(u *url.URL) string {
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "has a port that is none (1 to 65535)"
		}
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		switch {
		case addr.IsLoopback() || addr.IsUnspecified():
			return "is the worker itself, where nothing of the kind runs; it must be an address that the worker reaches"
		case addr.IsMulticast() || addr.IsLinkLocalUnicast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return "is an address that no server has"
		}
		return ""
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return "is the worker itself, where nothing of the kind runs; it must be an address that the worker reaches"
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		bad := strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
		if label == "" || len(label) > 63 || bad || label[0] == '-' || label[len(label)-1] == '-' {
			return "has a host that is neither an address nor a DNS name"
		}
	}
	// No top-level domain is a number: it is an address that lacks something.
	if _, err := strconv.ParseUint(labels[len(labels)-1], 10, 64); err == nil || len(host) > 253 {
		return "has a host that is neither an address nor a DNS name"
	}
	return ""
}

// MayBeSecret says whether text looks like a token, a key or a password that
// somebody put in a wrong place: PEM, or 16 letters and digits in a row, as the
// second half of a bootstrap token.
func MayBeSecret(text string) bool {
	if strings.Contains(text, "-----") {
		return true
	}
	for _, run := range strings.FieldsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("+/=_", r)
	}) {
		if len(run) >= 16 && strings.ContainsAny(run, "0123456789") {
			return true
		}
	}
	return false
}

// shorten cuts what may be anything.
func shorten(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}
