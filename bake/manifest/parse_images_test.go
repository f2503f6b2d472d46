package manifest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/go-containerregistry/pkg/name"
)

const imagesHead = "os: {distribution: debian, suite: trixie}\ncomponents: {}\n"

// validImages has one of everything. The tests of errors break it in one place.
const validImages = imagesHead + `images:
  pause:
    reference: registry.example.com:5000/pause:3.10.2
    digest: sha256:` + sumA + `
    sandbox: true
    program: pause
  coredns:
    reference: docker.io/coredns/coredns:1.14.2
    digest: sha256:` + sumB + `
    sandbox: false
    module:
      path: github.com/coredns/coredns
      toolchain: go1.26.8
      dir: modules/coredns
      programs:
        - {package: github.com/coredns/coredns, path: /coredns}
        - {package: github.com/coredns/coredns/man, path: /man}
      stamp:
        main.version: "{semver}~{major}"
  plain:
    reference: localhost/a/b__c-d:latest
    digest: sha256:` + sumA + `
`

func TestParseImages(t *testing.T) {
	t.Parallel()
	v, err := ParseVersions("v.yaml", []byte(validImages))
	if err != nil {
		t.Fatal(err)
	}
	want := []ContainerImage{
		{Name: "pause", Reference: "registry.example.com:5000/pause:3.10.2", Digest: "sha256:" + sumA, Sandbox: true, Program: "pause"},
		{
			Name: "coredns", Reference: "docker.io/coredns/coredns:1.14.2", Digest: "sha256:" + sumB,
			Module: &Module{
				Path: "github.com/coredns/coredns", Version: "v1.14.2", Toolchain: "go1.26.8", Dir: "modules/coredns",
				Programs: []Program{
					{Package: "github.com/coredns/coredns", Path: "/coredns"},
					{Package: "github.com/coredns/coredns/man", Path: "/man"},
				},
				Stamp: map[string]string{"main.version": "1.14.2~1"},
			},
		},
		{Name: "plain", Reference: "localhost/a/b__c-d:latest", Digest: "sha256:" + sumA},
	}
	if diff := cmp.Diff(want, v.Images, cmpopts.IgnoreTypes(Pos{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Images (-want +got):\n%s", diff)
	}
	if got, want := v.Images[1].Pos, (Pos{"v.yaml", 9, 3}); got != want {
		t.Errorf("position of images.coredns = %s; want %s", got, want)
	}
	for i, want := range []string{"3.10.2", "1.14.2", "latest"} {
		if got := v.Images[i].Tag(); got != want {
			t.Errorf("Tag of %s = %q; want %q", v.Images[i].Reference, got, want)
		}
	}
	for _, none := range []string{"", "images: {}\n"} {
		v, err := ParseVersions("v.yaml", []byte(imagesHead+none))
		if err != nil || len(v.Images) != 0 {
			t.Errorf("ParseVersions with %q: error %v; want no images and no error", none, err)
		}
	}
}

func TestParseImagesErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		old, new string // what is replaced in validImages, once
		want     string
	}{
		{"list", validImages[len(imagesHead):], "images: [pause]\n", "v.yaml:3:9: images: want a mapping, found a list"},
		{"name", "  plain:\n", "  Plain:\n", "v.yaml:23:5: images.Plain: \"Plain\" is not the name of an image here (lower-case words of letters and digits, joined by hyphens)"},
		{"name twice", "  plain:\n", "  pause:\n", "v.yaml:22:3: images.pause: duplicate key, first on line 4 (remove one)"},
		{"reference twice", "localhost/a/b__c-d:latest", "docker.io/coredns/coredns:1.14.2", "v.yaml:22:3: images.plain: docker.io/coredns/coredns:1.14.2 is already the image on line 9 (remove one; a reference names one image)"},
		{"no reference", "    reference: docker.io/coredns/coredns:1.14.2\n", "", "v.yaml:9:3: images.coredns.reference: missing (add it)"},
		{"no digest", "    digest: sha256:" + sumB + "\n", "", "v.yaml:9:3: images.coredns.digest: missing (add it)"},
		{"misspelt key", "    sandbox: true\n", "    sandbx: true\n", "v.yaml:7:5: images.pause.sandbx: unknown key (did you mean \"sandbox\"?)"},
		{"unknown key", "    sandbox: true\n", "    version: 3.10.2\n", "v.yaml:7:5: images.pause.version: unknown key (known here: command, digest, entrypoint, environment, module, packages, paths, program, reference, sandbox, user)"},
		{"sandbox is text", "sandbox: true", "sandbox: \"true\"", "v.yaml:7:14: images.pause.sandbox: want true or false, found \"true\""},
		{"sandbox of YAML 1.1", "sandbox: true", "sandbox: yes", "v.yaml:7:14: images.pause.sandbox: want true or false, found \"yes\""},
		{"two sandboxes", "sandbox: false", "sandbox: true", "v.yaml:9:3: images.coredns: pause is the sandbox already (remove sandbox here or there: containerd has one for all pods)"},
		{"unknown program", "program: pause", "program: pausee", "v.yaml:8:14: images.pause.program: \"pausee\" is not known (did you mean \"pause\"?)"},
		{"another program", "program: pause", "program: firstboot", "v.yaml:8:14: images.pause.program: \"firstboot\" is not known (choose from: pause)"},
		{"program and module", "    sandbox: false\n", "    program: pause\n", "v.yaml:9:3: images.coredns: program excludes module (remove one: an image is assembled from one of them)"},

		{"digest of digits", "sha256:" + sumB, "\"" + sumB + "\"", "v.yaml:11:13: images.coredns.digest: \"" + sumB + "\" is not a digest (want sha256: or sha512: and hexadecimal digits)"},
		{"short digest", "sha256:" + sumB, "sha256:" + sumB[1:], "v.yaml:11:13: images.coredns.digest: sha256 has 63 hexadecimal digits; want 64"},
		{"upper-case digest", "sha256:" + sumB, "sha256:" + strings.ToUpper(sumB), "v.yaml:11:13: images.coredns.digest: sha256 has the upper-case digit 'B' at 1 (write it in lower case)"},
		{"sha512", "sha256:" + sumB, "sha512:" + sumB + sumB, "v.yaml:11:13: images.coredns.digest: \"sha512:" + sumB + sumB + "\" is not the digest of an image at a registry (want sha256: and 64 hexadecimal digits)"},

		{"tag is no version", "coredns:1.14.2", "coredns:latest", "v.yaml:14:13: images.coredns.module.path: \"vlatest\" is not a module version (want vMAJOR.MINOR.PATCH; see https://go.dev/ref/mod#versions)"},
		{"module's major version", "coredns:1.14.2", "coredns:v2.0.0", "v.yaml:14:13: images.coredns.module.path: github.com/coredns/coredns@v2.0.0: invalid version: should be v0 or v1, not v2"},
		{"no toolchain", "      toolchain: go1.26.8\n", "", "v.yaml:13:5: images.coredns.module.toolchain: missing (add it)"},
		{"programs at one path", "path: /man", "path: /coredns", "v.yaml:19:11: images.coredns.module.programs: /coredns is already the program on line 18 (give each a path of its own)"},
		{"cgo", "      stamp:\n", "      cgo: {ldflags: [-static]}\n      stamp:\n", "v.yaml:20:7: images.coredns.module.cgo: programs of an image are static and without C (remove it)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(validImages, test.old) {
				t.Fatalf("the valid file has no %q", test.old)
			}
			v, err := ParseVersions("v.yaml", []byte(strings.Replace(validImages, test.old, test.new, 1)))
			if got := text(err); got != test.want {
				t.Errorf("ParseVersions with %q for %q:\n got %s\nwant %s", test.new, test.old, got, test.want)
			}
			if v != nil {
				t.Error("ParseVersions returned a value with its error")
			}
		})
	}
}

func TestCheckReference(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 128)
	for _, test := range []struct{ in, want string }{
		{"registry.k8s.io/pause:3.10.2", ""},
		{"docker.io/library/nginx:1.29.0", ""},
		{"localhost/pause:1", ""},
		{"localhost:5000/pause:1", ""},
		{"127.0.0.1:5000/pause:1", ""},
		{"registry:5000/a/b/c.d_e__f---g:A_b.c-1", ""},
		{"example.com/" + strings.Repeat("a", 243) + ":" + long, ""},

		{"pause", `"pause" names no registry (write it as containerd does, with the host in front: docker.io/library/nginx:1.29.0)`},
		{"pause:3.10", `"pause:3.10" names no registry (write it as containerd does, with the host in front: docker.io/library/nginx:1.29.0)`},
		{"coredns/coredns:1.8.3", `"coredns/coredns:1.8.3" names no registry (write it as containerd does, with the host in front: docker.io/library/nginx:1.29.0)`},
		{"registry.k8s.io/pause", `"registry.k8s.io/pause" has no tag (add it: registry.k8s.io/pause:TAG)`},
		{"registry.k8s.io:443/pause", `"registry.k8s.io:443/pause" has no tag (add it: registry.k8s.io:443/pause:TAG)`},
		{"registry.k8s.io/pause:", `"" is not a tag (at most 128 letters, digits and . _ - and the first is no . or -)`},
		{"registry.k8s.io/pause:-1", `"-1" is not a tag (at most 128 letters, digits and . _ - and the first is no . or -)`},
		{"registry.k8s.io/pause:" + long + "a", `"` + long + `a" is not a tag (at most 128 letters, digits and . _ - and the first is no . or -)`},
		{"registry.k8s.io/pause:3.10@sha256:" + sumA, `"registry.k8s.io/pause:3.10@sha256:` + sumA + `" has an @ (write HOST/REPOSITORY:TAG here; the digest has a key of its own)`},
		{"https://registry.k8s.io/pause:3.10", `"https:" is not the host of a registry (want a lower-case name and perhaps a port, such as registry.example.com:5000)`},
		{"Registry.k8s.io/pause:3.10", `"Registry.k8s.io" is not the host of a registry (want a lower-case name and perhaps a port, such as registry.example.com:5000)`},
		{"registry.k8s.io./pause:3.10", `"registry.k8s.io." is not the host of a registry (want a lower-case name and perhaps a port, such as registry.example.com:5000)`},
		{"user@registry.k8s.io/pause:3.10", `"user@registry.k8s.io/pause:3.10" has an @ (write HOST/REPOSITORY:TAG here; the digest has a key of its own)`},
		{"registry.k8s.io:/pause:3.10", `"registry.k8s.io:" is not the host of a registry (want a lower-case name and perhaps a port, such as registry.example.com:5000)`},
		{"registry.k8s.io:65536/pause:3.10", `"registry.k8s.io:65536" is not the host of a registry (want a lower-case name and perhaps a port, such as registry.example.com:5000)`},
		{"registry.k8s.io/Pause:3.10", `"Pause" is not a repository (lower-case letters and digits, joined by single . _ / or __ or hyphens)`},
		{"registry.k8s.io//pause:3.10", `"/pause" is not a repository (lower-case letters and digits, joined by single . _ / or __ or hyphens)`},
		{"registry.k8s.io/a/../b:1", `"a/../b" is not a repository (lower-case letters and digits, joined by single . _ / or __ or hyphens)`},
		{"registry.k8s.io/:1", `"" is not a repository (lower-case letters and digits, joined by single . _ / or __ or hyphens)`},
		{"registry.k8s.io/a b:1", `"a b" is not a repository (lower-case letters and digits, joined by single . _ / or __ or hyphens)`},
		{"registry.k8s.io/a\n:1", `"a\n" is not a repository (lower-case letters and digits, joined by single . _ / or __ or hyphens)`},
		{"example.com/" + strings.Repeat("a", 244) + ":1", "host and repository have 256 characters, more than the 255 that registries and containerd take"},
		{"index.docker.io/coredns/coredns:1.8.3", "containerd calls Docker Hub docker.io (write docker.io/coredns/coredns:1.8.3)"},
		{"docker.io/nginx:1.29.0", "containerd looks for Docker's own images below library (write docker.io/library/nginx:1.29.0)"},
		{"bake.invalid/pause:3.10", "bake.invalid is where images are that bake assembles in place of a registry's (write the name that the image has at its registry, or for one of packages another host, such as bake.local)"},
	} {
		err := checkReference(test.in)
		if text(err) != test.want {
			t.Errorf("checkReference(%q):\n got %s\nwant %s", test.in, text(err), test.want)
		}
		if err == nil {
			checkByLibrary(t, test.in)
		}
	}
}

// checkByLibrary wants go-containerregistry, which fetches images, to read a
// reference as we do.
func checkByLibrary(t *testing.T, reference string) {
	t.Helper()
	tag, err := name.NewTag(reference, name.StrictValidation)
	if err != nil {
		t.Errorf("name.NewTag(%q) = %v, and checkReference takes it", reference, err)
		return
	}
	image := ContainerImage{Reference: reference}
	want := strings.Replace(reference, "docker.io/", "index.docker.io/", 1)
	if tag.TagStr() != image.Tag() || tag.Name() != want && tag.Name() != reference {
		t.Errorf("name.NewTag(%q) is %s with tag %q; want itself with %q", reference, tag.Name(), tag.TagStr(), image.Tag())
	}
}

func TestImagesSharingADirectory(t *testing.T) {
	t.Parallel()
	const component = `os: {distribution: debian, suite: trixie}
components:
  dns:
    version: v1.14.2
    module: {path: github.com/coredns/coredns, toolchain: go1.26.8, dir: modules/coredns, programs: [{package: github.com/coredns/coredns, path: /coredns}]}
`
	file := component + validImages[len(imagesHead):]
	if _, err := ParseVersions("v.yaml", []byte(file)); err != nil {
		t.Errorf("ParseVersions of a component and an image of one module: %v", err)
	}
	_, err := ParseVersions("v.yaml", []byte(strings.Replace(file, "coredns:1.14.2", "coredns:1.14.1", 1)))
	want := "v.yaml:16:5: images.coredns.module: version is v1.14.1 here and v1.14.2 for dns on line 5, which has the same dir modules/coredns (make them equal, or use two directories)"
	if text(err) != want {
		t.Errorf("ParseVersions:\n got %v\nwant %s", err, want)
	}
	two := strings.Replace(validImages, "path: github.com/coredns/coredns\n", "path: example.com/a\n", 1) // plain gets the other one
	two = strings.ReplaceAll(two, "github.com/coredns/coredns", "example.com/a") +
		"    module: {path: example.com/b, version: v1.14.2, toolchain: go1.26.8, dir: modules/coredns, programs: [{package: example.com/b, path: /b}]}\n"
	_, err = ParseVersions("v.yaml", []byte(two))
	want = "v.yaml:25:5: images.plain.module: path is example.com/b here and example.com/a for image coredns on line 13, which has the same dir modules/coredns (make them equal, or use two directories)"
	if text(err) != want {
		t.Errorf("ParseVersions:\n got %v\nwant %s", err, want)
	}
}

// TestCommittedImages says which images the sets bake in. containerd's default
// sandbox image of each set is the set's.
func TestCommittedImages(t *testing.T) {
	t.Parallel()
	type image struct {
		Reference, Version string
		Sandbox            bool
	}
	for file, want := range map[string][]image{
		"versions.yaml":              {{"registry.k8s.io/pause:3.10.2", "", true}, {"registry.k8s.io/coredns/coredns:v1.14.2", "v1.14.2", false}},
		"kthw-1.21.yaml":             {{"k8s.gcr.io/pause:3.2", "", true}, {"docker.io/coredns/coredns:1.8.3", "v1.8.3", false}},
		"../test/kthw/versions.yaml": {{"k8s.gcr.io/pause:3.2", "", true}, {"docker.io/coredns/coredns:1.8.3", "v1.8.3", false}},
		"../test/smoke/versions.yaml": {
			{"registry.k8s.io/pause:3.10.2", "", true}, {"registry.k8s.io/coredns/coredns:v1.14.2", "v1.14.2", false},
			{"bake.local/nginx:1.26", "", false}, {"bake.local/busybox:1.37", "", false},
		},
		"modules/controlplane.yaml":      nil,
		"modules/controlplane-1.24.yaml": nil,
	} {
		v := parseCommitted(t, file)
		var got []image
		for _, c := range v.Images {
			i := image{Reference: c.Reference, Sandbox: c.Sandbox}
			if c.Module != nil {
				i.Version = c.Module.Version
				dir := filepath.Join("..", "..", "manifests", filepath.Dir(file), filepath.FromSlash(c.Module.Dir))
				for _, name := range []string{"go.mod", "go.sum"} {
					if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
						t.Errorf("%s: image %s: %v", file, c.Name, err)
					}
				}
			}
			if c.Module == nil && c.Program == "" && c.Packages == nil {
				t.Errorf("%s: image %s has neither module nor program nor packages, and can't be assembled", file, c.Name)
			}
			got = append(got, i)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("images of %s (-want +got):\n%s", file, diff)
		}
	}
	// The smoke test's set is the worker's but for its images.
	set, smoke := parseCommitted(t, "versions.yaml"), parseCommitted(t, "../test/smoke/versions.yaml")
	if diff := cmp.Diff(set.Components, smoke.Components, cmpopts.IgnoreTypes(Pos{})); diff != "" {
		t.Errorf("components of test/smoke (-the worker's +its):\n%s", diff)
	}
	if diff := cmp.Diff(set.OS, smoke.OS, cmpopts.IgnoreTypes(Pos{})); diff != "" {
		t.Errorf("os of test/smoke (-the worker's +its):\n%s", diff)
	}
	if diff := cmp.Diff(set.Node, smoke.Node, cmpopts.IgnoreTypes(Pos{})); diff != "" {
		t.Errorf("node of test/smoke (-the worker's +its):\n%s", diff)
	}
	if diff := cmp.Diff(set.Images, smoke.Images[:len(set.Images)], cmpopts.IgnoreTypes(Pos{})); diff != "" {
		t.Errorf("first images of test/smoke (-the worker's +its):\n%s", diff)
	}
}
