package lock_test

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/lock"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/test/filetest"
)

// changesOf returns what Lock says has changed.
func changesOf(t *testing.T, result *lock.Result) []string {
	t.Helper()
	var lines []string
	for _, p := range result.Locked {
		for _, c := range p.Changes {
			lines = append(lines, fmt.Sprintf("%s: %s", p.Arch, c))
		}
		lines = append(lines, fmt.Sprintf("%s: %d of %d kept", p.Arch, p.Kept, p.Count))
	}
	return lines
}

// TestLockKeeps changes what is asked for and what the archive has, and wants that
// nothing else changes in the lock.
func TestLockKeeps(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	w.Lock()
	before := filetest.Read(t, w.LockFile())
	restore := w.Snapshot()
	newer := func() { // of three packages; the old ones are superseded
		w.Package("tool").Version, w.Package("tool").Fields = "1.1", "Depends: libtool0 (>= 2.0)\n"
		w.Package("libtool0").Version = "2.0"
		w.Package("shell").Version = "0.6"
		w.Package("kube-proxy-amd64").Version = "1.30.1"
	}
	ask := func(name, fields string) {
		w.Edit("definition/image.yaml", "- tool\n", "- tool\n- "+name+"\n")
		w.Packages = append(w.Packages, &baketest.Package{Name: name, Version: "1", Fields: fields})
	}
	const kept = "amd64: 10 of 10 kept"
	for _, test := range []struct {
		name   string
		change func(c *lock.Config)
		want   []string
	}{
		{"nothing", func(*lock.Config) {}, []string{kept}},
		{"an edit that touches no package", func(*lock.Config) {
			w.Edit("versions.yaml", "panic=10", "panic=20")
			w.Edit("definition/files/etc/tool.conf", "yes", "maybe")
		}, []string{kept}},
		{"newer ones, and mirrors that still have the old", func(*lock.Config) { newer() }, []string{kept}},
		{"newer ones in another suite", func(*lock.Config) {
			w.Packages = append(w.Packages, &baketest.Package{Name: "tool", Version: "1.1", Suite: "trixie-security", Fields: "Depends: libtool0\n"})
		}, []string{kept}},
		{"what the store has", func(c *lock.Config) {
			stored := w.Config()
			stored.Options = c.Options
			w.Image(stored)
			for _, name := range []string{"tool", "libtool0", "shell", "kube-proxy-amd64"} {
				w.Remove(w.Package(name).Pool())
			}
			newer()
		}, []string{kept}},
		{"what nobody has", func(*lock.Config) {
			w.Remove(w.Package("shell").Pool())
			w.Remove(w.Package("kube-proxy-amd64").Pool())
			newer()
		}, []string{
			"amd64: shell 0.5 -> 0.6 (0.5 is superseded, and no mirror has it)",
			"amd64: kube-proxy-amd64 1.30.0 -> 1.30.1 (not installed) (1.30.0 is superseded, and no mirror has it)",
			"amd64: 8 of 10 kept",
		}},
		{"one more", func(*lock.Config) {
			newer()
			ask("jq", "Depends: libjq1\n")
			w.Packages = append(w.Packages, &baketest.Package{Name: "libjq1", Version: "1"})
		}, []string{"amd64: + jq 1 (DEFINITION/image.yaml:7 asks for it)", "amd64: + libjq1 1 (jq needs it)", "amd64: 10 of 12 kept"}},
		{"one more that needs a newer one", func(*lock.Config) {
			newer()
			ask("jq", "Depends: libtool0 (>= 2.0)\n")
		}, []string{
			"amd64: + jq 1 (DEFINITION/image.yaml:7 asks for it)",
			"amd64: libtool0 1.0 -> 2.0 (Depends of jq 1: of libtool0 there is 1.0 in trixie)",
			"amd64: 9 of 11 kept",
		}},
		{"one more that breaks an older one", func(*lock.Config) {
			newer()
			ask("jq", "Breaks: shell (<< 0.6)\n")
		}, []string{
			"amd64: + jq 1 (DEFINITION/image.yaml:7 asks for it)",
			"amd64: shell 0.5 -> 0.6 (jq 1 has Breaks: shell (<< 0.6), and shell 0.5 is chosen: essential -> shell)",
			"amd64: 9 of 11 kept",
		}},
		{"one fewer", func(*lock.Config) {
			newer()
			w.Edit("definition/image.yaml", "- tool\n", "")
		}, []string{
			"amd64: - libtool0 1.0 (nothing asks for it or needs it any more)",
			"amd64: - tool 1.0 (nothing asks for it or needs it any more)",
			"amd64: 8 of 8 kept",
		}},
		{"an upgrade of all", func(c *lock.Config) {
			newer()
			c.UpgradeAll = true
		}, []string{
			"amd64: libtool0 1.0 -> 2.0 (--upgrade)", "amd64: shell 0.5 -> 0.6 (--upgrade)", "amd64: tool 1.0 -> 1.1 (--upgrade)",
			"amd64: kube-proxy-amd64 1.30.0 -> 1.30.1 (not installed) (--upgrade)", "amd64: 6 of 10 kept",
		}},
		{"an upgrade of one, and what it needs", func(c *lock.Config) {
			newer()
			c.Upgrade = []string{"tool"}
		}, []string{
			"amd64: libtool0 1.0 -> 2.0 (Depends of tool 1.1: of libtool0 there is 1.0 in trixie)", "amd64: tool 1.0 -> 1.1 (--upgrade)", "amd64: 8 of 10 kept",
		}},
		{"an upgrade of what is not installed", func(c *lock.Config) {
			newer()
			c.Upgrade = []string{"kube-proxy-amd64"}
		}, []string{"amd64: kube-proxy-amd64 1.30.0 -> 1.30.1 (not installed) (--upgrade)", "amd64: 9 of 10 kept"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			c := w.Config()
			l := w.LockConfig(c)
			test.change(&l)
			w.Now = w.Now.AddDate(0, 0, 1)
			w.Publish()
			l.Now = w.Now
			result, err := baketest.Lock(t.Context(), l, arch.AMD64)
			if err != nil {
				t.Fatal(err)
			}
			for i := range test.want {
				test.want[i] = strings.ReplaceAll(test.want[i], "DEFINITION", w.Definition())
			}
			if diff := cmp.Diff(test.want, changesOf(t, result)); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			after := filetest.Read(t, w.LockFile())
			if same := bytes.Equal(before, after); same != (len(test.want) == 1) {
				t.Errorf("the lock is the same: %t; it says:\n%s", same, after)
			}
			// What is locked is available, and is what is asked for.
			w.Image(c)
		})
	}
}

// TestLockKeepsRefuses does not decide by a mirror that is out of order.
func TestLockKeepsRefuses(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	w.Lock()
	pool := w.Package("tool").Pool()
	w.Package("tool").Version = "1.1"
	w.Publish()
	w.Fault(pool, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) })
	_, err := baketest.Lock(t.Context(), w.LockConfig(w.Config()), arch.AMD64)
	baketest.WantError(t, err, "failed", "keeping tool 1.0, which is superseded: ", "500 Internal Server Error",
		"this does not say that it is gone, so nothing is taken in its place (try again, or take what is newer by --upgrade tool)")
	c := w.LockConfig(w.Config())
	c.Upgrade = []string{"tool"}
	if _, err := baketest.Lock(t.Context(), c, arch.AMD64); err != nil {
		t.Errorf("Lock with --upgrade tool = %v", err)
	}
	c.Upgrade = []string{"toool"}
	_, err = baketest.Lock(t.Context(), c, arch.AMD64)
	baketest.WantError(t, err, "input", "--upgrade toool: "+w.LockFile()+" has no package of that name")
}

// TestLockElsewhere keeps what the versions file's own lock has, and afterwards
// what the other one has.
func TestLockElsewhere(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	w.Lock()
	w.Package("tool").Version = "1.1"
	w.Publish()
	c := w.LockConfig(w.Config())
	c.Lock = filepath.Join(t.TempDir(), "new.lock")
	w.LockWith(c)
	if got := filetest.Read(t, c.Lock); !bytes.Equal(got, filetest.Read(t, w.LockFile())) {
		t.Errorf("the other lock is\n%s\nwant the first", got)
	}
	c.UpgradeAll = true
	w.LockWith(c)
	upgraded := filetest.Read(t, c.Lock)
	c.UpgradeAll = false
	w.LockWith(c)
	if got := filetest.Read(t, c.Lock); !bytes.Equal(got, upgraded) {
		t.Errorf("the other lock is\n%s\nwant what it was", got)
	}
	// An old lock does not say what it is for, and is kept all the same.
	old := bytes.Replace(bytes.Replace(filetest.Read(t, w.LockFile()), []byte("format: 2\n"), []byte("format: 1\nversions: sha256:"+digits+"\ndefinition: sha256:"+digits+"\n"), 1),
		filetest.Read(t, w.LockFile())[bytes.Index(filetest.Read(t, w.LockFile()), []byte("  request:")):bytes.Index(filetest.Read(t, w.LockFile()), []byte("  releases:"))], nil, 1)
	want := filetest.Read(t, w.LockFile())
	filetest.Write(t, w.LockFile(), old)
	_, err := baketest.Image(t.Context(), w.Config())
	baketest.WantError(t, err, "stale", "an older bake made it, which did not say what for (run: bake lock --versions "+w.Versions+")")
	result, err := baketest.Lock(t.Context(), w.LockConfig(w.Config()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"amd64: 10 of 10 kept"}, changesOf(t, result)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if got := filetest.Read(t, w.LockFile()); !bytes.Equal(got, want) {
		t.Errorf("the lock is\n%s\nwant\n%s", got, want)
	}
}

const digits = "46707a53209f826ad0f0d62371ac69cd00e78fd9a8176cf5f6f87f18f7f8b718"

// TestLockArches is for the architectures of the lock that is there.
func TestLockArches(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	if _, err := baketest.Lock(t.Context(), w.LockConfig(w.Config())); err == nil {
		t.Error("Lock() of an archive without arm64 = nil; want an error, since there is no lock that says for what")
	}
	w.Lock()
	if _, err := baketest.Lock(t.Context(), w.LockConfig(w.Config())); err != nil {
		t.Errorf("Lock() = %v; want a lock for amd64, as it was", err)
	}
	locked, err := manifest.ParseLock(w.LockFile(), filetest.Read(t, w.LockFile()))
	if err != nil || len(locked.Archs) != 1 {
		t.Errorf("the lock is for %d architectures, %v; want 1", len(locked.Archs), err)
	}
}
