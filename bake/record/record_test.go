package record

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/tree"
)

func image() *Record {
	return &Record{
		Schema: Schema, Name: "k8s-worker-v1-36-3-amd64", Arch: "amd64",
		KernelArguments: []string{"console=tty0", "console=ttyS0,38400n8d", "ro"},
		Node:            Node{RuntimeType: "io.containerd.runc.v2", CgroupDriver: "systemd"},
		Components:      []Component{{Name: "kubelet", Version: "v1.36.3", Origin: "release"}},
		Images:          []ContainerImage{{Name: "pause", Reference: "registry.example.com/pause:1", Origin: "release", Digest: "sha256:aa"}},
		Packages:        []Package{{Name: "bash", Version: "5.2-1"}, {Name: "jq", Version: "1.7-1"}},
		Files: []Entry{
			{Path: "/", Type: tree.Dir, Mode: "0755"},
			{Path: "/etc/motd", Type: tree.File, Mode: "0644", Size: 5, SHA256: strings.Repeat("ab", 32)},
		},
	}
}

func TestDiff(t *testing.T) {
	a, b := image(), image()
	if got := Diff(a, b); got != nil {
		t.Errorf("Diff of equal images = %v; want none", got)
	}
	b.KernelArguments = b.KernelArguments[1:]
	b.Node = Node{CgroupDriver: "cgroupfs", SandboxImage: "bake.invalid/pause:1"}
	b.Images[0] = ContainerImage{Name: "pause", Reference: "bake.invalid/pause:1", Origin: "source", Toolchain: "go1.26.8", Digest: "sha256:bb"}
	a.Images[0].Packages, b.Images[0].Packages = []Package{{Name: "bash", Version: "5.2-1"}}, []Package{{Name: "bash", Version: "5.2-2"}}
	b.Components[0].Origin, b.Components[0].Toolchain = "source", "go1.26.8"
	b.Packages = []Package{{Name: "bash", Version: "5.2-2"}, {Name: "less", Version: "668"}}
	b.Files[1].Mode = "0600"
	b.Files = append(b.Files, Entry{Path: "/new", Type: tree.Symlink, Mode: "0777", Link: "etc"})
	var got []string
	for _, c := range Diff(a, b) {
		got = append(got, c.String())
	}
	want := []string{
		"~ kernel argument console: tty0 ttyS0,38400n8d -> ttyS0,38400n8d",
		"~ node cgroup driver: systemd -> cgroupfs",
		"- node runtime type io.containerd.runc.v2",
		"+ node sandbox image bake.invalid/pause:1",
		"~ component kubelet: v1.36.3 (release) -> v1.36.3 (source, go1.26.8)",
		"~ container image pause: registry.example.com/pause:1@sha256:aa (release) -> bake.invalid/pause:1@sha256:bb (source, go1.26.8)",
		"~ package bash: 5.2-1 -> 5.2-2",
		"~ package bash (image pause): 5.2-1 -> 5.2-2",
		"- package jq 1.7-1",
		"+ package less 668",
		"~ file /etc/motd: file 0644 0:0 5 bytes sha256:abababababab -> file 0600 0:0 5 bytes sha256:abababababab",
		"+ file /new symlink 0777 0:0 to etc",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Diff (-want +got):\n%s", diff)
	}

	changes := Diff(a, b)
	summary := Summary{
		Components: changes[4:5], Images: changes[5:6], Packages: changes[6:10],
		Counts: []Count{
			{"kernel argument", 0, 0, 1}, {"node", 1, 1, 1}, {"component", 0, 0, 1}, {"container image", 0, 0, 1},
			{"package", 1, 1, 2}, {"file", 1, 0, 1},
		},
	}
	if diff := cmp.Diff(summary, Summarize(changes)); diff != "" {
		t.Errorf("Summarize (-want +got):\n%s", diff)
	}
	if got, want := summary.Counts[1].String(), "1 added, 1 removed, 1 changed"; got != want {
		t.Errorf("String() = %q; want %q", got, want)
	}
	if text, err := json.Marshal(Summarize(nil)); err != nil || string(text) != `{"components":[],"images":[],"packages":[],"counts":[]}` {
		t.Errorf("the summary of no changes is %s, %v", text, err)
	}
}

// TestReadHead reads records up to their files, whatever these are.
func TestReadHead(t *testing.T) {
	whole := image()
	var text bytes.Buffer
	if err := whole.Write(&text); err != nil {
		t.Fatal(err)
	}
	before := text.String()
	before = before[:strings.LastIndex(before, `"files"`)]
	short := *whole
	short.Files = nil
	var without bytes.Buffer
	if err := short.Write(&without); err != nil {
		t.Fatal(err)
	}
	for name, record := range map[string]string{
		"whole": text.String(), "without files": without.String(), "damaged files": before + `"files": [ what`,
	} {
		got, err := ReadHead("r.json", strings.NewReader(record))
		if err != nil {
			t.Errorf("%s: ReadHead = %v", name, err)
		} else if diff := cmp.Diff(&short, got); diff != "" {
			t.Errorf("%s: ReadHead (-want +got):\n%s", name, diff)
		}
	}
	for _, record := range []string{"", "[]", "{", "null", `{"schema": 1`, `{"schema": 2}`, `{"schema": 1, "other": 1}`, "\x00"} {
		if got, err := ReadHead("r.json", strings.NewReader(record)); err == nil || !strings.HasPrefix(err.Error(), "reading r.json: ") {
			t.Errorf("ReadHead(%q) = %v, %v; want an error that names r.json", record, got, err)
		}
	}
}

func FuzzReadHead(f *testing.F) {
	f.Add([]byte(`{"schema": 1, "name": "a", "files": [`))
	f.Add([]byte(`[1`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if whole, err := Read("r.json", bytes.NewReader(data)); err == nil {
			head, err := ReadHead("r.json", bytes.NewReader(data))
			if err != nil {
				return // a key stands twice, or in other letters
			}
			if head.Name != whole.Name && !strings.Contains(strings.ToLower(string(data)), "files") {
				t.Errorf("ReadHead(%q) has name %q; Read has %q", data, head.Name, whole.Name)
			}
		}
	})
}

func TestReadIsStrictAndGivesBackWhatWasWritten(t *testing.T) {
	var b bytes.Buffer
	if err := image().Write(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	got, err := Read("x.json", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(image(), got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	for _, bad := range []string{
		strings.Replace(text, `"schema": 1`, `"schema": 99`, 1),
		strings.Replace(text, `"schema"`, `"shcema"`, 1),
		text[:len(text)/2],
	} {
		if _, err := Read("x.json", strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), "x.json") {
			t.Errorf("Read of a broken record = %v; want an error that names x.json", err)
		}
	}
}

// TestNames has names that JSON can't hold as they are.
func TestNames(t *testing.T) {
	var tr tree.Tree
	for _, p := range []string{"a\xff", "a\xfe", "a\ufffd", "ä\\x2d", "d/\xc3(\xc3\xa4"} {
		tr.Entries = append(tr.Entries, tree.Entry{Path: p, Type: tree.Symlink, Link: p})
	}
	var b bytes.Buffer
	if err := (&Record{Schema: Schema, Files: Entries(&tr)}).Write(&b); err != nil {
		t.Fatal(err)
	}
	m, err := Read("x", &b)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{`a\xff`, `a\xfe`, "a\ufffd", `ä\x2d`, `d/\xc3(ä`} {
		if got := m.Files[i]; got.Path != "/"+want || got.Link != want {
			t.Errorf("%q is recorded as %q, a link to %q; want %q", tr.Entries[i].Path, got.Path, got.Link, want)
		}
	}
}
