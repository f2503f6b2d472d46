package purl

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/package-url/packageurl-go"

	"github.com/nodebake/bake/bake/manifest"
)

// TestNames holds names to what packageurl-go reads out of them, which is what
// was put in, with every character that means something in a URL.
func TestTool(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"gcc (Debian 12.2.0-14+deb12u1) 12.2.0 (x86_64-linux-gnu)":        "pkg:generic/gcc@12.2.0",
		"cc (Debian 14.2.0-19) 14.2.0 (x86_64-linux-gnu)":                 "pkg:generic/gcc@14.2.0",
		"aarch64-linux-gnu-gcc (Debian 12.2.0-14) 12.2.0 (aarch64-linux)": "pkg:generic/gcc@12.2.0",
		"Debian clang version 14.0.6 (x86_64-pc-linux-gnu)":               "pkg:generic/clang@14.0.6",
		"GNU ld (GNU Binutils for Debian) 2.40":                           "pkg:generic/ld@2.40",
		"LLD 14.0.6 (compatible with GNU linkers)":                        "pkg:generic/LLD@14.0.6",
		"12.2.0": "", "cc": "", "": "", "(only) (parentheses": "",
	} {
		if got := Tool(line); got != want {
			t.Errorf("Tool(%q) = %q; want %q", line, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	sum := manifest.Digest("sha256:00ff")
	for _, test := range []struct {
		got  string
		want string
		name packageurl.PackageURL
	}{
		{
			Debian("libstdc++6", "1:14.2.0-19~deb13u1", "amd64", "trixie-security"),
			"pkg:deb/debian/libstdc%2B%2B6@1:14.2.0-19~deb13u1?arch=amd64&distro=debian-13",
			packageurl.PackageURL{Type: "deb", Namespace: "debian", Name: "libstdc++6", Version: "1:14.2.0-19~deb13u1"},
		},
		{
			Debian("tool", "1", "all", "tiny"),
			"pkg:deb/debian/tool@1?arch=all&distro=tiny",
			packageurl.PackageURL{Type: "deb", Namespace: "debian", Name: "tool", Version: "1"},
		},
		{
			Release("kubelet", "v1.36.3", "https://example.com/v1.36.3/a b?x=1&y=2", []manifest.Digest{sum}),
			"pkg:generic/kubelet@v1.36.3?checksum=sha256:00ff&download_url=https:%2F%2Fexample.com%2Fv1.36.3%2Fa%20b%3Fx%3D1%26y%3D2",
			packageurl.PackageURL{Type: "generic", Name: "kubelet", Version: "v1.36.3"},
		},
		{
			Module("github.com/containerd/containerd/v2", "v2.3.4"),
			"pkg:golang/github.com/containerd/containerd/v2@v2.3.4",
			packageurl.PackageURL{Type: "golang", Namespace: "github.com/containerd/containerd", Name: "v2", Version: "v2.3.4"},
		},
		{
			Module("github.com/blang/semver", "v3.5.1+incompatible"),
			"pkg:golang/github.com/blang/semver@v3.5.1%2Bincompatible",
			packageurl.PackageURL{Type: "golang", Namespace: "github.com/blang", Name: "semver", Version: "v3.5.1+incompatible"},
		},
		{
			Module("k8s.io/api", ""),
			"pkg:golang/k8s.io/api",
			packageurl.PackageURL{Type: "golang", Namespace: "k8s.io", Name: "api"},
		},
		{
			Toolchain("go1.26.8 X:nocoverageredesign"),
			"pkg:golang/stdlib@1.26.8",
			packageurl.PackageURL{Type: "golang", Name: "stdlib", Version: "1.26.8"},
		},
		{
			Image("localhost:5000/a/pause:3.10.2", sum, "amd64"),
			"pkg:oci/pause@sha256:00ff?arch=amd64&repository_url=localhost:5000%2Fa%2Fpause&tag=3.10.2",
			packageurl.PackageURL{Type: "oci", Name: "pause", Version: "sha256:00ff"},
		},
		{
			Image("localhost:5000/pause", sum, "arm64"),
			"pkg:oci/pause@sha256:00ff?arch=arm64&repository_url=localhost:5000%2Fpause",
			packageurl.PackageURL{Type: "oci", Name: "pause", Version: "sha256:00ff"},
		},
	} {
		if test.got != test.want {
			t.Errorf("name is %s; want %s", test.got, test.want)
		}
		read, err := packageurl.FromString(test.got)
		if err != nil {
			t.Errorf("%s can't be read: %v", test.got, err)
			continue
		}
		read.Qualifiers = nil
		if diff := cmp.Diff(test.name, read); diff != "" {
			t.Errorf("%s (-want +read):\n%s", test.got, diff)
		}
	}
	read, err := packageurl.FromString(Image("localhost:5000/a/pause:3.10.2", sum, "amd64"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"arch": "amd64", "repository_url": "localhost:5000/a/pause", "tag": "3.10.2"}
	if diff := cmp.Diff(want, read.Qualifiers.Map()); diff != "" {
		t.Errorf("qualifiers (-want +read):\n%s", diff)
	}
}
