package metadata

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestTransportError has errors as the standard library makes them: the texts
// may not have what differs from try to try.
func TestTransportError(t *testing.T) {
	t.Parallel()
	dial := func(err error) error {
		return &url.Error{Op: "Get", URL: "http://server/", Err: &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{Port: 80}, Err: err}}
	}
	for _, test := range []struct {
		err     error
		kind    kind
		timeout bool
		want    string
	}{
		{dial(os.NewSyscallError("connect", syscall.ENETUNREACH)), unreachable, false, "network is unreachable"},
		{dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), unreachable, false, "no route to host"},
		{dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), unreachable, false, "connection refused"},
		{dial(os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)), unreachable, false, "cannot assign requested address"},
		{dial(os.NewSyscallError("socket", syscall.EAFNOSUPPORT)), unreachable, false, "address family not supported by protocol"},
		{dial(os.NewSyscallError("connect", syscall.EPERM)), silent, false, "operation not permitted"},
		{dial(os.ErrDeadlineExceeded), silent, true, "no answer in time"},
		{&url.Error{Op: "Get", Err: context.DeadlineExceeded}, silent, true, "no answer in time"},
		{dial(&net.DNSError{Err: "no such host", Name: "server", IsNotFound: true}), unreachable, false, "looking up server: no such host"},
		{dial(&net.DNSError{Err: "read udp 10.240.0.20:40123->169.254.169.254:53: i/o timeout", Name: "server", IsTimeout: true}), unreachable, false, "looking up server: i/o timeout"},
		{&url.Error{Op: "Get", Err: &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}}, silent, false, "connection reset by peer"},
		{io.ErrUnexpectedEOF, silent, false, "the answer was cut short"},
		{&url.Error{Op: "Get", Err: io.EOF}, silent, false, "the connection was closed without an answer"},
		{&url.Error{Op: "Get", URL: "http://server/", Err: errors.New("net/http: HTTP/1.x transport connection broken")}, silent, false, "net/http: HTTP/1.x transport connection broken"},
		{&url.Error{Op: "Get", Err: &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired, Detail: "current time 2026-01-01T00:00:00Z is before 2026-01-02T00:00:00Z"}}},
			strange, false, "its certificate is not valid at this machine's time; is the clock right?"},
	} {
		var got *tryError
		if err := transportError("http://server", fmt.Errorf("%w", test.err)); !errors.As(err, &got) {
			t.Errorf("transportError(%v) is no tryError", test.err)
			continue
		}
		if got.Error() != "http://server: "+test.want || got.kind != test.kind || got.timeout != test.timeout {
			t.Errorf("transportError(%v) = %v, kind %d, timeout %t; want %q, %d, %t", test.err, got, got.kind, got.timeout, test.want, test.kind, test.timeout)
		}
	}
}

// TestUnknownAuthority has someone else answer for Secret Manager.
func TestUnknownAuthority(t *testing.T) {
	t.Parallel()
	hs := httptest.NewUnstartedServer(http.NotFoundHandler())
	hs.Config.ErrorLog = log.New(io.Discard, "", 0)
	hs.StartTLS()
	defer hs.Close()
	c := New(Config{})
	_, err := c.do(t.Context(), 5*time.Second, http.MethodGet, hs.URL, "", http.Header{}, func(*http.Response, []byte) error { return nil })
	var try *tryError
	if want := hs.URL + ": tls: failed to verify certificate: x509: certificate signed by unknown authority"; !errors.As(err, &try) || err.Error() != want {
		t.Errorf("do = %v; want %q, which may pass", err, want)
	}
}
