//go:build linux

package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// oldFiles and newFiles are two configurations that differ in every way: a file
// more, a file less, another content, another mode, and one that stays.
func oldFiles() []File {
	return []File{
		{Path: "/etc/cni/net.d/10-bridge.conflist", Content: []byte("old bridge\n"), Mode: 0o644},
		{Path: "/etc/containerd/config.toml", Content: []byte("same\n"), Mode: 0o644},
		{Path: "/etc/default/kubelet", Content: []byte("same content\n"), Mode: 0o644},
		{Path: "/var/lib/kubelet/worker-0-key.pem", Content: []byte("old key\n"), Mode: 0o600},
	}
}

func newFiles() []File {
	return []File{
		{Path: "/etc/cni/net.d/10-bridge.conflist", Content: []byte("new bridge\n"), Mode: 0o644},
		{Path: "/etc/containerd/config.toml", Content: []byte("same\n"), Mode: 0o644},
		{Path: "/etc/default/kubelet", Content: []byte("same content\n"), Mode: 0o600},
		{Path: "/var/lib/kube-proxy/kubeconfig", Content: []byte("new\n"), Mode: 0o600},
		{Path: "/var/lib/kubelet/worker-1-key.pem", Content: []byte("new key\n"), Mode: 0o600},
	}
}

func oldToNew() []Change {
	return []Change{
		{"/etc/cni/net.d/10-bridge.conflist", Rewritten},
		{"/etc/default/kubelet", ModeChanged},
		{"/var/lib/kube-proxy/kubeconfig", Created},
		{"/var/lib/kubelet/worker-0-key.pem", Removed},
		{"/var/lib/kubelet/worker-1-key.pem", Created},
	}
}

func mustApply(t *testing.T, root string, want []File) []Change {
	t.Helper()
	changes, err := Apply(root, want, nil)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

// snapshot is every file and link below root with mode and content, but for
// files.json.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel := strings.TrimPrefix(name, root)
		if rel == listFile {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(name)
			found[rel] = "-> " + target
			return err
		}
		content, err := os.ReadFile(name)
		found[rel] = info.Mode().String() + " " + string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func wanted(want []File) map[string]string {
	m := map[string]string{}
	for _, f := range want {
		m[f.Path] = f.Mode.String() + " " + string(f.Content)
	}
	return m
}

func check(t *testing.T, root string, want []File) {
	t.Helper()
	if diff := cmp.Diff(wanted(want), snapshot(t, root)); diff != "" {
		t.Errorf("files below the root (-want +got):\n%s", diff)
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	want := []Change{
		{"/etc/cni/net.d/10-bridge.conflist", Created},
		{"/etc/containerd/config.toml", Created},
		{"/etc/default/kubelet", Created},
		{"/var/lib/kubelet/worker-0-key.pem", Created},
	}
	if diff := cmp.Diff(want, mustApply(t, root, oldFiles())); diff != "" {
		t.Errorf("first Apply (-want +got):\n%s", diff)
	}
	check(t, root, oldFiles())

	plan, err := Plan(root, newFiles())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(oldToNew(), plan); diff != "" {
		t.Errorf("Plan (-want +got):\n%s", diff)
	}
	check(t, root, oldFiles())

	var did []Change
	changes, err := Apply(root, newFiles(), func(c Change) { did = append(did, c) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(oldToNew(), changes); diff != "" {
		t.Errorf("second Apply (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(changes, did); diff != "" {
		t.Errorf("did (-returned +called for):\n%s", diff)
	}
	check(t, root, newFiles())
}

// TestApplyNothing wants nothing touched where nothing changed: no file has
// another inode or time, and no directory was written to.
func TestApplyNothing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	mustApply(t, root, newFiles())
	past := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	state := func() map[string]string {
		m := map[string]string{}
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := os.Lstat(name)
			if err != nil {
				return err
			}
			st := info.Sys().(*syscall.Stat_t)
			m[name] = fmt.Sprint(info.ModTime(), st.Ctim, st.Ino)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name := range state() {
		must.Do(os.Chtimes(name, past, past))
	}
	before := state()
	if changes := mustApply(t, root, newFiles()); len(changes) != 0 {
		t.Errorf("second Apply changed %v; want nothing", changes)
	}
	if changes, err := Recover(root); err != nil || len(changes) != 0 {
		t.Errorf("Recover = %v, %v; want nothing", changes, err)
	}
	if diff := cmp.Diff(before, state()); diff != "" {
		t.Errorf("second Apply touched (-before +after):\n%s", diff)
	}
	// Where one file changes, the others stay what they are.
	changed := newFiles()
	changed[0].Content = []byte("newer\n")
	mustApply(t, root, changed)
	after := state()
	for _, f := range changed[1:] {
		name := filepath.Join(root, f.Path)
		if before[name] != after[name] {
			t.Errorf("%s was touched: %s, %s before", f.Path, after[name], before[name])
		}
	}
}

func TestAdd(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	mustApply(t, root, oldFiles())
	early := []File{{Path: "/etc/containerd/config.toml", Content: []byte("early\n"), Mode: 0o644}}
	changes, err := Add(root, early, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Change{{"/etc/containerd/config.toml", Rewritten}}, changes); diff != "" {
		t.Errorf("Add (-want +got):\n%s", diff)
	}
	want := oldFiles()
	want[1] = early[0]
	check(t, root, want)
	// What was ours before Add still is.
	mustApply(t, root, early)
	check(t, root, early)
}

// TestForeign wants files that are not ours left alone.
func TestForeign(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	mustApply(t, root, oldFiles())
	foreign := []File{{Path: "/var/lib/kubelet/kubeconfig", Content: []byte("the kubelet's\n"), Mode: 0o600}}
	write(t, root, foreign[0].Path, string(foreign[0].Content), 0o600)
	mustApply(t, root, newFiles())
	check(t, root, append(newFiles(), foreign...))
	// It becomes ours by being wanted, and then goes with the rest.
	mustApply(t, root, append(newFiles(), foreign...))
	mustApply(t, root, newFiles())
	check(t, root, newFiles())
}

func write(t *testing.T, root, name, content string, mode fs.FileMode) {
	t.Helper()
	name = filepath.Join(root, name)
	filetest.Mkdir(t, filepath.Dir(name))
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	mustApply(t, root, oldFiles())
	must.Do(os.Chmod(filepath.Join(root, "var/lib/kubelet/worker-0-key.pem"), 0o604|fs.ModeSetuid))
	want := []Change{{"/var/lib/kubelet/worker-0-key.pem", ModeChanged}}
	if diff := cmp.Diff(want, mustApply(t, root, oldFiles())); diff != "" {
		t.Errorf("Apply (-want +got):\n%s", diff)
	}
	check(t, root, oldFiles())
	// A directory's mode is that of who makes it; what is there stays as it is.
	mustApply(t, root, append(oldFiles(), File{Path: "/var/lib/x/y/z", Mode: 0o600, DirMode: 0o750}, File{Path: "/var/lib/kubelet/z", Mode: 0o600, DirMode: 0o700}))
	for dir, want := range map[string]fs.FileMode{"etc/cni/net.d": 0o755, "var/lib/firstboot": 0o755, "var/lib/kubelet": 0o755, "var/lib/x": 0o755, "var/lib/x/y": 0o750} {
		info := filetest.Stat(t, filepath.Join(root, dir))
		if info.Mode() != fs.ModeDir|want {
			t.Errorf("mode of %s is %v; want %v", dir, info.Mode(), fs.ModeDir|want)
		}
	}
}

// TestSymlinks has links of every kind in the way. Nothing outside of the root
// may change, and links inside of it mean what they mean on the node.
func TestSymlinks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, link, target string
		path               string // of the file that is wanted
		lands              string // where it is below the root
		fails              string
	}{
		{"relative inside", "/bin", "usr/bin", "/bin/x", "/usr/bin/x", ""},
		{"absolute inside", "/var/run", "/run", "/var/run/x", "/run/x", ""},
		{"parent", "/etc/cni", "../var/cni", "/etc/cni/net.d/x", "/var/cni/net.d/x", ""},
		{"relative escape", "/etc", "../../../../../../outside", "/etc/x", "/outside/x", ""},
		{"absolute escape", "/etc", "OUTSIDE", "/etc/x", "OUTSIDE/x", ""},
		{"loop", "/etc", "etc", "/etc/x", "", "too many symbolic links"},
		{"in the place of the file", "/etc/x", "OUTSIDE/precious", "/etc/x", "/etc/x", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			root, outside := t.TempDir(), t.TempDir()
			write(t, outside, "precious", "precious\n", 0o600)
			write(t, outside, "x", "precious too\n", 0o600)
			link := filepath.Join(root, test.link)
			filetest.Mkdir(t, filepath.Dir(link))
			place := func(s string) string { return strings.ReplaceAll(s, "OUTSIDE", outside) }
			filetest.Link(t, place(test.target), link)
			before := snapshot(t, outside)
			want := []File{{Path: test.path, Content: []byte("new\n"), Mode: 0o644}}
			_, err := Apply(root, want, nil)
			switch {
			case test.fails != "":
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("Apply = %v; want an error with %q", err, test.fails)
				}
			case err != nil:
				t.Error(err)
			default:
				got, err := os.ReadFile(filepath.Join(root, place(test.lands)))
				if err != nil || string(got) != "new\n" {
					t.Errorf("%s below the root is %q, %v", place(test.lands), got, err)
				}
				if again := mustApply(t, root, want); len(again) != 0 {
					t.Errorf("second Apply changed %v", again)
				}
				mustApply(t, root, nil)
				if _, err := os.Lstat(filepath.Join(root, place(test.lands))); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is still there: %v", test.path, err)
				}
			}
			if diff := cmp.Diff(before, snapshot(t, outside)); diff != "" {
				t.Errorf("outside of the root (-before +after):\n%s", diff)
			}
		})
	}
}

// TestInTheWay has something else where a file or a directory belongs: an error
// before anything changed, and one that says what to do.
func TestInTheWay(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, make, want string }{
		{"directory for a file", "/etc/default/kubelet/x", "/etc/default/kubelet: a directory is in the place of the file; remove it"},
		{"file for a directory", "/etc/cni", "/etc/cni is no directory; remove it"},
	} {
		root := t.TempDir()
		write(t, root, test.make, "", 0o644)
		before := snapshot(t, root)
		_, err := Apply(root, newFiles(), nil)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Apply = %v; want %q in it", test.name, err, test.want)
		}
		if _, perr := Plan(root, newFiles()); perr == nil || perr.Error() != err.Error() {
			t.Errorf("%s: Plan = %v; want what Apply says", test.name, perr)
		}
		if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
			t.Errorf("%s: files (-before +after):\n%s", test.name, diff)
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	for _, f := range []File{
		{Path: "etc/x", Mode: 0o644}, {Path: "/etc/../x", Mode: 0o644}, {Path: "/", Mode: 0o644}, {Path: "/etc/x/", Mode: 0o644}, {Path: "", Mode: 0o644},
		{Path: "/etc/\x00", Mode: 0o644}, {Path: "/var/lib/firstboot/apply.json", Mode: 0o644}, {Path: "/etc/.x.firstboot-new", Mode: 0o644},
		{Path: "/etc/x", Mode: 0o644 | fs.ModeSetuid}, {Path: "/etc/x", Mode: 0},
		{Path: "/etc/x", Mode: 0o644, DirMode: 0o755 | fs.ModeSetgid}, {Path: "/etc/x", Mode: 0o644, DirMode: 0o644},
	} {
		if _, err := Plan(t.TempDir(), []File{f}); err == nil {
			t.Errorf("Plan took %v", f)
		}
	}
	if _, err := Plan(t.TempDir(), append(oldFiles(), oldFiles()...)); err == nil {
		t.Error("Plan took a file twice")
	}
	if _, err := Apply(filepath.Join(t.TempDir(), "missing"), nil, nil); err == nil {
		t.Error("Apply took a root that is not there")
	}
}

// TestDamaged has state that cannot be read: the node must heal by itself.
func TestDamaged(t *testing.T) {
	t.Parallel()
	for _, name := range []string{stageFile, journalFile, listFile} {
		for _, content := range []string{"", "{", `{"version":2}`, `{"version":1,"paths":["/../x"],"files":["x"],"changes":[{"path":"/x","what":"?"}]}`} {
			root := t.TempDir()
			mustApply(t, root, oldFiles())
			write(t, root, name, content, 0o600)
			if changes, err := Recover(root); err != nil || len(changes) != 0 {
				t.Errorf("%s is %q: Recover = %v, %v; want nothing", name, content, changes, err)
			}
			mustApply(t, root, append(newFiles(), oldFiles()[3]))
			check(t, root, append(newFiles(), oldFiles()[3]))
			mustApply(t, root, newFiles())
			check(t, root, newFiles())
		}
	}
}

func FuzzState(f *testing.F) {
	f.Add(encodeJournal(journal{1, oldToNew(), true}))
	f.Add(encodeList([]string{"/etc/x", "/etc/y"}))
	f.Add(encodeStage([]string{"/etc/x", listFile}))
	f.Add([]byte(`{"version":1,"changes":[{"path":"/../x","what":"removed"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ok := func(p string) {
			if !filepath.IsAbs(p) || filepath.Clean(p) != p {
				t.Errorf("took the path %q", p)
			}
		}
		if j, err := decodeJournal(data); err == nil {
			for _, c := range j.Changes {
				ok(c.Path)
			}
		}
		if paths, err := decodeList(data); err == nil {
			for _, p := range paths {
				ok(p)
			}
		}
		if paths, err := decodeStage(data); err == nil {
			for _, p := range paths {
				ok(p)
			}
		}
	})
}

// TestAbsentAndTheirs changes another program's files along with ours.
func TestAbsentAndTheirs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	filetest.Mkdir(t, filepath.Join(root, "pki"))
	for path, content := range map[string]string{"theirs": "old\n", "pki/dated.pem": "key\n"} {
		if err := os.WriteFile(filepath.Join(root, path), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	filetest.Link(t, "/pki/dated.pem", filepath.Join(root, "pki/current.pem"))
	content, target, err := Read(root, "/pki/current.pem")
	if string(content) != "key\n" || target != "/pki/dated.pem" || err != nil {
		t.Errorf("Read of a link = %q, %q, %v; want what it leads to", content, target, err)
	}
	if content, _, err := Read(root, "/pki/none"); content != nil || err != nil {
		t.Errorf("Read of no file = %q, %v; want nothing", content, err)
	}
	ours := File{Path: "/ours", Content: []byte("ours\n"), Mode: 0o644}
	want := []File{
		ours,
		{Path: "/theirs", Content: []byte("new\n"), Mode: 0o600, Theirs: true},
		{Path: "/pki/current.pem", Absent: true}, {Path: "/pki/dated.pem", Absent: true}, {Path: "/pki/none", Absent: true},
	}
	for _, step := range []struct {
		want    []File
		changes []Change
	}{
		{want, []Change{{"/ours", Created}, {"/pki/current.pem", Removed}, {"/pki/dated.pem", Removed}, {"/theirs", Rewritten}}},
		{want, nil},
		{[]File{ours}, nil}, // what is theirs stays
		{nil, []Change{{"/ours", Removed}}},
	} {
		changes, err := Apply(root, step.want, nil)
		if diff := cmp.Diff(step.changes, changes); err != nil || diff != "" {
			t.Errorf("Apply = %v; changes (-want +got):\n%s", err, diff)
		}
	}
	if content, _, err := Read(root, "/theirs"); string(content) != "new\n" || err != nil {
		t.Errorf("their file holds %q, %v; want what was written", content, err)
	}
}
