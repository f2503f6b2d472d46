package source

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/gobuild"
)

func TestSayMissing(t *testing.T) {
	dl, github := []fetch.Cause{{What: "no such host", Host: "dl.k8s.io", Down: true}}, []fetch.Cause{{What: "no such host", Host: "github.com", Down: true}}
	for _, test := range []struct {
		missing []Missing
		want    string
	}{
		{[]Missing{{Name: "component kubelet v1.36.3", Causes: dl}}, "1 release is unavailable: no such host dl.k8s.io; built from source instead: kubelet"},
		{[]Missing{
			{Name: "component runc 1.4.3", Causes: github}, {Name: "component kubelet v1.36.3", Causes: dl}, {Name: "component kubectl v1.36.3", Causes: dl},
			{Name: "image pause registry.k8s.io/pause:3.10", Causes: []fetch.Cause{{What: "404 Not Found", Host: "registry.k8s.io"}}},
		}, "3 releases and 1 container image are unavailable: 404 Not Found at registry.k8s.io; no such host dl.k8s.io, github.com; built from source instead: runc, kubelet, kubectl, pause"},
		{[]Missing{{Name: "component kubelet v1.36.3", Reason: "it has no release"}}, "1 release is unavailable: it has no release; built from source instead: kubelet"},
	} {
		if got := SayMissing(test.missing); got != test.want {
			t.Errorf("SayMissing(%v) = %q; want %q", test.missing, got, test.want)
		}
	}
}

// TestJoinParts joins the errors of several parts. What servers answer keeps its
// line; that there is no network is one.
func TestJoinParts(t *testing.T) {
	down := func(host string) error {
		return &fetch.UnreachableError{Name: "x", Tried: []fetch.Attempt{{URL: "https://" + host + "/x", Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}}}
	}
	answers := &fetch.UnreachableError{Name: "x", Tried: []fetch.Attempt{{URL: "https://a.example/x", Err: &fetch.StatusError{Code: 404}}}}
	part := func(image bool, name, why string, err error) error {
		return &PartError{Image: image, Name: name, Why: why, Err: fmt.Errorf("component %s: %w; %s it", name, err, why)}
	}
	other := errors.New("another error")
	err := JoinParts(
		nil,
		part(false, "kubelet", "--build-missing would build them", down("dl.example")),
		part(false, "crictl", "--build-missing would build them", answers),
		part(true, "pause", "nothing builds", down("registry.example")),
		other,
		part(false, "runc", "--build-missing would build them", down("github.example")),
		part(false, "cni", "nothing builds", down("github.example")),
	)
	want := `2 releases are unavailable: no such host dl.example, github.example; --build-missing would build them: kubelet, runc
component crictl: x is unavailable:
  https://a.example/x: 404 Not Found; --build-missing would build them it
component pause: x is unavailable:
  https://registry.example/x: lookup registry.example: no such host; nothing builds it
another error
component cni: x is unavailable:
  https://github.example/x: lookup github.example: no such host; nothing builds it`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("JoinParts (-want +got):\n%s", diff)
	}
	if !errors.Is(err, other) || JoinParts(nil, nil) != nil {
		t.Errorf("JoinParts loses an error, or makes one of none")
	}
}

func TestShortBuildError(t *testing.T) {
	for want, err := range map[string]error{
		"no such host proxy.example":   errors.New("go list: exit status 1:\n\tgo: example.com/x@v1: Get \"https://proxy.example/example.com/x\": dial tcp: lookup proxy.example on 10.0.0.1:53: no such host"),
		"no such host goproxy.example": errors.New("lookup goproxy.example: no such host"),
		"one\ntwo":                     errors.New("one\ntwo"),
		"cc is needed to compile and was not found in PATH (install gcc)": fmt.Errorf("preparing: %w", &gobuild.MissingToolError{Tool: "cc", Need: "to compile", Remedy: "install gcc"}),
	} {
		if got := shortBuildError(err); got.Error() != want || !errors.Is(got, err) {
			t.Errorf("shortBuildError(%q) = %q; want %q", err, got, want)
		}
	}
}
