//go:build linux

package files

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

// TestMain lets the test binary be the process that dies or that fills a disk.
func TestMain(m *testing.M) {
	switch os.Getenv("FILES_TEST") {
	case "crash":
		os.Exit(crashingChild(os.Args[1], os.Args[2]))
	case "full":
		os.Exit(fullDiskChild(os.Args[1]))
	}
	os.Exit(m.Run())
}

// crashingChild applies newFiles and kills itself before step n. It exits with 0
// if there are fewer steps.
func crashingChild(root, n string) int {
	left, err := strconv.Atoi(n)
	if err != nil {
		panic(err)
	}
	a, err := open(root, nil)
	if err != nil {
		panic(err)
	}
	a.step = func(string) {
		if left--; left < 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	if _, err := a.apply(newFiles(), true); err != nil {
		panic(err)
	}
	return 0
}

// TestKilled kills an apply before each of its steps. Recover must leave all of
// the old files or all of the new ones and nothing else, and an Apply after it
// the new ones.
func TestKilled(t *testing.T) {
	t.Parallel()
	olds, news := 0, 0
	for n := 0; ; n++ {
		root := memory(t)
		until(t, root, never, func(a *applier) error { _, err := a.apply(oldFiles(), true); return err })
		cmd := exec.CommandContext(t.Context(), os.Args[0], root, strconv.Itoa(n))
		cmd.Env = append(os.Environ(), "FILES_TEST=crash")
		out, err := cmd.CombinedOutput()
		if err == nil {
			check(t, root, newFiles())
			break
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("the child that was to die before step %d: %v: %s", n, err, out)
		}
		_, jerr := os.Stat(filepath.Join(root, journalFile))
		changes, err := Recover(root)
		if err != nil {
			t.Fatalf("killed before step %d: Recover: %v", n, err)
		}
		want := oldFiles()
		if jerr == nil {
			want = newFiles()
			if diff := cmp.Diff(oldToNew(), changes); diff != "" {
				t.Errorf("killed before step %d: Recover (-want +got):\n%s", n, diff)
			}
		} else if len(changes) != 0 {
			t.Errorf("killed before step %d: Recover = %v without a journal", n, changes)
		}
		got := snapshot(t, root)
		switch {
		case cmp.Equal(got, wanted(oldFiles())) && jerr != nil:
			olds++
		case cmp.Equal(got, wanted(newFiles())):
			news++
		default:
			t.Errorf("killed before step %d, files (-want +got):\n%s", n, cmp.Diff(wanted(want), got))
		}
		until(t, root, never, func(a *applier) error { _, err := a.apply(newFiles(), true); return err })
		check(t, root, newFiles())
	}
	t.Logf("killed at %d points: the old files after %d of them, the new ones after %d", olds+news, olds, news)
	if olds < 10 || news < 5 {
		t.Errorf("%d points left the old files and %d the new ones; want more of both", olds, news)
	}
}

// memory returns a temporary directory on a filesystem that syncs at once.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "files-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

type crash struct{}

const never = 1 << 30

// until runs f with an applier that stops for good before step n, and reports
// whether it came to its end.
func until(t *testing.T, root string, n int, f func(*applier) error) (ended bool) {
	t.Helper()
	a, err := open(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crash); !ok {
				panic(r)
			}
		}
	}()
	a.sync = func(*os.File) error { return nil }
	a.step = func(string) {
		if n--; n < 0 {
			panic(crash{})
		}
	}
	if err := f(a); err != nil {
		t.Fatal(err)
	}
	return true
}

// TestApplyRecovers wants an Apply to do what was interrupted, and to say so:
// what uses these files has to be restarted.
func TestApplyRecovers(t *testing.T) {
	t.Parallel()
	root := memory(t)
	mustApply(t, root, oldFiles())
	until(t, root, never, func(a *applier) error {
		p, err := a.plan(newFiles(), true)
		if err != nil {
			return err
		}
		return a.stage(p.write, journal{1, p.changes, false})
	})
	want := newFiles()
	want[0].Content = []byte("newest\n")
	if diff := cmp.Diff(append(oldToNew(), Change{want[0].Path, Rewritten}), mustApply(t, root, want)); diff != "" {
		t.Errorf("Apply (-want +got):\n%s", diff)
	}
	check(t, root, want)
}

// TestKilledTwice stops an apply before every third of its steps, which are
// much the same for each file, and the Recover after it before each of its own.
func TestKilledTwice(t *testing.T) {
	t.Parallel()
	for n, applied := 0, false; !applied; n += 3 {
		for m, recovered := 0, false; !recovered; m++ {
			root := memory(t)
			until(t, root, never, func(a *applier) error { _, err := a.apply(oldFiles(), true); return err })
			applied = until(t, root, n, func(a *applier) error { _, err := a.apply(newFiles(), true); return err })
			recovered = until(t, root, m, func(a *applier) error { _, err := a.recover(); return err })
			until(t, root, never, func(a *applier) error { _, err := a.recover(); return err })
			got := snapshot(t, root)
			if !cmp.Equal(got, wanted(oldFiles())) && !cmp.Equal(got, wanted(newFiles())) {
				t.Fatalf("stopped before steps %d and %d, files (-new +got):\n%s", n, m, cmp.Diff(wanted(newFiles()), got))
			}
			filetest.Remove(t, root)
		}
	}
}

// TestSteps pins the order of writes and syncs, which a killed process can't
// show: the kernel still has what was not synced. A power cut loses it.
func TestSteps(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	mustApply(t, root, oldFiles()[3:])
	a, err := open(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	var got []string
	a.step = func(s string) { got = append(got, s) }
	if _, err := a.apply([]File{{Path: "/etc/x/y", Content: []byte("y\n"), Mode: 0o644}}, true); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"write /var/lib/firstboot/stage.json", "write on /var/lib/firstboot/stage.json", "sync /var/lib/firstboot/stage.json",
		"rename /var/lib/firstboot/stage.json", "sync directory /var/lib/firstboot",
		"mkdir /etc", "mkdir /etc/x",
		"write /etc/x/y", "write on /etc/x/y",
		"write /var/lib/firstboot/files.json", "write on /var/lib/firstboot/files.json",
		"sync /etc/x/y", "sync /var/lib/firstboot/files.json",
		"sync directory /", "sync directory /etc", "sync directory /etc/x", "sync directory /var/lib/firstboot",
		"write /var/lib/firstboot/apply.json", "write on /var/lib/firstboot/apply.json", "sync /var/lib/firstboot/apply.json",
		"rename /var/lib/firstboot/apply.json", "sync directory /var/lib/firstboot",
		"rename /etc/x/y", "remove /var/lib/kubelet/worker-0-key.pem", "rename /var/lib/firstboot/files.json",
		"sync directory /etc/x", "sync directory /var/lib/kubelet", "sync directory /var/lib/firstboot",
		"remove /var/lib/firstboot/apply.json", "remove /var/lib/firstboot/stage.json", "sync directory /var/lib/firstboot",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// TestFullDisk runs fullDiskChild in a mount namespace of its own.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := `mount -t tmpfs -o size=160k none "$1" && exec "$2" "$1"`
	cmd := exec.CommandContext(t.Context(), "unshare", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs none "+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		need.Missing(t, "no small filesystem can be mounted here (apt-get install util-linux): %v: %s", err, out)
	}
	cmd = exec.CommandContext(t.Context(), "unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", dir, os.Args[0])
	cmd.Env = append(os.Environ(), "FILES_TEST=full")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out)
}

// fullDiskChild lets a disk of 40 pages be full at each page of an apply.
func fullDiskChild(root string) int {
	big := func(files []File, b byte) []File {
		for i := range files {
			files[i].Content = append(files[i].Content, strings.Repeat(string(b), 5000)...)
		}
		return files
	}
	olds, news := big(oldFiles(), 'o'), big(newFiles(), 'n')
	filler := filepath.Join(root, "filler")
	fail := func(format string, args ...any) int {
		println("with a filler:", format)
		for _, a := range args {
			switch a := a.(type) {
			case error:
				println(a.Error())
			case string:
				println(a)
			case int:
				println(a)
			}
		}
		return 1
	}
	read := func() map[string]string {
		found := map[string]string{}
		_ = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || name == filler || strings.HasSuffix(name, listFile) {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			content, err := os.ReadFile(name)
			found[strings.TrimPrefix(name, root)] = info.Mode().String() + " " + string(content)
			return err
		})
		return found
	}
	full, fits := 0, 0
	for pages := 0; pages <= 40; pages++ {
		if _, err := Apply(root, olds, nil); err != nil {
			return fail("applying the old files", pages, err)
		}
		// As many pages as there are, if there are fewer.
		werr := os.WriteFile(filler, make([]byte, pages*4096), 0o600)
		changes, err := Apply(root, news, nil)
		switch {
		case err == nil:
			fits++
			if diff := cmp.Diff(wanted(news), read()); diff != "" {
				return fail("after success", pages, diff)
			}
		case !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "no space left on device; the files are as they were"):
			return fail("not the right error", pages, err)
		default:
			full++
			if len(changes) != 0 {
				return fail("changes reported with an error", pages)
			}
			if diff := cmp.Diff(wanted(olds), read()); diff != "" {
				return fail("after a full disk", pages, diff)
			}
		}
		if err := os.Remove(filler); err != nil {
			return fail("removing the filler", err)
		}
		if _, err := Apply(root, news, nil); err != nil {
			return fail("applying with space again", pages, err)
		}
		if werr != nil {
			break
		}
	}
	if full < 5 || fits < 5 {
		return fail("too few cases", full, fits)
	}
	println("the disk was full", full, "times and not", fits, "times")
	return 0
}
