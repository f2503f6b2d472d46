package baketest

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/dirhash"

	"github.com/nodebake/bake/test/must"
)

// Where the server has the releases.
const (
	KubeletRelease    = "/releases/v1.30.0/amd64/kubelet"
	ContainerdRelease = "/releases/containerd-2.0.0-amd64.tar.gz"
)

// WriteVersions serves the releases that w has now, and writes a versions file
// that pins them: kubelet, which can also be built; containerd, which can't;
// kube-proxy, runc and cni-plugins, out of a Debian package.
func (w *World) WriteVersions() {
	w.t.Helper()
	w.Serve(KubeletRelease, w.Kubelet)
	w.Serve(ContainerdRelease, w.Containerd)
	w.write("versions.yaml", fmt.Sprintf(`os:
  distribution: debian
  suite: trixie
  kernel_arguments: [panic=10]
node:
  runtime_type: io.containerd.runc.v2
  cgroup_driver: systemd
components:
  kubelet:
    version: v1.30.0
    release:
      url: %s/releases/{version}/{arch}/kubelet
      sha256:
        amd64: %x
      files:
        - path: /usr/local/bin/kubelet
    module:
      path: example.com/kubelet
      toolchain: %s
      dir: modules/kubelet
      programs:
        - package: example.com/kubelet/cmd/kubelet
          path: /usr/local/bin/kubelet
      stamp:
        main.version: "{version}"
  containerd:
    version: 2.0.0
    release:
      url: %s/releases/containerd-{version}-{arch}.tar.gz
      sha256:
        amd64: %x
      files:
        - member: bin/*
          path: /bin/
  kube-proxy:
    version: v1.30.0
    package:
      name: kube-proxy-{arch}
      suite: trixie
      files:
        - member: usr/bin/kube-proxy
          path: /usr/local/bin/kube-proxy
  runc:
    version: 1.2.0
    package:
      name: "kube-proxy-{arch}"
      suite: trixie
      files:
        - member: usr/bin/runc
          path: /usr/local/bin/runc
  cni-plugins:
    version: 1.6.0
    package:
      name: "kube-proxy-{arch}"
      suite: trixie
      files:
        - member: usr/lib/cni/bridge
          path: /opt/cni/bin/bridge
definition: definition
`, w.URL, sha256.Sum256(w.Kubelet), runtime.Version(), w.URL, sha256.Sum256(w.Containerd))+w.images)
}

// The module that kubelet can be built from.
const (
	modulePath    = "example.com/kubelet"
	moduleVersion = "v1.30.0"
	moduleGoMod   = "module " + modulePath + "\n\ngo 1.21\n"
	moduleLicense = `Copyright 2020 Somebody

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
`
	moduleMain = "package main\n\nvar version string\n\nfunc main() { println(version) }\n"
)

// makeModule writes a proxy (go.dev/ref/mod#module-proxy) that has the module,
// and what pins it.
func (w *World) makeModule() {
	w.t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range [][2]string{{"go.mod", moduleGoMod}, {"cmd/kubelet/main.go", moduleMain}, {"LICENSE", moduleLicense}} {
		member := must.Get(z.Create(modulePath + "@" + moduleVersion + "/" + f[0]))
		must.Get(io.WriteString(member, f[1]))
	}
	must.Do(z.Close())
	base := filepath.Join("proxy", filepath.FromSlash(modulePath), "@v", moduleVersion)
	w.write(base+".info", `{"Version":"`+moduleVersion+`"}`)
	w.write(base+".mod", moduleGoMod)
	w.write(base+".zip", b.String())
	w.proxy = "file://" + filepath.ToSlash(filepath.Join(w.Dir, "proxy"))

	content, err := dirhash.HashZip(filepath.Join(w.Dir, base+".zip"), dirhash.Hash1)
	if err != nil {
		w.t.Fatal(err)
	}
	goMod, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(moduleGoMod)), nil
	})
	must.Do(err)
	w.write("modules/kubelet/go.mod", fmt.Sprintf("module bake.invalid/modules/kubelet\n\ngo 1.21\n\nrequire %s %s\n", modulePath, moduleVersion))
	w.write("modules/kubelet/go.sum", fmt.Sprintf("%s %s %s\n%[1]s %[2]s/go.mod %[4]s\n", modulePath, moduleVersion, content, goMod))
}

// BreakProxy makes the proxy lose its module.
func (w *World) BreakProxy() {
	w.t.Helper()
	if err := os.RemoveAll(filepath.Join(w.Dir, "proxy")); err != nil {
		w.t.Fatal(err)
	}
}

// Env is the environment of this process, with the world's module proxy and
// an empty module cache. The build cache is that of whoever runs the test: the
// standard library need not be compiled each time.
func (w *World) Env() []string {
	w.t.Helper()
	cache := filepath.Join(w.t.TempDir(), "mod")
	w.t.Cleanup(func() {
		// The go command makes the module cache read-only.
		filepath.WalkDir(cache, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				os.Chmod(path, 0o777)
			}
			return nil
		})
	})
	return slices.Concat(os.Environ(), []string{"GOPROXY=" + w.proxy, "GOMODCACHE=" + cache, "GOSUMDB=off", "GOFLAGS=", "GOENV=off"})
}
