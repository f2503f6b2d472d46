package fetch

import (
	"errors"
	"net"
	"net/http"
)

// Gone reports whether err says that files are unavailable, and leaves no doubt of
// it: every server that answered said that it does not have them, by 404 or 410
// to a GET, and others have no name or can't be reached. What may be made in
// place of a file is another file; a server that is overloaded, broken, or wants
// to know who asks must not be what decides between the two.
func Gone(err error) bool {
	all, one := (*PreflightError)(nil), (*UnreachableError)(nil)
	switch {
	case errors.As(err, &all):
		for _, e := range all.Requests {
			if !e.gone() {
				return false
			}
		}
		return true
	case errors.As(err, &one):
		return one.gone()
	}
	return false
}

func (e *UnreachableError) gone() bool {
	for _, t := range e.Tried {
		if t.Mirror != "" || !gone(t.Err) {
			return false // a mirror whose index has it is damaged, and says so
		}
	}
	return true
}

// gone reports whether err is the end of one URL.
func gone(err error) bool {
	// The answer must be about the file: a registry that answers a login in this
	// way is none.
	if status, ok := err.(*StatusError); ok {
		return status.Code == http.StatusNotFound || status.Code == http.StatusGone
	}
	dns, dial, stall, refused := (*net.DNSError)(nil), (*net.OpError)(nil), (*stallError)(nil), (*proxyError)(nil)
	switch {
	case isAddress(err):
		return false
	case errors.As(err, &refused):
		return refused.code == http.StatusForbidden
	case errors.As(err, &dial) && dial.Op == "proxyconnect":
		return false // of the host nothing is known
	case errors.As(err, &dns):
		return true
	case errors.As(err, &dial):
		return dial.Op == "dial"
	case errors.As(err, &stall):
		return !stall.connected
	}
	return false
}
