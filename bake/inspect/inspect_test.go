package inspect

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/inspect/inspecttest"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
)

func isNotImage(err error) bool {
	_, ok := errors.AsType[*NotImageError](err)
	return ok
}

func TestOpenRefusesWhatIsNoImage(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"text": "hello", "empty": "", "zeroes": strings.Repeat("\x00", 1<<16)} {
		filetest.Write(t, filepath.Join(dir, name), content)
	}
	for _, name := range []string{"text", "empty", "zeroes", "missing", "."} {
		p := filepath.Join(dir, name)
		if _, err := Open(t.Context(), p, dir); !isNotImage(err) || !strings.Contains(err.Error(), p) {
			t.Errorf("Open(%s) = %v; want a NotImageError that names it", name, err)
		}
	}
}

func TestOpenBlamesTheMachineWhereItIsAtFault(t *testing.T) {
	p := inspecttest.New().WriteTarGz(t, t.TempDir())
	if _, err := Open(t.Context(), p, filepath.Join(t.TempDir(), "missing")); err == nil || isNotImage(err) {
		t.Errorf("Open without a directory for the disk = %v; want an error that does not blame the image", err)
	}
	tmp := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, p, tmp); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a cancelled context = %v; want context.Canceled", err)
	}
	inspecttest.WantEmpty(t, tmp)
}

func TestRecordReadsWhatIsThere(t *testing.T) {
	w := inspecttest.New()
	w.Root["etc/hosts2"] = tree.Entry{Path: "etc/hosts2", Type: tree.Hardlink, Perm: 0o644, Link: "etc/hosts"}
	w.Root["dev/null"] = tree.Entry{Path: "dev/null", Type: tree.Char, Perm: 0o666, Major: 1, Minor: 3}
	p := w.WriteTarGz(t, t.TempDir())
	m, err := Open(t.Context(), p, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	got, err := m.Record(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	info := filetest.Stat(t, p)
	want := w.Record()
	want.File = &record.File{Name: inspecttest.FileName + ".tar.gz", Format: "tar.gz", Size: info.Size(), SHA256: inspecttest.SumFile(t, p)}
	want.Disk = record.Disk{Size: inspecttest.GiB, Partitions: []record.Partition{
		{Name: "esp", Type: "esp", GUID: w.Parts[0].GUID.String(), Start: inspecttest.MiB, Size: 64 * inspecttest.MiB},
		{Name: "root", Type: "root", GUID: inspecttest.RootGUID().String(), Start: 65 * inspecttest.MiB, Size: 512 * inspecttest.MiB},
	}}
	want.KernelArguments = append([]string{"root=PARTUUID=" + inspecttest.RootGUID().String()}, want.KernelArguments...)
	want.Files = record.Entries(inspecttest.MustTree(t, w.Root))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Record (-want +got):\n%s", diff)
	}
	if wrong, err := m.Contradictions(got); err != nil || len(wrong) > 0 {
		t.Errorf("Contradictions = %v, %v; want none", wrong, err)
	}
}

func TestReadFile(t *testing.T) {
	w := inspecttest.New()
	w.Link("etc/loop", "loop")
	m, err := Open(t.Context(), w.WriteRaw(t, t.TempDir()), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, test := range []struct{ name, want string }{
		{"/etc/os-release", inspecttest.Read(w.Root["usr/lib/os-release"])}, // through a relative link
		{"bin/containerd", inspecttest.Read(w.Root["usr/bin/containerd"])},
		{"/bin/../etc/hosts", inspecttest.Read(w.Root["etc/hosts"])}, // where the link leads, ".." is usr
		{"esp:/EFI/BOOT/BOOTX64.EFI", inspecttest.Read(w.ESP["EFI/BOOT/BOOTX64.EFI"])},
		{"esp:efi/boot/bootx64.efi", inspecttest.Read(w.ESP["EFI/BOOT/BOOTX64.EFI"])},
	} {
		if test.name == "/bin/../etc/hosts" {
			if _, err := m.ReadFile(test.name); err == nil {
				t.Errorf("ReadFile(%s): want no such file", test.name)
			}
			continue
		}
		r, err := m.ReadFile(test.name)
		if err != nil {
			t.Errorf("ReadFile(%s): %v", test.name, err)
			continue
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != test.want {
			t.Errorf("ReadFile(%s) = %q, %v; want %q", test.name, got, err, test.want)
		}
	}
	for _, name := range []string{"/etc/missing", "/etc", "/etc/loop", "esp:/missing", "/etc/hosts/below"} {
		r, err := m.ReadFile(name)
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if err == nil {
			t.Errorf("ReadFile(%s): want an error", name)
		}
	}
}

func TestCheckSidecar(t *testing.T) {
	dir := t.TempDir()
	p := inspecttest.New().WriteTarGz(t, dir)
	rec := filepath.Join(dir, inspecttest.FileName+".json")
	m, err := Open(t.Context(), p, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got, err := m.CheckSidecar(t.Context()); got != "" || err != nil {
		t.Errorf("CheckSidecar without a record = %q, %v; want nothing", got, err)
	}
	file, err := m.File(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, path string
		change     func(f *record.File)
		fails      bool
	}{
		{"equal", rec, func(*record.File) {}, false},
		{"another format's", "", func(f *record.File) { f.Name = inspecttest.FileName + ".raw" }, false},
		{"another digest", rec, func(f *record.File) { f.SHA256 = "sha256:" + manifest.Digest(strings.Repeat("0", 64)) }, true},
	} {
		described := *file
		test.change(&described)
		var b bytes.Buffer
		if err := (&record.Record{Schema: record.Schema, File: &described}).Write(&b); err != nil {
			t.Fatal(err)
		}
		filetest.Write(t, rec, b.Bytes())
		if got, err := m.CheckSidecar(t.Context()); got != test.path || (err != nil) != test.fails {
			t.Errorf("%s: CheckSidecar = %q, %v; want %q, error %v", test.name, got, err, test.path, test.fails)
		}
	}
	filetest.Write(t, rec, "{")
	if _, err := m.CheckSidecar(t.Context()); err == nil {
		t.Error("CheckSidecar of a broken record: want an error")
	}
}
