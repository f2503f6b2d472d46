package gobuild

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/test/filetest"
)

// TestCommittedModules checks that each module of the committed versions files
// has a go.mod and go.sum that belong to it.
func TestCommittedModules(t *testing.T) {
	const dir = "../../../manifests"
	for _, name := range []string{"versions.yaml", "kthw-1.21.yaml"} {
		data := filetest.Read(t, filepath.Join(dir, name))
		versions, err := manifest.ParseVersions(name, data)
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range Targets(versions) {
			if _, err := newRecipe(target, arch.AMD64, os.DirFS(dir)); err != nil {
				t.Errorf("%s: %s: %v", name, target.Name, err)
			}
		}
	}
}

func TestFlags(t *testing.T) {
	r := &recipe{arch: arch.ARM64, tags: []string{"a", "b"}, stamps: []stamp{{"main.x", "1"}, {"p.y", ""}}}
	want := []string{"-trimpath", "-buildvcs=false", "-tags=a,b", "-ldflags=-s -w -buildid= -X main.x=1 -X p.y="}
	if diff := cmp.Diff(want, r.flags(r.tags)); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"GOARCH=arm64", "GOARM64=v8.0", "GOOS=linux", "CGO_ENABLED=0"}, r.env()); diff != "" {
		t.Errorf("env (-want +got):\n%s", diff)
	}
	r = &recipe{arch: arch.AMD64, cgo: &cgo{ldflags: []string{"-static-pie"}}}
	want = []string{"-trimpath", "-buildvcs=false", "-buildmode=pie", "-ldflags=-s -w -buildid= -linkmode=external '-extldflags=-static-pie'"}
	if diff := cmp.Diff(want, r.flags(r.tags)); diff != "" {
		t.Errorf("flags with cgo (-want +got):\n%s", diff)
	}
}

// TestKey changes one thing at a time and wants another key each time.
func TestKey(t *testing.T) {
	keys := map[string]string{}
	for name, change := range map[string]func(r *recipe){
		"nothing":       func(r *recipe) {},
		"arch":          func(r *recipe) { r.arch = arch.ARM64 },
		"version":       func(r *recipe) { r.module.Version = "v1.0.1" },
		"sum":           func(r *recipe) { r.sum = "h1:b" },
		"toolchain":     func(r *recipe) { r.toolchain = "go1.26.7" },
		"go.mod":        func(r *recipe) { r.goMod = []byte("b") },
		"go.sum":        func(r *recipe) { r.goSum = []byte("b") },
		"program":       func(r *recipe) { r.programs[0].Package = "m/cmd/b" },
		"path":          func(r *recipe) { r.programs[0].Path = "b" },
		"program's tag": func(r *recipe) { r.programs[0].Tags = []string{"b"} },
		"tag":           func(r *recipe) { r.tags = []string{"b"} },
		"stamp":         func(r *recipe) { r.stamps = []stamp{{"main.v", "b"}} },
		"no cgo":        func(r *recipe) { r.cgo = nil },
		"compiler":      func(r *recipe) { r.cgo.compiler = "cc 2" },
		"package":       func(r *recipe) { r.cgo.packages[0].SHA256 = "sha256:b" },
		"ldflags":       func(r *recipe) { r.cgo.ldflags = []string{"-static"} },
	} {
		r := &recipe{
			target: "c", arch: arch.AMD64, module: module.Version{Path: "m", Version: "v1.0.0"}, sum: "h1:a", toolchain: "go1.26.8",
			goMod: []byte("a"), goSum: []byte("a"), programs: []program{{"m/cmd/a", "a", nil}},
			cgo: &cgo{compiler: "cc 1", packages: []manifest.LockedPackage{{Name: "p", SHA256: "sha256:a"}}},
		}
		change(r)
		key := r.built().Key
		if other, taken := keys[key]; taken {
			t.Errorf("changing %s and changing %s give the same key", name, other)
		}
		keys[key] = name
	}
}

func TestExecutable(t *testing.T) {
	for pkg, want := range map[string]string{
		"k8s.io/kubernetes/cmd/kubelet":   "kubelet",
		"example.com/toy/cmd/bye/v2":      "bye",
		"example.com/toy/cmd/v1":          "v1",
		"example.com/toy/cmd/v0":          "v0",
		"gopkg.in/yaml.v3":                "yaml.v3",
		"github.com/opencontainers/runc":  "runc",
		"example.com/toy/cmd/vlan":        "vlan",
		"example.com/containerd/v2/cmd/x": "x",
	} {
		if got := executable(pkg); got != want {
			t.Errorf("executable(%q) = %q; want %q", pkg, got, want)
		}
	}
}

func TestCheckStatic(t *testing.T) {
	dynamic, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Skip("no /bin/sh to look at")
	}
	for _, test := range []struct {
		name string
		data []byte
		arch arch.Arch
		want string
	}{
		{"dynamic", dynamic, hostArch(t, dynamic), "is linked dynamically"},
		{"for another machine", dynamic, map[arch.Arch]arch.Arch{arch.AMD64: arch.ARM64, arch.ARM64: arch.AMD64}[hostArch(t, dynamic)], "is for EM_"},
		{"script", []byte("#!/bin/sh\nexec something else\n"), arch.AMD64, "bad magic number"},
		{"cut off", dynamic[:100], arch.AMD64, "EOF"},
	} {
		if err := checkStatic(bytes.NewReader(test.data), test.arch); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("checkStatic(%s) = %v; want %q in it", test.name, err, test.want)
		}
	}
}

func hostArch(t *testing.T, elf []byte) arch.Arch {
	t.Helper()
	switch elf[18] { // e_machine
	case 62:
		return arch.AMD64
	case 183:
		return arch.ARM64
	}
	t.Skip("neither amd64 nor arm64")
	return ""
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"-tags=a,b":     "-tags=a,b",
		"-ldflags=-s":   "-ldflags=-s",
		"-ldflags=a b":  "'-ldflags=a b'",
		"it's":          `'it'\''s'`,
		"$HOME":         "'$HOME'",
		"GOARCH=amd64":  "GOARCH=amd64",
		"a'b c (d) `e`": "'a'\\''b c (d) `e`'",
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s; want %s", in, got, want)
		}
	}
	for want, words := range map[string][]string{
		"-a -b":          {"-a", "-b"},
		"'-I/a b' -c":    {"-I/a b", "-c"},
		`"it's in here"`: {"it's in here"},
	} {
		if got := goQuote(words...); got != want {
			t.Errorf("goQuote(%q) = %s; want %s", words, got, want)
		}
	}
}

func TestLineWriter(t *testing.T) {
	var out bytes.Buffer
	var seen []string
	l := &lineWriter{w: &out, watch: func(line string) bool { seen = append(seen, line); return line != "quiet" }}
	for _, part := range []string{"one\ntw", "o\n\nquiet\n", strings.Repeat("x", 2*maxLine), "y\nlast"} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("Write(%.20q) = %d, %v", part, n, err)
		}
	}
	l.flush()
	want := []string{"one", "two", "quiet", strings.Repeat("x", maxLine), "last"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(slices.Delete(want, 2, 3), l.tail); diff != "" {
		t.Errorf("tail (-want +got):\n%s", diff)
	}
	for range 3 * tailLines {
		l.Write([]byte("z\n"))
	}
	if len(l.tail) != tailLines {
		t.Errorf("the tail has %d lines; want %d", len(l.tail), tailLines)
	}
}

func TestWrap(t *testing.T) {
	for _, test := range []struct {
		name     string
		module   module.Version
		upstream string
		want     string // of the go.mod, or the error
	}{
		{
			"kubernetes", module.Version{Path: "k8s.io/kubernetes", Version: "v1.36.3"},
			"module k8s.io/kubernetes\ngo 1.26.0\ngodebug default=go1.26\nrequire k8s.io/api v0.0.0\nreplace k8s.io/api => ./staging/src/k8s.io/api\n",
			"module bake.invalid/modules/w\n\ngo 1.26.0\n\ngodebug default=go1.26\n\nrequire k8s.io/kubernetes v1.36.3\n\nreplace k8s.io/api => k8s.io/api v0.36.3\n",
		},
		{
			"replace and exclude", module.Version{Path: "a.org/a", Version: "v1.0.0"},
			"module a.org/a\nreplace b.org/b v1.0.0 => c.org/c v1.1.0\nexclude d.org/d v1.2.0\nretract v0.9.0\ntoolchain go1.22.0\n",
			"module bake.invalid/modules/w\n\nrequire a.org/a v1.0.0\n\nreplace b.org/b v1.0.0 => c.org/c v1.1.0\n\nexclude d.org/d v1.2.0\n",
		},
		{
			"directory", module.Version{Path: "a.org/a", Version: "v1.0.0"},
			"module a.org/a\nreplace b.org/b => ./b\n",
			"its go.mod replaces b.org/b by the directory ./b, and nobody has said where that is published",
		},
		{
			"another directory of kubernetes", module.Version{Path: "k8s.io/kubernetes", Version: "v1.36.3"},
			"module k8s.io/kubernetes\nreplace k8s.io/api => ./api\n",
			"its go.mod replaces k8s.io/api by the directory ./api, and nobody has said where that is published",
		},
	} {
		upstream, err := modfile.Parse("go.mod", []byte(test.upstream), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wrap("w", test.module, upstream)
		text := string(got)
		if err != nil {
			text = err.Error()
		} else if _, rest, ok := strings.Cut(text, "README.md.\n\n"); ok {
			text = rest
		}
		if diff := cmp.Diff(test.want, text); diff != "" {
			t.Errorf("wrap(%s) (-want +got):\n%s", test.name, diff)
		}
	}
}
