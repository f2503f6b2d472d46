package bake_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/test/archivetest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// TestBadInput breaks one thing at a time. The bake must say what, write
// nothing, and leave a store with which the next one succeeds.
func TestBadInput(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	restore := w.Snapshot()
	for _, test := range []struct {
		name  string
		wrong func(t *testing.T, c *bake.Config)
		kind  string
		want  []string // in the error
	}{
		// The versions file.
		{"no versions file", func(t *testing.T, c *bake.Config) { filetest.Remove(t, w.Versions) },
			"input", []string{"reading the versions file: open " + w.Versions}},
		{"unknown key", func(t *testing.T, c *bake.Config) {
			w.Edit("versions.yaml", "version: 2.0.0", "versoin: 2.0.0")
		}, "input", []string{w.Versions + ":27:5: components.containerd.versoin: ", `did you mean "version"?`}},
		{"malformed digest", func(t *testing.T, c *bake.Config) {
			w.Edit("versions.yaml", fmt.Sprintf("amd64: %x", sha256.Sum256(w.Containerd)), "amd64: beef")
		}, "input", []string{w.Versions + ":31:16: components.containerd.release.sha256.amd64: sha256 has 4 hexadecimal digits; want 64"}},
		{"no digest", func(t *testing.T, c *bake.Config) {
			w.Edit("versions.yaml", fmt.Sprintf("      sha256:\n        amd64: %x\n", sha256.Sum256(w.Containerd)), "")
		}, "input", []string{w.Versions + ":28:5: components.containerd.release: no digest (add sha256 or sha512"}},
		{"unknown architecture", func(t *testing.T, c *bake.Config) {
			w.Edit("versions.yaml", fmt.Sprintf("amd64: %x", sha256.Sum256(w.Containerd)), fmt.Sprintf("x86_64: %x", sha256.Sum256(w.Containerd)))
		}, "input", []string{w.Versions + ":31:9: components.containerd.release.sha256.x86_64: unknown architecture (did you mean amd64?)"}},
		{"release of another architecture only", func(t *testing.T, c *bake.Config) {
			w.Edit("versions.yaml", fmt.Sprintf("amd64: %x", sha256.Sum256(w.Containerd)), fmt.Sprintf("arm64: %x", sha256.Sum256(w.Containerd)))
			w.Lock()
		}, "input", []string{"component containerd 2.0.0: " + w.Versions + ":28:5: release of component containerd: nothing for amd64 (there is: arm64)"}},
		{"no component that names the image", func(t *testing.T, c *bake.Config) {
			w.Edit("versions.yaml", "  kubelet:\n", "  kubelet2:\n")
			w.Edit("definition/image.yaml", "    firstboot.service: it is the point\n", "    fstrim.timer: weekly\n")
		}, "input", []string{w.Versions + ": there is no component kubelet, whose version names the image"}},
		{"component that firstboot looks for in vain", func(t *testing.T, c *bake.Config) {
			w.Edit("versions.yaml", "  containerd:\n", "  containrd:\n")
		}, "input", []string{w.Versions + `:26:3: components.containrd: did you mean "containerd"? (firstboot.service, which the image definition enables, needs it)`}},
		{"component that a unit starts in vain", func(t *testing.T, c *bake.Config) {
			w.Edit("versions.yaml", "  kube-proxy:\n", "  proxy:\n")
			w.Edit("definition/image.yaml", "firstboot.service", "kube-proxy.service")
		}, "input", []string{w.Versions + `:8:1: components.kube-proxy: missing (kube-proxy.service, which the image definition enables, needs it: add it)`}},

		// The image definition.
		{"no definition", func(t *testing.T, c *bake.Config) { filetest.Remove(t, filepath.Join(w.Definition(), "image.yaml")) },
			"input", []string{"the image definition " + w.Definition() + " has no image.yaml"}},
		{"unknown key in the definition", func(t *testing.T, c *bake.Config) {
			w.Edit("definition/image.yaml", "modes:", "mode:")
		}, "input", []string{"image.yaml:17:1: mode: ", `did you mean "modes"?`}},

		// The lock.
		{"no lock", func(t *testing.T, c *bake.Config) { filetest.Remove(t, w.LockFile()) },
			"input", []string{"there is no lock " + w.LockFile() + " (run: bake lock --versions " + w.Versions + ")"}},
		{"lock that was edited", func(t *testing.T, c *bake.Config) { w.Edit("versions.lock", "format: 2", "format: 2\nmore: 2") },
			"input", []string{w.LockFile() + ":4:1: more: ", "\nnobody edits a lock (run: bake lock --versions " + w.Versions + ")"}},
		{"another package in the versions file", func(t *testing.T, c *bake.Config) {
			w.Edit("versions.yaml", "suite: trixie\n  kernel", "suite: trixie\n  packages: [jq]\n  kernel")
		}, "stale", []string{w.LockFile() + " is stale: " + w.Versions + " with the image definition " + w.Definition() + " asks for jq, which it lacks (run: bake lock --versions " + w.Versions + ")"}},
		{"one package fewer in the definition", func(t *testing.T, c *bake.Config) { w.Edit("definition/image.yaml", "- tool\n", "") },
			"stale", []string{" asks for other packages than when it was made (run: "}},
		{"another package of a component", func(t *testing.T, c *bake.Config) {
			w.Edit("versions.yaml", "name: kube-proxy-{arch}", "name: kubelet-{arch}")
		}, "stale", []string{" asks for kubelet-amd64, which it lacks (run: "}},
		{"lock without the architecture", func(t *testing.T, c *bake.Config) { c.Arch = arch.ARM64 },
			"input", []string{w.LockFile() + ":1:1: lock: nothing for arm64 (there is: amd64) (run: bake lock --versions " + w.Versions + " --arch amd64,arm64)"}},

		// Releases.
		{"release is another file", func(t *testing.T, c *bake.Config) {
			w.Serve(baketest.KubeletRelease, bytes.Repeat([]byte("x"), len(w.Kubelet)))
		}, "failed", []string{"kubelet v1.30.0 from " + w.URL + baketest.KubeletRelease + " is sha256:", ", want " + string(manifesttest.Digest(w.Kubelet)), "nothing was kept; compare"}},
		{"release is gone", func(t *testing.T, c *bake.Config) { w.Remove(baketest.KubeletRelease) },
			"failed", []string{"component kubelet v1.30.0: its release is unavailable at " + w.URL + baketest.KubeletRelease + ": 404 Not Found; --build-missing would build it from example.com/kubelet v1.30.0"}},
		{"release is gone, and there is no module", func(t *testing.T, c *bake.Config) {
			w.Remove(baketest.ContainerdRelease)
			c.BuildMissing = true
		}, "failed", []string{"component containerd 2.0.0: its release is unavailable at " + w.URL + baketest.ContainerdRelease + ": 404 Not Found; there is no module to build it from (" + w.Versions + ":26:3)"}},
		{"release and module are gone", func(t *testing.T, c *bake.Config) {
			w.Remove(baketest.KubeletRelease)
			w.BreakProxy()
			c.BuildMissing = true
		}, "failed", []string{"component kubelet v1.30.0: its release is unavailable at " + w.URL + baketest.KubeletRelease + ": 404 Not Found; nor can it be built: preparing to build kubelet v1.30.0 from its Go module: ", "example.com/kubelet@v1.30.0"}},
		{"several releases are gone", func(t *testing.T, c *bake.Config) {
			w.Remove(baketest.KubeletRelease)
			w.Remove(baketest.ContainerdRelease)
		}, "failed", []string{w.URL + baketest.KubeletRelease, w.URL + baketest.ContainerdRelease}},

		// Packages.
		{"package is gone", func(t *testing.T, c *bake.Config) { w.Remove(w.Package("tool").Pool()) },
			"superseded", []string{"tool 1.0 is unavailable:\n  " + w.URL + w.Package("tool").Pool() + ": 404 Not Found",
				"\nlocked packages that are unavailable: 1; mirrors drop what was superseded (give a snapshot archive by --debian-mirror, or take newer ones in their place, run: bake lock --versions " + w.Versions + ")"}},
		{"package and release are gone", func(t *testing.T, c *bake.Config) {
			w.Remove(w.Package("tool").Pool())
			w.Remove(baketest.ContainerdRelease)
		}, "failed", []string{"tool 1.0 is unavailable", "component containerd 2.0.0: "}},
		{"package that a component needs is gone", func(t *testing.T, c *bake.Config) { w.Remove(w.Package("kube-proxy-amd64").Pool()) },
			"superseded", []string{"kube-proxy-amd64 1.30.0 is unavailable"}},
		{"server of packages is out of order", func(t *testing.T, c *bake.Config) {
			w.Fault(w.Package("tool").Pool(), func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) })
		}, "failed", []string{"tool 1.0 is unavailable:\n  " + w.URL + w.Package("tool").Pool() + ": 500 Internal Server Error"}},
		{"mirror can't be reached", func(t *testing.T, c *bake.Config) { c.DebianMirrors = []string{unreachable(t)} },
			"failed", []string{" files are unavailable: connection refused at 127.0.0.1:", ": base-files 13.8, ", " and 2 more"}},
		{"one mirror can't be reached and the other lacks a package", func(t *testing.T, c *bake.Config) {
			c.DebianMirrors = append(c.DebianMirrors, unreachable(t))
			w.Remove(w.Package("tool").Pool())
		}, "failed", []string{"404 Not Found", "connection refused"}},
		{"no mirror", func(t *testing.T, c *bake.Config) { c.DebianMirrors = nil },
			"failed", []string{"no mirror of archive debian is known", "give --debian-mirror debian=URL"}},
		{"mirror that is none", func(t *testing.T, c *bake.Config) { c.DebianMirrors = []string{"ftp://mirror.example"} },
			"input", []string{"mirror \"ftp://mirror.example\": it is not a URL of http:// or https://"}},
		{"mirror has a shorter file", func(t *testing.T, c *bake.Config) { w.Serve(w.Package("tool").Pool(), []byte("<html>")) },
			"failed", []string{"tool 1.0 is unavailable:\n  " + w.URL + w.Package("tool").Pool() + ": it is 6 bytes, want "}},
		{"mirror has another file", func(t *testing.T, c *bake.Config) {
			w.Serve(w.Package("tool").Pool(), bytes.Repeat([]byte("x"), len(w.File(w.Package("tool").Pool()))))
		}, "failed", []string{"tool 1.0 from " + w.URL + w.Package("tool").Pool() + " is sha256:", "nothing was kept"}},

		// Directories.
		{"output directory below a file", func(t *testing.T, c *bake.Config) { c.Out = filepath.Join(w.Versions, "out") },
			"failed", []string{"making the output directory: mkdir " + w.Versions + ": not a directory (give another by --output)"}},
		{"store below a file", func(t *testing.T, c *bake.Config) { c.Cache = filepath.Join(w.Versions, "cache") },
			"input", []string{"opening the store: " + w.Versions + "/cache can't be made or written; give another directory with --cache, or set XDG_CACHE_HOME: mkdir " + w.Versions + ": not a directory"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			c := w.Config()
			good := c
			test.wrong(t, &c)
			_, err := baketest.Image(t.Context(), c)
			baketest.WantError(t, err, test.kind, test.want...)
			for line := range strings.Lines(fmt.Sprint(err)) {
				if strings.Contains(line, "BUG") || strings.TrimSpace(line) == "" {
					t.Errorf("error has the line %q:\n%v", line, err)
				}
			}
			baketest.WantNothing(t, good)
			if len(glob(t, filepath.Join(good.Cache, "files", "*", "*", "*"))) == 0 {
				return // the store is a new one still
			}
			restore()
			baketest.WantImage(t, good, w.Image(good), want)
		})
	}
}

// TestHostileInput bakes what was pinned and locked, and is not fit to be used. All
// of it goes through one store, with which a good bake succeeds in the end.
func TestHostileInput(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	restore := w.Snapshot()
	c := w.Config()
	for _, test := range []struct {
		name  string
		wrong func()
		want  []string // in the error
	}{
		{"release archive that leaves its directory", hostile(w, baketest.File{Path: "../../etc/passwd", Content: "x"}),
			[]string{"component containerd: unpacking containerd-2.0.0-amd64.tar.gz: its member \"../../etc/passwd\" leaves the archive"}},
		{"release archive with an absolute path", hostile(w, baketest.File{Path: "/etc/passwd", Content: "x"}),
			[]string{"its member \"/etc/passwd\" has an absolute name"}},
		{"release archive with a link out of it", hostile(w, baketest.File{Path: "bin/ctr", Link: "../../../etc/shadow"}),
			[]string{"its link \"bin/ctr\" leads to \"../../../etc/shadow\", out of the archive"}},
		{"release archive with a device", hostile(w, baketest.File{Path: "bin/sda", Type: '4'}),
			[]string{"\"bin/sda\", which " + w.Versions + ":33: \"bin/*\" selects, is a block device"}},
		{"release archive that is a bomb", hostile(w, baketest.File{Path: "bin/zero", Content: strings.Repeat("\x00", 40<<20)}),
			[]string{`"bin/zero" brings what is taken out of it to 41943041 bytes, far more than a release of `}},
		{"release archive that is cut off", func() {
			w.Containerd = w.Containerd[:len(w.Containerd)-100]
			w.WriteVersions()
			w.Lock()
		}, []string{"component containerd: unpacking containerd-2.0.0-amd64.tar.gz: "}},

		{"package of another name", lie(w, func(p *baketest.Package) {
			p.Control = "Package: fool\nVersion: 1.0\nArchitecture: amd64\n"
		}), []string{"storing package tool: unpacking tool_1.0_amd64.deb: the package says that it is fool 1.0 for amd64, want tool 1.0 for amd64"}},
		{"package of another version", lie(w, func(p *baketest.Package) {
			p.Control = "Package: tool\nVersion: 1.1\nArchitecture: amd64\n"
		}), []string{"package tool", "the package says that it is tool 1.1 for amd64, want tool 1.0 for amd64"}},
		{"package with a member too many", lie(w, func(p *baketest.Package) {
			p.Change = func(deb []byte) []byte { return archivetest.AppendAr(deb, "extra", []byte("x")) }
		}), []string{"package tool", "member extra after data.tar"}},
		{"package that is cut off", lie(w, func(p *baketest.Package) {
			p.Change = func(deb []byte) []byte { return deb[:len(deb)-1000] }
		}), []string{"package tool", "data.tar.gz"}},
		{"package that is none", lie(w, func(p *baketest.Package) {
			p.Change = func([]byte) []byte { return []byte("hello") }
		}), []string{"package tool", "unpacking tool_1.0_amd64.deb: reading ar magic: unexpected EOF"}},
		{"package with wrong digests of its own", lie(w, func(p *baketest.Package) {
			p.MD5Sums = "00000000000000000000000000000000  etc/tool.conf\n"
		}), []string{"package tool", "etc/tool.conf", "MD5"}},
		{"package that leaves the root", lie(w, func(p *baketest.Package) {
			p.Files = append(p.Files, baketest.File{Path: "../../escape", Content: "x"})
		}), []string{"package tool", "../../escape"}},
		{"package with a file below its own link", lie(w, func(p *baketest.Package) {
			p.Files = append(p.Files, baketest.File{Path: "opt", Link: "/etc"}, baketest.File{Path: "opt/passwd", Content: "x"})
		}), []string{"package tool", "opt/passwd"}},
		{"two packages with one path", lie(w, func(p *baketest.Package) {
			p.Files = append(p.Files, baketest.File{Path: "usr/bin/sh", Content: "x"})
		}), []string{"composing the root filesystem: /usr/bin/sh comes from both package shell and package tool"}},
		{"a package and a component with one path", lie(w, func(p *baketest.Package) {
			p.Files = append(p.Files, baketest.File{Path: "usr/local/bin/kubelet", Content: "x"})
		}), []string{"/usr/local/bin/kubelet comes from both package tool and component kubelet"}},
		{"package without the file that a component wants", func() {
			w.Edit("versions.yaml", "member: usr/bin/kube-proxy", "member: usr/bin/proxy")
			w.Lock()
		}, []string{"storing component kube-proxy: package kube-proxy-amd64 1.30.0: " + w.Versions + ":41:11: no file matches \"usr/bin/proxy\""}},
		{"no boot loader", func() {
			w.Edit("definition/image.yaml", "- shim-signed\n", "")
			w.Lock()
		}, []string{"planning the EFI system partition: the root has no file usr/lib/shim/shimx64.efi.signed: add the package shim-signed to the image definition"}},
		{"kernel module that is not there", func() {
			w.Edit("definition/image.yaml", "- virtio_scsi\n", "- virtio_scsi\n  - floppy\n")
			w.Lock()
		}, []string{"no module floppy, neither as a file nor built in (the image definition names it)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			test.wrong()
			_, err := baketest.Image(t.Context(), c)
			baketest.WantError(t, err, "failed", test.want...)
			baketest.WantNothing(t, c)
		})
	}
	baketest.WantImage(t, c, w.Image(c), want)
}

// hostile puts a member into the release of containerd.
func hostile(w *baketest.World, f baketest.File) func() {
	return func() {
		w.Containerd = baketest.Tarball(baketest.File{Path: "bin/containerd", Content: "x"}, f)
		w.WriteVersions()
		w.Lock()
	}
}

// lie publishes another package tool of the same name and version, and locks
// it.
func lie(w *baketest.World, change func(*baketest.Package)) func() {
	return func() {
		change(w.Package("tool"))
		w.Publish()
		w.Lock()
	}
}

// unreachable is the URL of a server that is not there.
func unreachable(t *testing.T) string {
	t.Helper()
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return "http://" + l.Addr().String()
}

// TestConnectionThatEnds cuts a download off in its middle.
func TestConnectionThatEnds(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	pool := w.Package("tool").Pool()
	deb := w.File(pool)
	cut := func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Length", fmt.Sprint(len(deb)))
		if r.Method == http.MethodGet {
			rw.Write(deb[:len(deb)/2])
		}
	}

	t.Run("once", func(t *testing.T) {
		var ranges []string
		w.Fault(pool, func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				w.Fault(pool, func(rw http.ResponseWriter, r *http.Request) {
					ranges = append(ranges, r.Header.Get("Range"))
					http.ServeContent(rw, r, "", w.Now, bytes.NewReader(deb))
				})
			}
			cut(rw, r)
		})
		c := w.Config()
		baketest.WantImage(t, c, w.Image(c), want)
		if got, want := fmt.Sprint(ranges), fmt.Sprintf("[bytes=%d-]", len(deb)/2); got != want {
			t.Errorf("asked for %s after the connection ended; want %s", got, want)
		}
	})
	t.Run("always", func(t *testing.T) {
		w.Fault(pool, cut)
		c := w.Config()
		_, err := baketest.Image(t.Context(), c)
		baketest.WantError(t, err, "failed", "tool 1.0 is unavailable:\n  "+w.URL+pool+": the connection ended after ", fmt.Sprintf(" of %d bytes", len(deb)))
		baketest.WantNothing(t, c)
		w.Fault(pool, nil)
		baketest.WantImage(t, c, w.Image(c), want)
	})
}

// TestForbiddenDirectories bakes as a user who may not write where it should.
func TestForbiddenDirectories(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	allow(t, w.Dir, 0o755)
	uid := nobody
	if os.Getuid() != 0 {
		uid = 0
	}
	for _, test := range []struct {
		name string
		dir  func(c bake.Config) string // that can't be written
		kind string
		want string
	}{
		{"output", func(c bake.Config) string { return c.Out }, "failed", "writing to the output directory: open %s/.bake-"},
		{"store", func(c bake.Config) string { return c.Cache }, "input", "opening the store: %s can't be made or written; give another directory with --cache, or set XDG_CACHE_HOME: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.Config()
			allow(t, filepath.Dir(c.Out), 0o777)
			for _, dir := range []string{c.Out, c.Cache} {
				mode := os.FileMode(0o777)
				if dir == test.dir(c) {
					mode = 0o555
				}
				must.Do(os.Mkdir(dir, mode))
				if err := os.Chmod(dir, mode); err != nil { // whatever our umask is
					t.Fatal(err)
				}
			}
			_, err := spawn(t.Context(), w, c, limits{UID: uid})
			baketest.WantError(t, err, test.kind, fmt.Sprintf(test.want, test.dir(c)), "permission denied")
			baketest.WantNothing(t, c)
			allow(t, test.dir(c), 0o777)
			result, err := spawn(t.Context(), w, c, limits{UID: uid})
			if err != nil {
				t.Fatal(err)
			}
			baketest.WantImage(t, c, result, want)
		})
	}
}
