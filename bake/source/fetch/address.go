package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"unicode"
)

// special are addresses that are not everybody's, beside those that package
// netip knows (IANA's special-purpose address registries; RFC 6598, 8215, 4380).
func special() map[string]string {
	return map[string]string{
		"0.0.0.0/8":        "an address of this network",
		"100.64.0.0/10":    "an address of a carrier's network",
		"168.63.129.16/32": "the address of a cloud's host",
		"192.0.0.0/24":     "an address of protocols",
		"198.18.0.0/15":    "an address of benchmarks",
		"240.0.0.0/4":      "a reserved address",
		"64:ff9b:1::/48":   "an address of a local translator",
		"100::/64":         "an address of nobody",
		"2001::/32":        "an address of a tunnel",
		"fec0::/10":        "a site-local address",
	}
}

// embedded are prefixes whose addresses stand for one of IPv4, with the byte at
// which that begins.
func embedded() map[string]int {
	return map[string]int{
		"64:ff9b::/96": 12, // RFC 6052
		"2002::/16":    2,  // RFC 3056
		"::/96":        12, // IPv4-compatible, RFC 4291
	}
}

// notPublic says what an address is that is not everybody's, such as "a private
// address"; "": it is public.
func notPublic(a netip.Addr) string {
	a = a.WithZone("").Unmap()
	switch {
	case !a.IsValid():
		return "no address"
	case a.IsUnspecified():
		return "an unspecified address"
	case a.IsLoopback():
		return "a loopback address"
	case a.IsPrivate():
		return "a private address"
	case a.IsLinkLocalUnicast():
		return "a link-local address"
	case a.IsMulticast():
		return "a multicast address"
	}
	for prefix, what := range special() {
		if netip.MustParsePrefix(prefix).Contains(a) {
			return what
		}
	}
	for prefix, at := range embedded() {
		if netip.MustParsePrefix(prefix).Contains(a) {
			b := a.As16()
			return notPublic(netip.AddrFrom4([4]byte(b[at : at+4])))
		}
	}
	return ""
}

// notPublicHost is notPublic for the host of a URL that somebody else, such as a
// proxy, looks up: for addresses in every form that inet_aton reads, and for
// names that have no meaning in the public name system.
func notPublicHost(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		return "not ASCII" // digits of full width are mapped to others
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return notPublic(a)
	}
	if a, ok := parseAton(host); ok {
		return notPublic(a)
	}
	for _, domain := range []string{"localhost", "local", "internal", "home.arpa"} {
		if host == domain || strings.HasSuffix(host, "."+domain) {
			return "a local name"
		}
	}
	if !strings.Contains(host, ".") {
		return "a local name"
	}
	return ""
}

// parseAton reads an IPv4 address of one to four numbers, which may be
// hexadecimal or octal, as inet_aton(3) does: 127.1, 0x7f000001, 0177.0.0.1.
func parseAton(s string) (netip.Addr, bool) {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var value uint64
	for i, part := range parts {
		base := 10
		switch {
		case strings.HasPrefix(part, "0x"):
			part, base = part[2:], 16
		case len(part) > 1 && part[0] == '0':
			base = 8
		}
		n, err := strconv.ParseUint(part, base, 32)
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts)) // the last number fills what is left
		}
		if err != nil || n >= 1<<bits {
			return netip.Addr{}, false
		}
		value = value<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}

// addressError says that a URL leads where it must not.
type addressError struct {
	to   string // host or address
	what string
}

func (e *addressError) Error() string {
	return fmt.Sprintf("%s is %s, where a URL that comes from an image must not lead (--allow-private-addresses allows it)", e.to, e.what)
}

// dialPublic refuses to connect to what is not public (net.Dialer.Control): after
// names are looked up, whatever they are.
func dialPublic(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("BUG: the address %q that is dialed: %w", address, err)
	}
	if what := notPublic(at.Addr()); what != "" {
		return &addressError{at.Addr().String(), what}
	}
	return nil
}

// ours marks a request whose URL is the user's own, not an image's.
type ours struct{}

// routes sends requests by the way that fits who chose their URL, redirects
// included: each hop is a request of its own.
type routes struct {
	all    http.RoundTripper // whatever the address; by the proxy, if there is one
	public http.RoundTripper // to public addresses alone; by no proxy
	proxy  func(*http.Request) (*url.URL, error)
}

// RoundTrip implements http.RoundTripper.
func (r routes) RoundTrip(req *http.Request) (*http.Response, error) {
	if isOurs(req.Context()) {
		return r.all.RoundTrip(req)
	}
	if r.proxy != nil {
		through, err := r.proxy(req)
		if err != nil {
			return nil, err
		}
		if through != nil {
			// The proxy looks names up, so all that can be checked is what is written.
			if what := notPublicHost(req.URL.Hostname()); what != "" {
				return nil, &addressError{req.URL.Hostname(), what}
			}
			return r.all.RoundTrip(req)
		}
	}
	return r.public.RoundTrip(req)
}

// choose marks ctx where the URL of req is the user's own: of his Debian mirror,
// or of the mirror that he gave.
func (f *Fetcher) choose(ctx context.Context, req Request, rawURL string) context.Context {
	own := req.Own
	if f.config.Mirror != nil && !own {
		of, ok := f.config.Mirror.URL(req.Sums)
		own = ok && of == rawURL
	}
	if !own {
		return ctx
	}
	return context.WithValue(ctx, ours{}, true)
}

// isOurs reports whether the URL of a request is the user's own.
func isOurs(ctx context.Context) bool { return ctx.Value(ours{}) != nil }

// isAddress reports whether err is about where a URL leads.
func isAddress(err error) bool {
	_, ok := errors.AsType[*addressError](err)
	return ok
}
