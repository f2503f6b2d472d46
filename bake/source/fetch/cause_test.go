package fetch

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func noHost(name string) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: noSuchHost, Name: name, Server: "10.0.0.1:53", IsNotFound: true}}
}

func refusal() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

func unavailable(name string, tried ...Attempt) *UnreachableError {
	return &UnreachableError{Name: name, Tried: tried}
}

func TestCauses(t *testing.T) {
	for _, test := range []struct {
		name string
		e    *UnreachableError
		want []Cause // nil: it is about the file itself
		said string
	}{
		{"no such host", unavailable("kubelet", Attempt{URL: "https://dl.k8s.io/kubelet", Err: noHost("dl.k8s.io")}),
			[]Cause{{"no such host", "dl.k8s.io", true}}, "no such host dl.k8s.io"},
		{"behind a redirect", unavailable("runc", Attempt{URL: "https://github.com/runc", Err: noHost("objects.example")}),
			[]Cause{{"no such host", "objects.example", true}}, "no such host objects.example"},
		{"two mirrors", unavailable("bash 5.2",
			Attempt{URL: "http://b.example:8080/bash.deb", Err: refusal()}, Attempt{URL: "http://a.example/bash.deb", Err: &StatusError{Code: 404}},
			Attempt{URL: "http://c.example/bash.deb", Err: refusal()}),
			[]Cause{{"404 Not Found", "a.example", false}, {"connection refused", "b.example:8080", true}, {"connection refused", "c.example", true}},
			"404 Not Found at a.example; connection refused at b.example:8080, c.example"},
		{"proxy", unavailable("x", Attempt{URL: "https://a.example/x", Err: &proxyError{403}}),
			[]Cause{{"the proxy does not connect to it: 403 Forbidden", "a.example", true}}, "the proxy does not connect to it: 403 Forbidden at a.example"},
		{"silence", unavailable("x", Attempt{URL: "https://a.example/x", Err: &stallError{after: defaultAnswer}}),
			[]Cause{{"not a byte came for 5s", "a.example", true}}, "not a byte came for 5s at a.example"},
		{"offline", &UnreachableError{Name: "x", Lacking: "/srv/mirror"}, []Cause{{What: "not in the mirror /srv/mirror"}}, "not in the mirror /srv/mirror"},
		{"another file", unavailable("x", Attempt{URL: "https://a.example/x", Err: &DigestError{}}), nil, ""},
		{"damaged mirror", unavailable("x", Attempt{URL: "https://a.example/x", Err: &StatusError{Code: 404}, Mirror: "m"}), nil, ""},
		{"no URL", unavailable("x"), nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := test.e.Causes()
			if diff := cmp.Diff(test.want, got); diff != "" || ok != (test.want != nil) {
				t.Errorf("Causes = %v (-want +got):\n%s", ok, diff)
			}
			if said := SayCauses(got); said != test.said {
				t.Errorf("SayCauses = %q; want %q", said, test.said)
			}
		})
	}
}

// TestPreflightErrorGroups has many files that are unavailable for few causes: each
// cause is a line.
func TestPreflightErrorGroups(t *testing.T) {
	e := &PreflightError{}
	for i := range 12 {
		name := fmt.Sprint("package", i)
		e.Requests = append(e.Requests, unavailable(name, Attempt{URL: "http://deb.example/" + name, Err: noHost("deb.example")}))
		if i == 5 {
			e.Requests = append(e.Requests, unavailable("kubelet", Attempt{URL: "https://dl.example/kubelet", Err: &StatusError{Code: 404}}))
		}
		if i < 2 {
			e.Requests = append(e.Requests, &UnreachableError{Name: fmt.Sprint("offline", i), Lacking: "/m"})
		}
	}
	want := `12 files are unavailable: no such host deb.example: package0, package1, package2, package3, package4, package5, package6, package7 and 4 more
2 files are not in the mirror /m, and nothing else may be asked (--offline): was the mirror made for other versions? Run ` + "`bake mirror --versions FILE... --output DIR`" + ` again where there is a network: offline0, offline1
kubelet is unavailable:
  https://dl.example/kubelet: 404 Not Found`
	if diff := cmp.Diff(want, e.Error()); diff != "" {
		t.Errorf("Error (-want +got):\n%s", diff)
	}
	if g, ok := errors.AsType[*GroupError](e); !ok || len(g.Details()) != 12 || !strings.HasPrefix(g.Details()[11].Error(), "package11 is unavailable:") {
		t.Errorf("details = %v; want 12, of package11 the last", g)
	}
	if one, ok := errors.AsType[*UnreachableError](e); !ok || Gone(e) != true {
		t.Errorf("errors.As finds %v and Gone = %v; want an UnreachableError and true", one, Gone(e))
	}
}
