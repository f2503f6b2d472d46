package manifest

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nodebake/bake/bake/arch"
)

const (
	sumA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	sumB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// valid has one of everything. The tests of errors break it in one place.
const valid = `os:
  distribution: debian
  suite: bookworm
  packages: [vim, "systemd-boot-efi-{arch}-signed/trixie"]
  apt_sources: |
    Types: deb
    URIs: https://mirror.example/debian
    Suites: bookworm
  kernel_arguments: [systemd.unified_cgroup_hierarchy=0, panic=10]

node:
  runtime_type: io.containerd.runc.v2
  cgroup_driver: systemd

components:
  runc:
    version: v1.4.3-rc.1
    release:
      url: https://example.com/{version}/{semver}/runc.{arch}
      sha256:
        amd64: ` + sumA + `
        arm64: ` + sumB + `
      sha512:
        amd64: ` + sumA + sumA + `
      files:
        - path: /usr/local/bin/runc
          mode: 0750
    module:
      path: github.com/opencontainers/runc
      toolchain: go1.26.8
      dir: modules/runc
      programs:
        - package: github.com/opencontainers/runc
          path: /usr/local/bin/runc
      tags: [seccomp]
      stamp:
        main.version: "{semver}~{major}.{minor}.{patch}"
      cgo:
        packages: [libseccomp-dev]
        ldflags: [-static]
  plugins:
    version: 0.9.1
    release:
      url: http://example.com/plugins-{arch}.tgz
      sha512: {arm64: ` + sumB + sumB + `}
      files:
        - {member: "[a-z]*", path: /opt/cni/bin/}
        - {member: doc/README.md, path: /usr/share/doc/plugins/README.md, mode: 0644}
  containerd:
    version: 1.4.13
    package:
      name: containerd
      suite: bullseye
      files:
        - {member: usr/bin/ctr, path: /bin/}
`

func TestParseVersions(t *testing.T) {
	got, err := ParseVersions("v.yaml", []byte(valid))
	if err != nil {
		t.Fatal(err)
	}
	want := &Versions{
		File: "v.yaml",
		Sum:  got.Sum,
		OS: OS{
			Distribution: "debian",
			Suite:        "bookworm",
			Packages:     []Listed{{Text: "vim", Key: "os.packages[0]"}, {Text: "systemd-boot-efi-{arch}-signed/trixie", Key: "os.packages[1]"}},
			APTSources:   "Types: deb\nURIs: https://mirror.example/debian\nSuites: bookworm\n",

			KernelArguments: []string{"systemd.unified_cgroup_hierarchy=0", "panic=10"},
		},
		Node: &NodeSettings{RuntimeType: "io.containerd.runc.v2", CgroupDriver: "systemd"},
		Components: []Component{
			{
				Name:    "runc",
				Version: "v1.4.3-rc.1",
				Release: &Release{
					Component: "runc",
					URL:       "https://example.com/v1.4.3-rc.1/1.4.3-rc.1/runc.{arch}",
					SHA256:    map[arch.Arch]Digest{arch.AMD64: "sha256:" + sumA, arch.ARM64: "sha256:" + sumB},
					SHA512:    map[arch.Arch]Digest{arch.AMD64: "sha512:" + sumA + sumA},
					Digests:   map[Digest]Pos{"sha256:" + sumA: {}, "sha256:" + sumB: {}, "sha512:" + sumA + sumA: {}},
					Files:     []File{{Path: "/usr/local/bin/runc", Mode: 0o750}},
				},
				Module: &Module{
					Path:      "github.com/opencontainers/runc",
					Version:   "v1.4.3-rc.1",
					Toolchain: "go1.26.8",
					Dir:       "modules/runc",
					Programs:  []Program{{Package: "github.com/opencontainers/runc", Path: "/usr/local/bin/runc"}},
					Tags:      []string{"seccomp"},
					Stamp:     map[string]string{"main.version": "1.4.3-rc.1~1.4.3"},
					CGO:       &CGO{Packages: []Listed{{Text: "libseccomp-dev", Key: "components.runc.module.cgo.packages[0]"}}, LDFlags: []string{"-static"}},
				},
			},
			{
				Name:    "plugins",
				Version: "0.9.1",
				Release: &Release{
					Component: "plugins",
					URL:       "http://example.com/plugins-{arch}.tgz",
					SHA512:    map[arch.Arch]Digest{arch.ARM64: "sha512:" + sumB + sumB},
					Digests:   map[Digest]Pos{"sha512:" + sumB + sumB: {}},
					Files: []File{
						{Member: "[a-z]*", Path: "/opt/cni/bin/", Mode: 0o755},
						{Member: "doc/README.md", Path: "/usr/share/doc/plugins/README.md", Mode: 0o644},
					},
				},
			},
			{
				Name:    "containerd",
				Version: "1.4.13",
				Package: &Package{
					Name:  "containerd",
					Suite: "bullseye",
					Files: []File{{Member: "usr/bin/ctr", Path: "/bin/", Mode: 0o755}},
					Key:   "components.containerd.package",
				},
			},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreTypes(Pos{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("ParseVersions (-want +got):\n%s", diff)
	}
	for _, test := range []struct {
		what      string
		got, want Pos
	}{
		{"os", got.OS.Pos, Pos{"v.yaml", 1, 1}},
		{"components.runc", got.Components[0].Pos, Pos{"v.yaml", 16, 3}},
		{"components.runc.release", got.Components[0].Release.Pos, Pos{"v.yaml", 18, 5}},
		{"components.runc.release.sha256.arm64", got.Components[0].Release.Digests["sha256:"+sumB], Pos{"v.yaml", 22, 9}},
		{"components.runc.release.files[0]", got.Components[0].Release.Files[0].Pos, Pos{"v.yaml", 26, 11}},
		{"components.runc.module.cgo", got.Components[0].Module.CGO.Pos, Pos{"v.yaml", 38, 7}},
	} {
		if test.got != test.want {
			t.Errorf("position of %s = %s; want %s", test.what, test.got, test.want)
		}
	}
	if want := Digest("sha256:"); !strings.HasPrefix(string(got.Sum), string(want)) || len(got.Sum) != 71 {
		t.Errorf("Sum = %s; want a sha256", got.Sum)
	}
}

func TestReleaseFor(t *testing.T) {
	v, err := ParseVersions("v.yaml", []byte(valid))
	if err != nil {
		t.Fatal(err)
	}
	url, sums, err := v.Component("runc").Release.For(arch.AMD64)
	if want := "https://example.com/v1.4.3-rc.1/1.4.3-rc.1/runc.amd64"; url != want || err != nil {
		t.Errorf("For(amd64) = %q, %v; want %q", url, err, want)
	}
	if diff := cmp.Diff([]Digest{"sha512:" + sumA + sumA, "sha256:" + sumA}, sums); diff != "" {
		t.Errorf("For(amd64) sums (-want +got):\n%s", diff)
	}
	_, _, err = v.Component("plugins").Release.For(arch.AMD64)
	if want := "v.yaml:43:5: release of component plugins: nothing for amd64 (there is: arm64)"; text(err) != want {
		t.Errorf("For(amd64) = %v; want %s", err, want)
	}
	if c := v.Component("kubelet"); c != nil {
		t.Errorf("Component(kubelet) = %v; want nil", c)
	}
}

func TestPackageRef(t *testing.T) {
	for _, test := range []struct {
		in   string
		arch arch.Arch
		want PackageRef
		err  string
	}{
		{"vim", arch.AMD64, PackageRef{Name: "vim"}, ""},
		{"linux-image-cloud-{arch}", arch.ARM64, PackageRef{Name: "linux-image-cloud-arm64"}, ""},
		{"a{arch}b/trixie-backports", arch.AMD64, PackageRef{Name: "aamd64b", Suite: "trixie-backports"}, ""},
		{"g++-12", arch.AMD64, PackageRef{Name: "g++-12"}, ""},
		{"Vim", arch.AMD64, PackageRef{}, `"Vim" is not a Debian package name (lower-case letters, digits, + - and .)`},
		{"v", arch.AMD64, PackageRef{}, `"v" is not a Debian package name (lower-case letters, digits, + - and .)`},
		{"vim/", arch.AMD64, PackageRef{}, `"" is not the name of a Debian suite, such as trixie or bookworm-backports`},
		{"vim/a/b", arch.AMD64, PackageRef{}, `"a/b" is not the name of a Debian suite, such as trixie or bookworm-backports`},
		{"vim-{version}", arch.AMD64, PackageRef{}, "unknown placeholder {version} (known here: {arch})"},
		{"vim-{arch", arch.AMD64, PackageRef{}, `"vim-{arch" has a { without a }`},
	} {
		got, err := ParsePackageRef(test.in, test.arch)
		if got != test.want || text(err) != test.err {
			t.Errorf("ParsePackageRef(%q, %s) = %v, %v; want %v, %s", test.in, test.arch, got, err, test.want, test.err)
		}
		if want := strings.ReplaceAll(test.in, "{arch}", string(test.arch)); err == nil && got.String() != want {
			t.Errorf("String() = %q; want %q", got, want)
		}
	}
	c := &Component{Package: &Package{Name: "linux-image-{arch}", Suite: "trixie"}}
	if refs, err := c.ExtraPackages(arch.ARM64); err != nil || !slices.Equal(refs, []PackageRef{{Name: "linux-image-arm64", Suite: "trixie"}}) {
		t.Errorf("ExtraPackages(arm64) = %v, %v; want linux-image-arm64/trixie", refs, err)
	}
}

func TestParseVersionsErrors(t *testing.T) {
	longHex := sumA[:63]
	for _, test := range []struct {
		name     string
		old, new string // what is replaced in valid, once
		want     string
	}{
		{"unknown top key", "os:\n", "oss: 1\nos:\n", "v.yaml:1:1: oss: unknown key (did you mean \"os\"?)"},
		{"no os", valid[:strings.Index(valid, "components:")], "", "v.yaml:1:1: os: missing (add it)"},
		{"no components", valid[strings.Index(valid, "components:"):], "", "v.yaml:1:1: components: missing (add it)"},
		{"distribution", "debian\n", "ubuntu\n", "v.yaml:2:17: os.distribution: \"ubuntu\" is not known (choose from: debian)"},
		{"suite", "suite: bookworm\n", "suite: Bookworm\n", "v.yaml:3:10: os.suite: \"Bookworm\" is not the name of a Debian suite, such as trixie or bookworm-backports"},
		{"suite of digits", "suite: bookworm\n", "suite: 12\n", "v.yaml:3:10: os.suite: want text, found the number 12 (put it in quotes)"},
		{"package name", "[vim,", "[Vim,", "v.yaml:4:14: os.packages[0]: \"Vim\" is not a Debian package name (lower-case letters, digits, + - and .)"},
		{"package twice", "[vim,", "[vim, vim/trixie,", "v.yaml:4:19: os.packages[1]: package vim stands twice, first on line 4 (remove one)"},
		{"package placeholder", "{arch}-signed", "{archh}-signed", "v.yaml:4:19: os.packages[1]: unknown placeholder {archh} (did you mean {arch}?)"},
		{"apt sources", "    URIs: https://mirror.example/debian\n", "", "v.yaml:5:16: os.apt_sources: a stanza has no URIs field (see sources.list(5), deb822 style)"},
		{"apt sources of another type", "apt_sources: |\n    Types: deb\n    URIs: https://mirror.example/debian\n    Suites: bookworm\n", "apt_sources: [deb]\n", "v.yaml:5:16: os.apt_sources: want text, found a list"},

		{"kernel argument", "panic=10]", "panic=10 quiet]", "v.yaml:9:58: os.kernel_arguments[1]: \"panic=10 quiet\" is not one kernel argument (no space, quote or backslash; write each as an item of its own)"},
		{"kernel's root", "panic=10]", "root=/dev/sda]", "v.yaml:9:58: os.kernel_arguments[1]: \"root=/dev/sda\": bake names the root partition itself (remove it)"},
		{"node key", "runtime_type:", "runtime:", "v.yaml:11:1: node.runtime_type: missing (add it)\nv.yaml:12:3: node.runtime: unknown key (known here: cgroup_driver, runtime_type)"},
		{"runtime type", "io.containerd.runc.v2", "runc", "v.yaml:12:17: node.runtime_type: \"runc\" is not a runtime type (want a name as containerd writes it, such as io.containerd.runc.v2)"},
		{"cgroup driver", "cgroup_driver: systemd", "cgroup_driver: system", "v.yaml:13:18: node.cgroup_driver: \"system\" is not known (did you mean \"systemd\"?)"},
		{"no node", "node:\n  runtime_type: io.containerd.runc.v2\n  cgroup_driver: systemd\n\ncomponents:\n", "components:\n  kubelet: {version: v1.36.3, package: {name: kubelet, suite: sid, files: [{member: a, path: /b}]}}\n", "v.yaml:1:1: node: missing (add it with runtime_type and cgroup_driver, which kubelet and containerd are configured by)"},

		{"component name", "  runc:\n", "  Runc:\n", "v.yaml:17:5: components.Runc: \"Runc\" is not a component name (lower-case words of letters and digits, joined by hyphens)"},
		{"component twice", "  plugins:\n", "  runc:\n", "v.yaml:41:3: components.runc: duplicate key, first on line 16 (remove one)"},
		{"component is text", "  containerd:\n    version: 1.4.13\n", "  ctr: yes please\n  containerd:\n    version: 1.4.13\n", "v.yaml:49:8: components.ctr: want a mapping, found \"yes please\""},
		{"no version", "    version: 0.9.1\n", "", "v.yaml:41:3: components.plugins.version: missing (add it)"},
		{"version is a number", "0.9.1", "0.9", "v.yaml:42:14: components.plugins.version: want text, found the number 0.9 (put it in quotes)"},
		{"version", "0.9.1", "latest", "v.yaml:42:14: components.plugins.version: \"latest\" is not a version (it begins with a digit, or v and a digit, and has letters, digits and . + ~ _ - only)"},
		{"misspelt release", "    release:\n      url: http:", "    relase:\n      url: http:", "v.yaml:41:3: components.plugins: there is no way to come by it (add release, module or package)\nv.yaml:43:5: components.plugins.relase: unknown key (did you mean \"release\"?)"},
		{"package and release", "    package:\n", "    release: {url: \"https://a.b/{arch}\", sha256: {amd64: " + strings.Repeat("c", 64) + "}, files: [{path: /x}]}\n    package:\n", "v.yaml:49:3: components.containerd: package excludes release and module (remove the one or the others)"},

		{"reports", "    version: 0.9.1\n", "    version: 0.9.1\n    reports: {version: 0.9.1}\n", "v.yaml:43:5: components.plugins.reports.reason: missing (add it)\nv.yaml:43:24: components.plugins.reports.version: \"0.9.1\" is the component's version (remove reports)"},
		{"reports more", "    version: 0.9.1\n", "    version: 0.9.1\n    reports: {version: 0.9.0, reason: patched, why: x}\n", "v.yaml:43:48: components.plugins.reports.why: unknown key (known here: reason, version)"},
		{"reports no version", "    version: 0.9.1\n", "    version: 0.9.1\n    reports: {reason: \"\"}\n", "v.yaml:43:5: components.plugins.reports.version: missing (add it)\nv.yaml:43:23: components.plugins.reports.reason: empty (write a value, or remove the key)"},
		{"url placeholder", "runc.{arch}", "runc.{arhc}", "v.yaml:19:12: components.runc.release.url: unknown placeholder {arhc} (did you mean {arch}?)"},
		{"url far placeholder", "runc.{arch}", "runc.{platform}", "v.yaml:19:12: components.runc.release.url: unknown placeholder {platform} (known here: {arch}, {major}, {minor}, {patch}, {semver}, {version})"},
		{"url open brace", "runc.{arch}", "runc.{arch", "v.yaml:19:12: components.runc.release.url: \"https://example.com/{version}/{semver}/runc.{arch\" has a { without a }"},
		{"url stray brace", "runc.{arch}", "runc.arch}", "v.yaml:19:12: components.runc.release.url: \"https://example.com/{version}/{semver}/runc.arch}\" has a } without a {"},
		{"url scheme", "http://example.com/plugins", "ftp://example.com/plugins", "v.yaml:44:12: components.plugins.release.url: \"ftp://example.com/plugins-{arch}.tgz\" does not begin with https:// or http://"},
		{"url relative", "http://example.com/plugins", "plugins", "v.yaml:44:12: components.plugins.release.url: \"plugins-{arch}.tgz\" does not begin with https:// or http://"},
		{"url host", "http://example.com/plugins", "http:///plugins", "v.yaml:44:12: components.plugins.release.url: \"http:///plugins-{arch}.tgz\" names no host"},
		{"url user", "http://example.com", "http://me:secret@example.com", "v.yaml:44:12: components.plugins.release.url: a URL with a user name in it is not allowed (this file is public; remove it)"},
		{"url fragment", "plugins-{arch}.tgz", "plugins-{arch}.tgz#x", "v.yaml:44:12: components.plugins.release.url: \"http://example.com/plugins-{arch}.tgz#x\" has a fragment, which is never sent (remove #x)"},
		{"url escape", "plugins-{arch}.tgz", "%zz-{arch}.tgz", "v.yaml:44:12: components.plugins.release.url: not a URL: parse \"http://example.com/%zz-amd64.tgz\": invalid URL escape \"%zz\""},
		{"url for all", "runc.{arch}", "runc", "v.yaml:19:12: components.runc.release.url: digests for several architectures, and one address for all (write {arch} where it differs)"},
		{"no url", "      url: http://example.com/plugins-{arch}.tgz\n", "", "v.yaml:43:5: components.plugins.release.url: missing (add it)"},

		{"short digest", "amd64: " + sumA + "\n        arm64", "amd64: " + longHex + "\n        arm64", "v.yaml:21:16: components.runc.release.sha256.amd64: sha256 has 63 hexadecimal digits; want 64"},
		{"sha512 of 64", "sha512: {arm64: " + sumB + sumB, "sha512: {arm64: " + sumB, "v.yaml:45:23: components.plugins.release.sha512.arm64: sha512 has 64 hexadecimal digits; want 128"},
		{"digest with prefix", "arm64: " + sumB + "\n", "arm64: sha256:" + sumB + "\n", "v.yaml:22:16: components.runc.release.sha256.arm64: want the digits of the sha256 alone (remove \"sha256:\")"},
		{"upper case digest", "arm64: " + sumB + "\n", "arm64: " + strings.ToUpper(sumB) + "\n", "v.yaml:22:16: components.runc.release.sha256.arm64: sha256 has the upper-case digit 'B' at 1 (write it in lower case)"},
		{"digest with a letter", "arm64: " + sumB + "\n", "arm64: b" + strings.Repeat("g", 63) + "\n", "v.yaml:22:16: components.runc.release.sha256.arm64: sha256 has 'g' at 2, which is no hexadecimal digit"},
		{"digest of digits", "arm64: " + sumB + "\n", "arm64: " + strings.Repeat("1", 64) + "\n", "v.yaml:22:16: components.runc.release.sha256.arm64: want text, found the number " + strings.Repeat("1", 64) + " (put it in quotes)"},
		{"digest twice", "arm64: " + sumB + "\n", "arm64: " + sumA + "\n", "v.yaml:22:16: components.runc.release.sha256.arm64: the same digest as for amd64 (was it pasted twice?)"},
		{"digest of another component", "sha512: {arm64: " + sumB + sumB + "}", "sha256: {arm64: " + sumB + "}", "v.yaml:45:16: components.plugins.release.sha256.arm64: the same digest as for component runc, whose file is another, https://example.com/v1.4.3-rc.1/1.4.3-rc.1/runc.arm64 (was it pasted twice?)"},
		{"no digest", "      sha512: {arm64: " + sumB + sumB + "}\n", "", "v.yaml:43:5: components.plugins.release: no digest (add sha256 or sha512 with one for each architecture)"},
		{"empty digests", "{arm64: " + sumB + sumB + "}", "{}", "v.yaml:45:15: components.plugins.release.sha512: no digest (add one for each architecture, or remove the key)"},
		{"uname's architecture", "arm64: " + sumB + "\n", "aarch64: " + sumB + "\n", "v.yaml:22:9: components.runc.release.sha256.aarch64: unknown architecture (did you mean arm64?)"},
		{"unknown architecture", "arm64: " + sumB + "\n", "vax: " + sumB + "\n", "v.yaml:22:9: components.runc.release.sha256.vax: unknown architecture (known: " + arch.Names(", ") + ")"},

		{"no files", "      files:\n        - path: /usr/local/bin/runc\n          mode: 0750\n", "      files: []\n", "v.yaml:25:14: components.runc.release.files: empty (say at least one file)"},
		{"bad pattern", `"[a-z]*"`, `"[a-z*"`, "v.yaml:47:20: components.plugins.release.files[0].member: \"[a-z*\" is not a pattern (an unclosed [ or a \\ at its end; see the package documentation of Go's path.Match)"},
		{"absolute member", "doc/README.md,", "/doc/README.md,", "v.yaml:48:20: components.plugins.release.files[1].member: \"/doc/README.md\" is absolute; members are not (remove the /)"},
		{"member with dot", "doc/README.md,", "./doc/README.md,", "v.yaml:48:20: components.plugins.release.files[1].member: \"./doc/README.md\" is not clean (no ./, no .., no // and no / at the end)"},
		{"member outside", "doc/README.md,", "../README.md,", "v.yaml:48:20: components.plugins.release.files[1].member: \"../README.md\" is not clean (no ./, no .., no // and no / at the end)"},
		{"member template", "doc/README.md,", "\"{arch}/README.md\",", "v.yaml:48:20: components.plugins.release.files[1].member: \"{arch}/README.md\" has a placeholder, which members have none of (write * for what varies)"},
		{"pattern to a file", "/opt/cni/bin/}", "/opt/cni/bin}", "v.yaml:47:36: components.plugins.release.files[0].path: \"[a-z]*\" may be several files, and they go to a directory (write /opt/cni/bin/)"},
		{"relative path", "/opt/cni/bin/}", "opt/cni/bin/}", "v.yaml:47:36: components.plugins.release.files[0].path: \"opt/cni/bin/\" is not absolute (begin with /)"},
		{"path with dots", "/opt/cni/bin/}", "/opt/../bin/}", "v.yaml:47:36: components.plugins.release.files[0].path: \"/opt/../bin/\" is not clean (no . or .., no //, and not / itself)"},
		{"root", "/opt/cni/bin/}", "/}", "v.yaml:47:36: components.plugins.release.files[0].path: \"/\" is not clean (no . or .., no //, and not / itself)"},
		{"directory without member", "- path: /usr/local/bin/runc", "- path: /usr/local/bin/", "v.yaml:26:17: components.runc.release.files[0].path: \"/usr/local/bin/\" is a directory (write the whole path of the file)"},
		{"mode", "mode: 0750", "mode: rwx", "v.yaml:27:17: components.runc.release.files[0].mode: want a mode of four octal digits such as 0755, found \"rwx\""},
		{"installed twice", "/usr/share/doc/plugins/README.md", "/usr/local/bin/runc", "v.yaml:48:11: components.plugins.release: /usr/local/bin/runc is already installed by runc on line 26"},
		{"installed twice by directory", "{member: doc/README.md, path: /usr/share/doc/plugins/README.md", "{member: doc/runc, path: /usr/local/bin/", "v.yaml:48:11: components.plugins.release: /usr/local/bin/runc is already installed by runc on line 26"},
		{"installed twice by one", "        - {member: doc/README.md", "        - {member: doc/README.md, path: /usr/share/doc/plugins/README.md}\n        - {member: doc/README.md", "v.yaml:49:11: components.plugins.release: /usr/share/doc/plugins/README.md is already installed by plugins on line 48"},

		{"module path", "path: github.com/opencontainers/runc\n      toolchain", "path: runc!\n      toolchain", "v.yaml:29:13: components.runc.module.path: malformed module path \"runc!\": invalid char '!'"},
		{"module version", "      toolchain", "      version: 1.4.3\n      toolchain", "v.yaml:30:16: components.runc.module.version: \"1.4.3\" is not a module version (want vMAJOR.MINOR.PATCH; see https://go.dev/ref/mod#versions)"},
		{"module major version", "      toolchain", "      version: v2.0.0\n      toolchain", "v.yaml:30:16: components.runc.module.version: github.com/opencontainers/runc@v2.0.0: invalid version: should be v0 or v1, not v2"},
		{"component version is no module version", "v1.4.3-rc.1", "v1.4", "v.yaml:29:13: components.runc.module.path: \"v1.4\" is not a module version (want vMAJOR.MINOR.PATCH; see https://go.dev/ref/mod#versions)\nv.yaml:37:23: components.runc.module.stamp.main.version: unknown placeholder {patch} (known here: {major}, {minor}, {semver}, {version})"},
		{"toolchain", "go1.26.8", "1.26.8", "v.yaml:30:18: components.runc.module.toolchain: \"1.26.8\" is not a Go toolchain (want go1.MINOR.PATCH)"},
		{"language version", "go1.26.8", "go1.26", "v.yaml:30:18: components.runc.module.toolchain: \"go1.26\" is a version of the language, not a toolchain (write go1.26.0 or later)"},
		{"toolchain and more", "go1.26.8", "go1.26.8-x+path", "v.yaml:30:18: components.runc.module.toolchain: \"go1.26.8-x+path\" is not a Go toolchain (want go1.MINOR.PATCH)"},
		{"release candidate", "go1.26.8", "go1.26rc1", "v.yaml:30:18: components.runc.module.toolchain: \"go1.26rc1\" is not a Go toolchain (want go1.MINOR.PATCH)"},
		{"old toolchain", "go1.26.8", "go1.20.14", "v.yaml:30:18: components.runc.module.toolchain: \"go1.20.14\" is too old (want go1.21.0 or later)"},
		{"dir outside", "modules/runc", "../runc", "v.yaml:31:12: components.runc.module.dir: \"../runc\" is not a directory below the one of this file (want a relative path such as modules/runc)"},
		{"dir absolute", "modules/runc", "/modules/runc", "v.yaml:31:12: components.runc.module.dir: \"/modules/runc\" is not a directory below the one of this file (want a relative path such as modules/runc)"},
		{"no toolchain", "      toolchain: go1.26.8\n", "", "v.yaml:28:5: components.runc.module.toolchain: missing (add it)"},
		{"no programs", "      programs:\n        - package: github.com/opencontainers/runc\n          path: /usr/local/bin/runc\n", "      programs: []\n", "v.yaml:32:17: components.runc.module.programs: empty (say at least one program)"},
		{"package of another module", "package: github.com/opencontainers/runc", "package: github.com/opencontainers/runcer", "v.yaml:33:20: components.runc.module.programs[0].package: \"github.com/opencontainers/runcer\" is not a package of module github.com/opencontainers/runc"},
		{"program elsewhere", "          path: /usr/local/bin/runc\n      tags", "          path: /usr/bin/runc\n      tags", "v.yaml:33:11: components.runc.module.programs: /usr/bin/runc is built, but the release installs nothing there (make the paths equal)"},
		{"program's tag", "          path: /usr/local/bin/runc\n      tags", "          path: /usr/local/bin/runc\n          tags: [a-b]\n      tags", "v.yaml:35:18: components.runc.module.programs[0].tags[0]: \"a-b\" is not a build tag (letters, digits, _ and .)"},
		{"tag", "[seccomp]", "[\"seccomp,x\"]", "v.yaml:35:14: components.runc.module.tags[0]: \"seccomp,x\" is not a build tag (letters, digits, _ and .)"},
		{"stamp variable", "main.version:", "version:", "v.yaml:37:9: components.runc.module.stamp.version: not a variable (want IMPORT/PATH.NAME, or main.NAME)"},
		{"stamp name", "main.version:", "main.1:", "v.yaml:37:9: components.runc.module.stamp.main.1: not a variable (want IMPORT/PATH.NAME, or main.NAME)"},
		{"stamp placeholder", "{semver}~", "{arch}~", "v.yaml:37:23: components.runc.module.stamp.main.version: unknown placeholder {arch} (known here: {major}, {minor}, {patch}, {semver}, {version})"},
		{"cgo package", "[libseccomp-dev]", "[libseccomp_dev]", "v.yaml:39:20: components.runc.module.cgo.packages[0]: \"libseccomp_dev\" is not a Debian package name (lower-case letters, digits, + - and .)"},
		{"stamp that would be a flag", "{semver}~", "1 -linkmode=external -extld=/tmp/x", "v.yaml:37:23: components.runc.module.stamp.main.version: value \"1 -linkmode=external -extld=/tmp/x1.4.3\" has more than letters, digits and . _ + : / ~ -"},
		{"cgo key", "ldflags:", "ldflag:", "v.yaml:40:9: components.runc.module.cgo.ldflag: unknown key (did you mean \"ldflags\"?)"},

		{"linker flag", "[-static]", "[\"-wrapper,sh,-c,id\"]", "v.yaml:40:19: components.runc.module.cgo.ldflags[0]: \"-wrapper,sh,-c,id\" is not allowed (want -static or -static-pie, nothing else)"},
		{"linker flag beside", "[-static]", "[-static, -fuse-ld=x]", "v.yaml:40:18: components.runc.module.cgo.ldflags: more than one (keep -static or -static-pie)\nv.yaml:40:28: components.runc.module.cgo.ldflags[1]: \"-fuse-ld=x\" is not allowed (want -static or -static-pie, nothing else)"},
		{"linker flags in one", "[-static]", "[\"-static -B/tmp\"]", "v.yaml:40:19: components.runc.module.cgo.ldflags[0]: \"-static -B/tmp\" is not allowed (want -static or -static-pie, nothing else)"},
		{"two linker flags", "[-static]", "[-static, -static-pie]", "v.yaml:40:18: components.runc.module.cgo.ldflags: more than one (keep -static or -static-pie)"},

		{"debian package name", "name: containerd", "name: containerd/trixie", "v.yaml:52:13: components.containerd.package.name: \"containerd/trixie\" is not a Debian package name (lower-case letters, digits, + - and .)"},
		{"debian package's suite", "      suite: bullseye\n", "", "v.yaml:51:5: components.containerd.package.suite: missing (add it)"},
		{"whole package as a file", "{member: usr/bin/ctr, path: /bin/}", "{path: /bin/ctr}", "v.yaml:55:11: components.containerd.package.files: a file out of a package needs its member (add member: usr/bin/...)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if strings.Count(valid, test.old) < 1 {
				t.Fatalf("the valid file has no %q", test.old)
			}
			v, err := ParseVersions("v.yaml", []byte(strings.Replace(valid, test.old, test.new, 1)))
			if got := text(err); got != test.want {
				t.Errorf("ParseVersions with %q for %q:\n got %s\nwant %s", test.new, test.old, got, test.want)
			}
			if v != nil {
				t.Errorf("ParseVersions with %q for %q returned a value with its error", test.new, test.old)
			}
		})
	}
}

func TestModulesSharingADirectory(t *testing.T) {
	const file = `os: {distribution: debian, suite: trixie}
components:
  kubelet:
    version: v1.36.3
    module: {path: k8s.io/kubernetes, toolchain: go1.26.8, dir: modules/k, programs: [{package: k8s.io/kubernetes/cmd/kubelet, path: /kubelet}]}
  kubectl:
    version: v1.36.3
    module: {path: k8s.io/kubernetes, toolchain: go1.26.8, dir: modules/k, programs: [{package: k8s.io/kubernetes/cmd/kubectl, path: /kubectl}]}
`
	for _, test := range []struct{ old, new, what string }{
		{"", "", ""},
		{"v1.36.3\n    module: {path: k8s.io/kubernetes, toolchain: go1.26.8, dir: modules/k, programs: [{package: k8s.io/kubernetes/cmd/kubectl", "v1.36.4\n    module: {path: k8s.io/kubernetes, toolchain: go1.26.8, dir: modules/k, programs: [{package: k8s.io/kubernetes/cmd/kubectl", "version is v1.36.4 here and v1.36.3"},
		{"go1.26.8, dir: modules/k, programs: [{package: k8s.io/kubernetes/cmd/kubectl", "go1.26.7, dir: modules/k, programs: [{package: k8s.io/kubernetes/cmd/kubectl", "toolchain is go1.26.7 here and go1.26.8"},
		{"k8s.io/kubernetes, toolchain: go1.26.8, dir: modules/k, programs: [{package: k8s.io/kubernetes/cmd/kubectl", "k8s.io/kubectl, toolchain: go1.26.8, dir: modules/k, programs: [{package: k8s.io/kubectl/cmd/kubectl", "path is k8s.io/kubectl here and k8s.io/kubernetes"},
	} {
		_, err := ParseVersions("v.yaml", []byte(strings.Replace(file, test.old, test.new, 1)))
		want := ""
		if test.what != "" {
			want = "v.yaml:8:5: components.kubectl.module: " + test.what + " for kubelet on line 5, which has the same dir modules/k (make them equal, or use two directories)"
		}
		if text(err) != want {
			t.Errorf("ParseVersions with %q:\n got %v\nwant %s", test.new, err, want)
		}
	}
}

func FuzzParseVersions(f *testing.F) {
	f.Add([]byte(valid))
	f.Add([]byte(validImages))
	f.Add([]byte(validPackagesImages))
	f.Add([]byte(imagesHead + "images: {a: {reference: 'a.b/c:1', packages: [a/x, 'b-{arch}'], entrypoint: [], user: '1:', environment: {a: 1}, paths: [{path: /a, link: b}, {path: /a/b}]}}\n"))
	f.Add([]byte(imagesHead + "images: {a: {reference: 'docker.io/a/b:1@sha256:x', digest: 'sha512:', sandbox: no, program: x, module: {}}}\n"))
	for _, name := range committed {
		data, err := os.ReadFile(filepath.Join("..", "..", "manifests", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("os: {distribution: debian, suite: trixie}\ncomponents: {}\n"))
	f.Add([]byte("os: &a [*a]\n"))
	f.Add([]byte("? [a, b]\n: c\n"))
	f.Add([]byte("components: {a: {version: '1', release: {url: 'https://{arch}/', sha256: {amd64: x}, files: [{member: '[', path: /}]}}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := ParseVersions("v.yaml", data)
		if err != nil {
			if v != nil || !strings.HasPrefix(err.Error(), "v.yaml:") {
				t.Errorf("ParseVersions = %v, %v; want no value and an error with a position", v, err)
			}
			return
		}
		for _, c := range v.Components {
			checkWords(t, c.Module)
			if c.Release == nil {
				continue
			}
			for _, arch := range c.Release.Archs() {
				url, sums, err := c.Release.For(arch)
				if err != nil || strings.ContainsAny(url, "{}") || len(sums) == 0 {
					t.Errorf("For(%s) = %q, %v, %v; want a URL and digests", arch, url, sums, err)
				}
			}
		}
		for _, c := range v.Images {
			checkWords(t, c.Module)
			checkByLibrary(t, c.Reference)
			if c.Packages != nil {
				checkPackagesImage(t, &c)
				continue
			}
			if sum, err := ParseDigest(string(c.Digest)); err != nil || sum.Algorithm() != "sha256" {
				t.Errorf("ParseSum(%q) = %q, %v; want a sha256", c.Digest, sum, err)
			}
		}
		if _, err := v.OS.PackagesFor(arch.ARM64); err != nil {
			t.Errorf("PackagesFor(arm64) = %v after it was parsed", err)
		}
	})
}

// checkPackagesImage fails where a layer or the configuration of an image could not
// hold what was read.
func checkPackagesImage(t *testing.T, c *ContainerImage) {
	t.Helper()
	if refs, err := c.PackagesFor(arch.ARM64); err != nil || len(refs) == 0 {
		t.Errorf("PackagesFor(arm64) of image %s = %v, %v after it was parsed", c.Name, refs, err)
	}
	if c.Digest != "" || c.Program != "" {
		t.Errorf("image %s is of packages, and has digest %q and program %q", c.Name, c.Digest, c.Program)
	}
	for _, s := range slices.Concat(c.Entrypoint, c.Command, c.Environment) {
		if strings.Contains(s, "\x00") {
			t.Errorf("ParseVersions took %q, which no program can be given", s)
		}
	}
	for _, p := range c.Paths {
		if !fs.ValidPath(strings.TrimPrefix(p.Path, "/")) || p.Path == "/." || strings.Contains(p.Path, "/.wh.") {
			t.Errorf("ParseVersions took the path %q", p.Path)
		}
	}
}

// checkWords fails where a text that the go command, a compiler or a linker is
// given could be a flag or several words.
func checkWords(t *testing.T, m *Module) {
	t.Helper()
	if m == nil {
		return
	}
	words := append([]string{m.Path, m.Version, m.Toolchain}, m.Tags...)
	for _, p := range m.Programs {
		words = append(append(words, p.Package), p.Tags...)
	}
	values := slices.Collect(maps.Values(m.Stamp))
	words = slices.AppendSeq(words, maps.Keys(m.Stamp))
	if m.CGO != nil {
		for _, p := range m.CGO.Packages {
			words = append(words, p.Text)
		}
		for _, flag := range m.CGO.LDFlags {
			if flag != "-static" && flag != "-static-pie" {
				t.Errorf("ParseVersions took the linker flag %q", flag)
			}
		}
	}
	for _, word := range words {
		if word == "" || word[0] == '-' {
			t.Errorf("ParseVersions took %q, which could be a flag", word)
		}
	}
	for _, word := range append(words, values...) {
		if strings.ContainsAny(word, " \t\r\n'\"`$\\,") {
			t.Errorf("ParseVersions took %q, which could be several words", word)
		}
	}
}
