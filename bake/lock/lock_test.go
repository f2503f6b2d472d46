package lock_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/lock"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/progress/progresstest"
	"github.com/nodebake/bake/bake/source/debian"
	"github.com/nodebake/bake/test/filetest"
)

func TestLock(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	c := w.Config()
	result, err := baketest.Lock(t.Context(), w.LockConfig(c), arch.AMD64)
	if err != nil {
		t.Fatal(err)
	}
	text := filetest.Read(t, w.LockFile())
	if l := result.Locked; len(l) != 1 || l[0].Arch != arch.AMD64 || l[0].Count != 10 || l[0].Kept != 0 || len(l[0].Changes) != 10 {
		t.Errorf("locked is %+v; want 10 new packages for amd64", l)
	}
	result.Locked = nil
	if diff := cmp.Diff(&lock.Result{SHA256: manifesttest.Digest(text), Path: w.LockFile(), Size: int64(len(text))}, result); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	parsed, err := manifest.ParseLock(w.LockFile(), text)
	if err != nil {
		t.Fatal(err)
	}
	names := func(packages []manifest.LockedPackage) (out []string) {
		for _, p := range packages {
			out = append(out, p.Name+" "+p.Version)
		}
		return out
	}
	locked := parsed.Archs[arch.AMD64]
	if diff := cmp.Diff([]string{
		"base-files 13.8", "base-passwd 3.6", "libtool0 1.0", "linux-image-6.12.1-amd64 6.12.1-1", "linux-image-amd64 6.12.1-1",
		"shell 0.5", "shim-signed 1.47", "systemd-boot-efi-amd64-signed 257", "tool 1.0",
	}, names(locked.Packages)); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	if got, want := names(locked.Extra), []string{"kube-proxy-amd64 1.30.0"}; !slices.Equal(got, want) {
		t.Errorf("extra packages = %q; want %q", got, want)
	}

	// The same again, and elsewhere.
	c.Lock = filepath.Join(t.TempDir(), "other.lock")
	if _, err := baketest.Lock(t.Context(), w.LockConfig(c), arch.AMD64); err != nil {
		t.Fatal(err)
	}
	if got := filetest.Read(t, c.Lock); !bytes.Equal(got, text) {
		t.Errorf("the second lock is\n%s\nwant that of the first", got)
	}
	if got, want := filetest.Names(t, filepath.Dir(c.Lock)), []string{"other.lock"}; !slices.Equal(got, want) {
		t.Errorf("beside the lock are %q; want %q", got, want)
	}
	c.Out = filepath.Join(t.TempDir(), "out")
	w.Image(c) // with the other lock
}

// TestLockRefuses locks where something is wrong. The lock that is there stays.
func TestLockRefuses(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	before := filetest.Read(t, w.LockFile())
	restore := w.Snapshot()
	const inRelease = "/debian/dists/trixie/InRelease"
	replaced := func(path, old, new string) func(*lock.Config) {
		return func(*lock.Config) { w.Serve(path, bytes.Replace(w.File(path), []byte(old), []byte(new), 1)) }
	}
	amd64 := []arch.Arch{arch.AMD64}
	for _, test := range []struct {
		name   string
		change func(*lock.Config)
		arches []arch.Arch
		later  time.Duration
		kind   string
		want   []string
	}{
		{"tampered Release", replaced(inRelease, "Suite: stable", "Suite: unstable"), amd64, 0,
			"failed", []string{"loading trixie of debian: " + w.URL + inRelease + ": none of its signatures is good: key "}},
		{"Release without a signature", func(*lock.Config) { w.Serve(inRelease, []byte("Origin: Debian\n")) }, amd64, 0,
			"failed", []string{inRelease + ": it does not start with an OpenPGP clearsigned message"}},
		{"Release of another key", func(c *lock.Config) { c.Keyring = nil }, amd64, 0,
			"failed", []string{inRelease + ": none of its signatures is good"}},
		{"keyring that is none", func(c *lock.Config) { c.Keyring = []byte("key") }, amd64, 0,
			"failed", []string{"reading the keyring that was given: "}},
		{"Release of another suite", func(*lock.Config) { w.Serve(inRelease, w.File("/debian/dists/trixie-updates/InRelease")) }, amd64, 0,
			"failed", []string{`codename "trixie-updates", not of trixie`}},
		{"expired Release", func(*lock.Config) {}, amd64, 8 * 24 * time.Hour,
			"failed", []string{"the Release file of trixie expired on 2026-11-29 00:00:00 UTC and it is 2026-11-30 12:00:00 UTC now: the mirror is stale, take another, or this host's clock is wrong"}},
		{"Release from the future", func(*lock.Config) {}, amd64, -30 * 24 * time.Hour, "failed", []string{"none of its signatures is good"}},
		{"tampered index", func(*lock.Config) {
			path := "/debian/dists/trixie/main/binary-amd64/Packages.gz"
			w.Serve(path, append(w.File(path), 0))
		}, amd64, 0, "failed", []string{"loading trixie of debian: ", "Packages.gz"}},
		{"no security archive", func(c *lock.Config) { c.DebianMirrors = []string{"debian=" + w.URL + "/debian"} }, amd64, 0,
			"failed", []string{"loading trixie-security of debian-security: no mirror of archive debian-security is known"}},
		{"mirror can't be reached", func(c *lock.Config) { w.Remove(inRelease) }, amd64, 0,
			"failed", []string{"loading trixie of debian: " + w.URL + inRelease + " is unavailable: 404 Not Found"}},
		{"architecture that the archive lacks", func(*lock.Config) {}, []arch.Arch{arch.AMD64, arch.ARM64}, 0,
			"failed", []string{"trixie has no architecture arm64, only all, amd64"}},
		{"package that is not there", func(*lock.Config) { w.Edit("definition/image.yaml", "- tool\n", "- toool\n") }, amd64, 0,
			"input", []string{w.Definition() + "/image.yaml:6:3: packages[3]: there is no package toool in trixie, trixie-updates, trixie-security"}},
		{"package of the versions file that is not there", func(*lock.Config) {
			w.Edit("versions.yaml", "suite: trixie\n  kernel", "suite: trixie\n  packages: [tool, toool]\n  kernel")
		}, amd64, 0, "input", []string{w.Versions + ":4:20: os.packages[1]: there is no package toool in trixie, trixie-updates, trixie-security"}},
		{"suite that is not there", func(*lock.Config) { w.Edit("definition/image.yaml", "- tool\n", "- tool/trixy\n") }, amd64, 0,
			"input", []string{w.Definition() + "/image.yaml:6:3: packages[3]: no mirror has the suite trixy (correct it; trixie is what packages without one are from)"}},
		{"package of an image that is not there", func(*lock.Config) { addImage(w, "toool") }, amd64, 0,
			"input", []string{w.Versions + ":4:16: images.web.packages[0]: there is no package toool in trixie, trixie-updates, trixie-security (correct the name, or name another suite by NAME/SUITE)"}},
		{"suite of an image that is not there", func(*lock.Config) { addImage(w, "tool/trixy") }, amd64, 0,
			"input", []string{w.Versions + ":4:16: images.web.packages[0]: no mirror has the suite trixy (correct it; trixie is what packages without one are from)"}},
		{"packages of an image that conflict", func(*lock.Config) {
			addImage(w, "web, other")
			w.Package("web").Fields = "Conflicts: other\n"
			w.Packages = append(w.Packages, &baketest.Package{Name: "other", Version: "1"})
			w.Publish()
		}, amd64, 0, "input", []string{w.Versions + ":4:5: images.web.packages: " + w.Versions + ":4 -> web: web 1 has Conflicts: other, and other 1 is chosen: " + w.Versions + ":4 -> other (name other packages)"}},
		{"dependency that is not there", func(c *lock.Config) {
			w.Package("tool").Fields = "Depends: libtool0 (>= 2.0)\n"
			w.Publish()
			c.UpgradeAll = true
		}, amd64, 0, "failed", []string{"resolving packages of trixie for amd64: " + w.Definition() + "/image.yaml:6 -> tool -> libtool0 (>= 2.0): Depends of tool 1.0: "}},
		{"package of a component that is not there", func(*lock.Config) { w.Edit("versions.yaml", "name: kube-proxy-{arch}", "name: proxy-{arch}") }, amd64, 0,
			"input", []string{w.Versions + ":37:5: components.kube-proxy.package: there is no package proxy-amd64 in trixie, trixie-updates, trixie-security"}},
		{"directory that is not there", func(c *lock.Config) { c.Lock = filepath.Join(w.Dir, "nowhere", "new.lock") }, amd64, 0,
			"failed", []string{"writing the lock: open " + filepath.Join(w.Dir, "nowhere")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			c := w.LockConfig(w.Config())
			test.change(&c)
			c.Now = c.Now.Add(test.later)
			_, err := baketest.Lock(t.Context(), c, test.arches...)
			baketest.WantError(t, err, test.kind, test.want...)
			if err != nil && strings.Contains(err.Error(), "BUG") {
				t.Errorf("the error takes the user's mistake for ours: %v", err)
			}
			if !bytes.Equal(filetest.Read(t, w.LockFile()), before) {
				t.Error("the lock that was there has changed")
			}
			if got, want := filetest.Names(t, w.Dir), []string{"definition", "modules", "proxy", "versions.lock", "versions.yaml"}; !slices.Equal(got, want) {
				t.Errorf("beside the lock are %q; want %q", got, want)
			}
		})
	}
}

func TestLockExpired(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	c := w.LockConfig(w.Config())
	c.Now = c.Now.AddDate(0, 0, 8)
	_, err := baketest.Lock(t.Context(), c, arch.AMD64)
	if expired, ok := errors.AsType[*debian.ExpiredError](err); !ok || expired.Suite != "trixie" {
		t.Errorf("Lock() in 8 days = %v; want an ExpiredError", err)
	}
	// Images are made of a lock for ever.
	w.Lock()
	w.Remove("/debian/dists/trixie/InRelease")
	w.Image(w.Config())
}

// TestLockOlder has the archive step back behind the lock.
func TestLockOlder(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	before := filetest.Read(t, w.LockFile())
	now := w.Now
	w.Now = now.Add(-time.Hour)
	w.Publish()
	want := "loading trixie of debian: " + w.URL + "/debian/dists/trixie/InRelease: the Release file of trixie is of 2026-11-21 23:00:00 UTC, " +
		"older than that of 2026-11-22 00:00:00 UTC in " + w.LockFile() +
		": the mirror is behind (wait, or give another by --debian-mirror) or hides updates; --allow-older takes it"
	elsewhere := filepath.Join(t.TempDir(), "new.lock")
	c := w.LockConfig(w.Config())
	c.Now = now
	for _, output := range []string{"", elsewhere} {
		c := c
		c.Lock = output
		if _, err := baketest.Lock(t.Context(), c, arch.AMD64); err == nil || err.Error() != want {
			t.Errorf("Lock to %q = %v; want %s", output, err, want)
		}
	}
	if _, err := baketest.CheckLock(t.Context(), c); err == nil || err.Error() != want {
		t.Errorf("CheckLock() = %v; want %s", err, want)
	}
	if !bytes.Equal(filetest.Read(t, w.LockFile()), before) {
		t.Error("the lock that was there has changed")
	}
	c.AllowOlder = true
	if _, err := baketest.CheckLock(t.Context(), c); err != nil {
		t.Errorf("CheckLock with AllowOlder = %v", err)
	}
	if _, err := baketest.Lock(t.Context(), c, arch.AMD64); err != nil {
		t.Errorf("Lock with AllowOlder = %v", err)
	}
	// A lock that can't be read compares with nothing, and is made again.
	filetest.Write(t, w.LockFile(), "<<<<<<< HEAD\n")
	w.Lock()
}

func TestLockCancelled(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	c := w.LockConfig(w.Config())
	c.Progress = &progresstest.Recorder{On: func(event int) {
		if event == 3 {
			cancel()
		}
	}}
	if _, err := baketest.Lock(ctx, c, arch.AMD64); !errors.Is(err, context.Canceled) {
		t.Errorf("Lock() = %v; want that it was cancelled", err)
	}
	if _, err := os.Stat(w.LockFile()); err == nil {
		t.Error("there is a lock")
	}
}

// TestCheckLock publishes newer packages after locking.
func TestCheckLock(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	restore := w.Snapshot()
	more := func() {
		w.Edit("versions.yaml", "suite: trixie\n  kernel", "suite: trixie\n  packages: [shell]\n  kernel")
	}
	newer := func(name, version, suite string) *baketest.Package {
		return &baketest.Package{Name: name, Version: version, Suite: suite}
	}
	for _, test := range []struct {
		name   string
		change func(*bake.Config)
		kind   string
		want   []string // in the error
		report lock.Report
	}{
		{"fresh", func(*bake.Config) {}, "done", nil, lock.Report{}},
		{"update", func(*bake.Config) {
			w.Packages = append(w.Packages, newer("libtool0", "1.1", "trixie-updates"))
		}, "done", nil, lock.Report{Updates: []lock.Update{{Name: "libtool0", Locked: "1.0", Available: "1.1", Suite: "trixie-updates"}}}},
		{"older version in security", func(*bake.Config) {
			w.Packages = append(w.Packages, newer("tool", "1.0~deb13u1", "trixie-security"))
		}, "done", nil, lock.Report{}},
		{"security update", func(*bake.Config) {
			w.Packages = append(w.Packages, newer("tool", "1.0+deb13u1", "trixie-security"))
		}, "outdated", []string{w.LockFile() + " misses security updates (run: bake lock --versions " + w.Versions + " --upgrade tool):\n  tool 1.0, trixie-security has 1.0+deb13u1"},
			lock.Report{Security: []lock.Update{{Name: "tool", Locked: "1.0", Available: "1.0+deb13u1", Suite: "trixie-security"}}}},
		// What closes the hole may have reached the suite in a later version still.
		{"security update, and a newer version in the suite", func(*bake.Config) {
			w.Package("tool").Version = "1.2"
			w.Packages = append(w.Packages, newer("tool", "1.0+deb13u1", "trixie-security"))
		}, "outdated", []string{"tool 1.0, trixie has 1.2"},
			lock.Report{Security: []lock.Update{{Name: "tool", Locked: "1.0", Available: "1.2", Suite: "trixie"}}}},
		{"security update of what is not installed", func(*bake.Config) {
			w.Packages = append(w.Packages, newer("kube-proxy-amd64", "1.30.1", "trixie-security"))
		}, "outdated", []string{"kube-proxy-amd64 1.30.0, trixie-security has 1.30.1"},
			lock.Report{Security: []lock.Update{{Name: "kube-proxy-amd64", Locked: "1.30.0", Available: "1.30.1", Suite: "trixie-security"}}}},
		{"an edit that asks for the same", func(*bake.Config) { w.Edit("versions.yaml", "os:\n", "# more\nos:\n") },
			"done", nil, lock.Report{}},
		{"stale", func(*bake.Config) { more() },
			"stale", []string{w.LockFile() + " is stale"}, lock.Report{Stale: "stale"}},
		{"stale, and a security update", func(*bake.Config) {
			more()
			w.Packages = append(w.Packages, newer("tool", "1.0+deb13u1", "trixie-security"))
		}, "stale", []string{w.LockFile() + " is stale", "misses security updates"},
			lock.Report{Stale: "stale", Security: []lock.Update{{Name: "tool", Locked: "1.0", Available: "1.0+deb13u1", Suite: "trixie-security"}}}},
		{"stale, and no mirror answers", func(c *bake.Config) {
			more()
			c.DebianMirrors = nil
		}, "stale", []string{w.LockFile() + " is stale", "no mirror of archive debian is known"}, lock.Report{Stale: "stale"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			c := w.Config()
			test.change(&c)
			w.Publish()
			before := filetest.Read(t, w.LockFile())
			report, err := baketest.CheckLock(t.Context(), w.LockConfig(c))
			baketest.WantError(t, err, test.kind, test.want...)
			if report == nil {
				t.Fatal("there is no report")
			}
			if report.Stale != "" {
				report.Stale = "stale"
			}
			want := test.report
			want.Lock = w.LockFile()
			for _, updates := range []*[]lock.Update{&want.Security, &want.Updates} {
				if *updates == nil {
					*updates = []lock.Update{}
				}
			}
			if diff := cmp.Diff(&want, report); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
			if !bytes.Equal(filetest.Read(t, w.LockFile()), before) {
				t.Error("checking has changed the lock")
			}
		})
	}
	t.Run("mirror can't be reached", func(t *testing.T) {
		c := w.Config()
		c.DebianMirrors = nil
		report, err := baketest.CheckLock(t.Context(), w.LockConfig(c))
		baketest.WantError(t, err, "failed", "no mirror of archive debian is known")
		if report != nil {
			t.Errorf("report = %+v; want none, since nothing is known", report)
		}
	})
	t.Run("no lock", func(t *testing.T) {
		c := w.Config()
		c.Lock = filepath.Join(w.Dir, "none.lock")
		_, err := baketest.CheckLock(t.Context(), w.LockConfig(c))
		baketest.WantError(t, err, "input", "there is no lock "+c.Lock)
	})
}

// addImage adds an image of packages to the versions file, and the package web to the
// archive, which is not published yet.
func addImage(w *baketest.World, packages string) {
	w.Edit("versions.yaml", "os:\n", "images:\n  web:\n    reference: bake.local/web:1\n    packages: ["+packages+"]\nos:\n")
	w.Packages = append(w.Packages, &baketest.Package{Name: "web", Version: "1", Fields: "Depends: libtool0\n"})
}

// TestLockImages locks an image's packages beside those of the root filesystem.
func TestLockImages(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	w.Lock()
	plain, restore := filetest.Read(t, w.LockFile()), w.Snapshot()
	addImage(w, "web")
	w.Publish()
	const stale = " is stale: "
	_, err := baketest.CheckLock(t.Context(), w.LockConfig(w.Config()))
	baketest.WantError(t, err, "stale", w.LockFile()+stale, "asks for web, which it lacks (run: bake lock --versions "+w.Versions+")")
	result, err := baketest.Lock(t.Context(), w.LockConfig(w.Config()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"amd64: + libtool0 1.0 (image web) (web needs it)", "amd64: + web 1 (image web) (" + w.Versions + ":4 asks for it)", "amd64: 10 of 12 kept",
	}, changesOf(t, result)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if c := result.Locked[0].Changes[1]; c.Image != "web" || c.Name != "web" || c.New != "1" {
		t.Errorf("a change is %+v; want one of image web", c)
	}
	text := filetest.Read(t, w.LockFile())
	if !bytes.Contains(text, []byte("format: 3\n")) || !bytes.Contains(plain, []byte("format: 2\n")) {
		t.Errorf("the lock with an image begins\n%.200s\nand the one without\n%.200s\nwant formats 3 and 2", text, plain)
	}
	if report, err := baketest.CheckLock(t.Context(), w.LockConfig(w.Config())); err != nil {
		t.Errorf("CheckLock() = %+v, %v; want a lock that fits", report, err)
	}

	// It keeps what it has, and so do images: until --upgrade names it.
	w.Package("web").Version = "2"
	w.Package("tool").Version = "1.1"
	w.Package("libtool0").Version = "1.1"
	w.Packages = append(w.Packages, &baketest.Package{Name: "web", Version: "1+deb13u1", Suite: "trixie-security", Fields: "Depends: libtool0\n"})
	w.Now = w.Now.AddDate(0, 0, 1)
	w.Publish()
	report, err := baketest.CheckLock(t.Context(), w.LockConfig(w.Config()))
	baketest.WantError(t, err, "outdated", "bake lock --versions "+w.Versions+" --upgrade web", "web 1, trixie has 2")
	if diff := cmp.Diff([]lock.Update{{Name: "libtool0", Locked: "1.0", Available: "1.1", Suite: "trixie"}, {Name: "tool", Locked: "1.0", Available: "1.1", Suite: "trixie"}}, report.Updates); diff != "" {
		t.Errorf("updates, each once (-want +got):\n%s", diff)
	}
	for _, test := range []struct {
		upgrade []string
		all     bool
		want    []string
	}{
		{nil, false, []string{"amd64: 12 of 12 kept"}},
		{[]string{"web"}, false, []string{"amd64: web 1 -> 2 (image web) (--upgrade)", "amd64: 11 of 12 kept"}},
		{[]string{"libtool0"}, false, []string{
			"amd64: libtool0 1.0 -> 1.1 (--upgrade)", "amd64: libtool0 1.0 -> 1.1 (image web) (--upgrade)", "amd64: 10 of 12 kept",
		}},
		{nil, true, []string{"amd64: tool 1.0 -> 1.1 (--upgrade)", "amd64: 11 of 12 kept"}},
	} {
		c := w.LockConfig(w.Config())
		c.Upgrade, c.UpgradeAll = test.upgrade, test.all
		result, err := baketest.Lock(t.Context(), c)
		if err != nil {
			t.Fatalf("upgrade %q: %v", test.upgrade, err)
		}
		if diff := cmp.Diff(test.want, changesOf(t, result)); diff != "" {
			t.Errorf("upgrade %q: changes (-want +got):\n%s", test.upgrade, diff)
		}
		if same := bytes.Equal(text, filetest.Read(t, w.LockFile())); same != (len(test.want) == 1) {
			t.Errorf("upgrade %q: the lock is the same: %t", test.upgrade, same)
		}
		text = filetest.Read(t, w.LockFile())
	}

	// Without the image the lock is what it was.
	restore()
	w.Publish()
	_, err = baketest.CheckLock(t.Context(), w.LockConfig(w.Config()))
	if err != nil {
		t.Fatal(err)
	}
	filetest.Write(t, w.LockFile(), text)
	_, err = baketest.CheckLock(t.Context(), w.LockConfig(w.Config()))
	baketest.WantError(t, err, "stale", w.LockFile()+stale, " asks for other packages than when it was made")
}

// TestDiffLocks locks before and after an archive has moved on, and bakes with
// either lock while mirrors still have both.
func TestDiffLocks(t *testing.T) {
	t.Parallel()
	w, before := baketest.NewBaked(t)
	w.Package("tool").Version = "1.1"
	w.Package("tool").Fields = "Depends: libtool1\n"
	w.Package("libtool0").Name = "libtool1"
	w.Package("kube-proxy-amd64").Version = "1.30.1"
	w.Publish()
	c := w.Config()
	c.Lock = filepath.Join(w.Dir, "new.lock")
	upgrade := w.LockConfig(c)
	upgrade.UpgradeAll = true
	if _, err := baketest.Lock(t.Context(), upgrade, arch.AMD64); err != nil {
		t.Fatal(err)
	}
	got, err := lock.Diff(w.LockFile(), c.Lock, arch.AMD64)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"- libtool0 1.0", "+ libtool1 1.0", "tool 1.0 -> 1.1", "kube-proxy-amd64 1.30.0 -> 1.30.1 (not installed)",
	}, got); diff != "" {
		t.Errorf("difference (-want +got):\n%s", diff)
	}
	if same, err := lock.Diff(c.Lock, c.Lock, arch.AMD64); len(same) > 0 || err != nil {
		t.Errorf("difference to itself = %q, %v; want none", same, err)
	}
	_, err = lock.Diff(filepath.Join(w.Dir, "none.lock"), c.Lock, arch.AMD64)
	baketest.WantError(t, err, "input", "none.lock")

	after := w.Image(c)
	if after.SHA256 == before {
		t.Error("the new lock gives the old image")
	}
	c.Lock, c.Out = "", filepath.Join(t.TempDir(), "out") // the new image stays
	baketest.WantImage(t, c, w.Image(c), before)
}
