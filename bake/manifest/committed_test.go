package manifest

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/test/filetest"
)

// committed are the versions files of this repository.
var committed = []string{"versions.yaml", "kthw-1.21.yaml"}

func parseCommitted(t *testing.T, name string) *Versions {
	t.Helper()
	file := filepath.Join("..", "..", "manifests", name)
	data := filetest.Read(t, file)
	v, err := ParseVersions(file, data)
	if err != nil {
		t.Fatalf("ParseVersions(%s):\n%v", file, err)
	}
	return v
}

// TestCommittedExpand expands what the committed files say for every
// architecture that they have digests for.
func TestCommittedExpand(t *testing.T) {
	for _, name := range committed {
		v := parseCommitted(t, name)
		seen := map[Digest]string{}
		for _, c := range v.Components {
			if c.Release == nil {
				t.Errorf("%s: component %s has no release", name, c.Name)
				continue
			}
			for _, arch := range c.Release.Archs() {
				url, sums, err := c.Release.For(arch)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if strings.ContainsAny(url, "{}") || !strings.HasPrefix(url, "https://") || !strings.Contains(url, string(arch)) {
					t.Errorf("%s: %s for %s is %s; want an https URL for it", name, c.Name, arch, url)
				}
				for _, sum := range sums {
					if checked, err := ParseDigest(string(sum)); err != nil || checked != sum {
						t.Errorf("%s: ParseSum(%q) = %q, %v; want itself", name, sum, checked, err)
					}
					if other, ok := seen[sum]; ok {
						t.Errorf("%s: %s and %s have the same digest %s", name, c.Name, other, sum)
					}
					seen[sum] = c.Name
				}
			}
		}
		for _, arch := range arch.All() {
			if _, err := v.OS.PackagesFor(arch); err != nil {
				t.Errorf("%s: PackagesFor(%s): %v", name, arch, err)
			}
		}
	}
}

// TestCommittedURLs has the addresses as people know them: a template that
// expands to something else must not pass for being well-formed.
func TestCommittedURLs(t *testing.T) {
	want := map[string]string{
		"versions.yaml kubelet":      "https://dl.k8s.io/release/v1.36.3/bin/linux/amd64/kubelet",
		"versions.yaml kube-proxy":   "https://dl.k8s.io/release/v1.36.3/bin/linux/amd64/kube-proxy",
		"versions.yaml kubectl":      "https://dl.k8s.io/release/v1.36.3/bin/linux/amd64/kubectl",
		"versions.yaml containerd":   "https://github.com/containerd/containerd/releases/download/v2.3.4/containerd-2.3.4-linux-amd64.tar.gz",
		"versions.yaml runc":         "https://github.com/opencontainers/runc/releases/download/v1.4.3/runc.amd64",
		"versions.yaml cni-plugins":  "https://github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz",
		"versions.yaml crictl":       "https://github.com/kubernetes-sigs/cri-tools/releases/download/v1.36.0/crictl-v1.36.0-linux-amd64.tar.gz",
		"kthw-1.21.yaml kubelet":     "https://storage.googleapis.com/kubernetes-release/release/v1.21.0/bin/linux/amd64/kubelet",
		"kthw-1.21.yaml kube-proxy":  "https://dl.k8s.io/v1.21.0/kubernetes-node-linux-amd64.tar.gz",
		"kthw-1.21.yaml kubectl":     "https://storage.googleapis.com/kubernetes-release/release/v1.21.0/bin/linux/amd64/kubectl",
		"kthw-1.21.yaml containerd":  "https://github.com/containerd/containerd/releases/download/v1.4.4/containerd-1.4.4-linux-amd64.tar.gz",
		"kthw-1.21.yaml runc":        "https://github.com/opencontainers/runc/releases/download/v1.0.0-rc93/runc.amd64",
		"kthw-1.21.yaml cni-plugins": "https://github.com/containernetworking/plugins/releases/download/v0.9.1/cni-plugins-linux-amd64-v0.9.1.tgz",
		"kthw-1.21.yaml crictl":      "https://github.com/kubernetes-sigs/cri-tools/releases/download/v1.21.0/crictl-v1.21.0-linux-amd64.tar.gz",
	}
	got := map[string]string{}
	for _, name := range committed {
		for _, c := range parseCommitted(t, name).Components {
			url, _, err := c.Release.For(arch.AMD64)
			if err != nil {
				t.Error(err)
			}
			got[name+" "+c.Name] = url
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("URLs for amd64 (-want +got):\n%s", diff)
	}
}

// TestCommittedFiles says where each set installs what, from its modules where
// it has them: the guide's paths.
func TestCommittedFiles(t *testing.T) {
	kubernetes := []string{"/usr/local/bin/kube-proxy", "/usr/local/bin/kubectl", "/usr/local/bin/kubelet", "/usr/local/bin/runc"}
	for _, test := range []struct {
		name    string
		plugins string
		others  []string
	}{
		{
			"versions.yaml",
			"bandwidth bridge dhcp dummy firewall host-device host-local ipvlan loopback macvlan portmap ptp sbr static tap tuning vlan vrf",
			append([]string{"/bin/containerd", "/bin/containerd-shim-runc-v2", "/bin/ctr", "/usr/local/bin/crictl"}, kubernetes...),
		},
		{
			"kthw-1.21.yaml",
			"bandwidth bridge dhcp firewall flannel host-device host-local ipvlan loopback macvlan portmap ptp sbr static tuning vlan vrf",
			kubernetes,
		},
	} {
		var got []string
		for _, c := range parseCommitted(t, test.name).Components {
			if c.Module == nil {
				continue
			}
			for _, p := range c.Module.Programs {
				got = append(got, p.Path)
			}
		}
		want := test.others
		for plugin := range strings.FieldsSeq(test.plugins) {
			want = append(want, path.Join("/opt/cni/bin", plugin))
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: programs (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestCommittedMissingArch(t *testing.T) {
	v := parseCommitted(t, "kthw-1.21.yaml")
	for _, name := range []string{"runc", "containerd"} {
		_, _, err := v.Component(name).Release.For(arch.ARM64)
		want := v.Component(name).Release.Pos.String() + ": release of component " + name + ": nothing for arm64 (there is: amd64)"
		if text(err) != want {
			t.Errorf("%s: For(arm64) = %v; want %s", name, err, want)
		}
	}
	refs, err := v.OS.PackagesFor(arch.ARM64)
	if diff := cmp.Diff([]PackageRef{{Name: "systemd-boot-efi-arm64-signed", Suite: "trixie", Key: "os.packages[0]"}}, refs, cmpopts.IgnoreTypes(Pos{})); diff != "" || err != nil {
		t.Errorf("PackagesFor(arm64): error %v, (-want +got):\n%s", err, diff)
	}
}

// TestDocumentedExamples parses the examples of docs/versions.md: a whole file, and
// one that has no os.
func TestDocumentedExamples(t *testing.T) {
	data := filetest.Read(t, "../../docs/versions.md")
	parsed := 0
	for _, rest := range strings.Split(string(data), "```yaml\n")[1:] {
		example, _, _ := strings.Cut(rest, "```")
		if strings.HasPrefix(example, "components:") {
			example = "os:\n  distribution: debian\n  suite: trixie\n" + example
		}
		if !strings.Contains(example, "os:\n") {
			continue // of a lock
		}
		v, err := ParseVersions("docs/versions.md", []byte(example))
		if err != nil {
			t.Errorf("ParseVersions of the example\n%s\n%v", example, err)
			continue
		}
		parsed++
		if parsed == 2 && (v.Components[0].Reports == nil || v.Components[0].Reports.Version != "v1.36.0") {
			t.Errorf("the example of reports has %+v; want what the programs say", v.Components[0].Reports)
		}
	}
	if parsed != 2 {
		t.Errorf("docs/versions.md has %d examples of versions files; want 2", parsed)
	}
}
