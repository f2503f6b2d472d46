package manifest

import (
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/arch"
)

func TestImageName(t *testing.T) {
	const lock = Digest("sha256:84a27a98ad49f3ef4e6b3830486eab5da2c12f57b4b4f0531b75c5c7ad974d1b")
	const inputs = Digest("sha256:0a1b2c3d" + "00000000000000000000000000000000000000000000000000000000")
	const want = " (want at most 63 lower-case letters, digits and hyphens, a letter first and no hyphen last)"
	long := strings.Repeat("a", 48)
	for _, test := range []struct {
		template, version string
		arch              arch.Arch
		want, err         string
	}{
		{DefaultName("k8s-worker"), "v1.36.3", arch.AMD64, "k8s-worker-v1-36-3-amd64", ""},
		{DefaultName("k8s-worker"), "v1.21.0", arch.ARM64, "k8s-worker-v1-21-0-arm64", ""},
		{DefaultName("k8s"), "v1.37.0-RC.1+up~1_2", arch.AMD64, "k8s-v1-37-0-rc-1-up-1-2-amd64", ""},
		{"w-{semver}-{major}-{minor}-{patch}-{lock}-{inputs}", "v1.36.3", arch.AMD64, "w-1-36-3-1-36-3-84a27a98-0a1b2c3d", ""},
		{"fixed", "", arch.AMD64, "fixed", ""},
		{"{arch}-{lock}", "", arch.ARM64, "arm64-84a27a98", ""},
		{long + "a-{version}-{arch}", "v1.36.3", arch.AMD64, long + "a-v1-36-3-amd64", ""},
		{long + "aa-{version}-{arch}", "v1.36.3", arch.AMD64, "", `image name "` + long + `aa-v1-36-3-amd64" has 64 characters` + want},
		{"8ks", "v1", arch.AMD64, "", `image name "8ks" begins with '8'` + want},
		{"{version}", "1.2", arch.AMD64, "", `image name "1-2" begins with '1'` + want},
		{"-x", "v1", arch.AMD64, "", `image name "-x" begins with '-'` + want},
		{"é", "v1", arch.AMD64, "", `image name "é" begins with 'é'` + want},
		{"", "v1", arch.AMD64, "", `image name "" is empty` + want},
		{"x-", "v1", arch.AMD64, "", `image name "x-" ends with a hyphen` + want},
		{"kBs", "v1", arch.AMD64, "", `image name "kBs" has the character 'B'` + want},
		{"k8s.worker", "v1", arch.AMD64, "", `image name "k8s.worker" has the character '.'` + want},
		{"k8s-{version}", "v1/2", arch.AMD64, "", `image name "k8s-v1/2" has the character '/'` + want},
		{"k8s\n", "v1", arch.AMD64, "", `image name "k8s\n" has the character '\n'` + want},
		{"k8s-{version}", "", arch.AMD64, "", `image name "k8s-{version}": {version} is of the kubelet's version, and there is no component kubelet`},
		{"k8s-{verson}", "v1", arch.AMD64, "", "image name: unknown placeholder {verson} (did you mean {version}?)"},
		{"k8s-{date}", "v1.36.3", arch.AMD64, "", "image name: unknown placeholder {date} (known here: {arch}, {inputs}, {lock}, {major}, {minor}, {patch}, {semver}, {version})"},
		{"k8s-{lock", "v1", arch.AMD64, "", `image name: "k8s-{lock" has a { without a }`},
	} {
		got, err := ImageName(test.template, NameValues{test.version, test.arch, lock, inputs})
		if err != nil {
			got = ""
		}
		if got != test.want || text(err) != test.err {
			t.Errorf("ImageName(%q, %q, %q) = %q, %v; want %q, %s", test.template, test.version, test.arch, got, err, test.want, test.err)
		}
	}
}

// TestNameIsCheckedWhereItIsWritten parses the names that a versions file gives.
func TestNameIsCheckedWhereItIsWritten(t *testing.T) {
	head := strings.Replace(valid, "  runc:\n", "  kubelet:\n", 1)
	for _, test := range []struct{ name, file, want string }{
		{"k8s-{version}-{arch}-{lock}-{inputs}", head, ""},
		{"k8s", valid, ""},
		{"K8s", head, `v.yaml:1:7: name: image name "K8s" begins with 'K' (want at most 63 lower-case letters, digits and hyphens, a letter first and no hyphen last)`},
		{strings.Repeat("a", 55) + "-{lock}", head, `v.yaml:1:7: name: image name "` + strings.Repeat("a", 55) + `-00000000" has 64 characters (want at most 63 lower-case letters, digits and hyphens, a letter first and no hyphen last)`},
		{"k8s-{minor}", valid, `v.yaml:1:7: name: image name "k8s-{minor}": {minor} is of the kubelet's version, and there is no component kubelet`},
		{"k8s-{lokc}", head, "v.yaml:1:7: name: image name: unknown placeholder {lokc} (did you mean {lock}?)"},
	} {
		v, err := ParseVersions("v.yaml", []byte("name: "+test.name+"\n"+test.file))
		if text(err) != test.want {
			t.Errorf("ParseVersions with name %s:\n got %v\nwant %s", test.name, err, test.want)
		}
		if err == nil && v.Name != test.name {
			t.Errorf("Name = %q; want %q", v.Name, test.name)
		}
	}
}

func FuzzImageName(f *testing.F) {
	f.Add("k8s-{version}-{arch}-{lock}", "v1.36.3")
	f.Add("{patch}{", "1")
	f.Fuzz(func(t *testing.T, template, version string) {
		name, err := ImageName(template, NameValues{Version: version, Arch: arch.AMD64, Lock: SHA256([32]byte{}), Inputs: SHA256([32]byte{})})
		if err == nil && (len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.Trim(name, "-") != name) {
			t.Errorf("ImageName(%q, %q) = %q, which is no label", template, version, name)
		}
	})
}
