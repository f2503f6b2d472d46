package node_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/node"
)

// contents reads every file below dir; directories are there with a slash.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			found[name+"/"] = ""
			return nil
		}
		content, err := os.ReadFile(path)
		found[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "a", "worker-0")
	first := node.MetadataFiles(map[string][]byte{"pod-cidr": []byte("1"), "kubelet-key": []byte("2")}, nil, out)
	if err := node.Write(t.Context(), first, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a/": "", "a/worker-0/": "", "a/worker-0/pod-cidr": "1", "a/worker-0/kubelet-key": "2"}, contents(t, dir)); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	for path, want := range map[string]fs.FileMode{out: 0o700, filepath.Join(out, "kubelet-key"): 0o600, filepath.Join(out, "pod-cidr"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want && runtime.GOOS != "windows" {
			t.Errorf("%s has the mode %v, %v; want %o", path, info.Mode(), err, want)
		}
	}
	// What is there is replaced if it is named, and what is no longer wanted goes.
	if err := os.WriteFile(filepath.Join(out, "ssh-keys"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := node.MetadataFiles(map[string][]byte{"pod-cidr": []byte("3"), "kubelet-key-secret": []byte("4")}, map[string][]byte{"kubelet-key": []byte("5")}, out)
	if err := node.Write(t.Context(), second, nil); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("Write over files = %v; want an error", err)
	}
	if diff := cmp.Diff("1", contents(t, out)["pod-cidr"]); diff != "" {
		t.Error("a refused Write wrote")
	}
	old, err := node.Present(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Write(t.Context(), second, old); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"pod-cidr": "3", "kubelet-key-secret": "4", "secrets/": "", "secrets/kubelet-key": "5", "ssh-keys": "mine"}
	if diff := cmp.Diff(want, contents(t, out)); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
}

func TestWriteAllOrNothing(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name   string
		ctx    context.Context
		change func(out string, files []node.File, old []string) ([]node.File, []string)
	}{
		{"cancelled", cancelled, func(_ string, files []node.File, old []string) ([]node.File, []string) { return files, old }},
		{"an old file that is gone", t.Context(), func(out string, files []node.File, old []string) ([]node.File, []string) {
			return files, append(old, filepath.Join(out, "mtu"))
		}},
		{"a directory in a file's place", t.Context(), func(out string, files []node.File, old []string) ([]node.File, []string) {
			// Renames before the one that fails must be undone.
			return append(files, node.File{Path: filepath.Join(out, "x"), Mode: 0o600}, node.File{Path: filepath.Join(out, "x", "y"), Mode: 0o600}), old
		}},
		{"a file for a directory", t.Context(), func(out string, files []node.File, old []string) ([]node.File, []string) {
			return append(files, node.File{Path: filepath.Join(out, "pod-cidr", "x"), Mode: 0o600}), old
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			out := filepath.Join(dir, "worker-0")
			values := map[string][]byte{"pod-cidr": []byte("1"), "kubelet-key": []byte("2")}
			if err := node.Write(t.Context(), node.MetadataFiles(values, nil, out), nil); err != nil {
				t.Fatal(err)
			}
			old, err := node.Present(out)
			if err != nil {
				t.Fatal(err)
			}
			before := contents(t, dir)
			values = map[string][]byte{"pod-cidr": []byte("3"), "kubelet-key-secret": []byte("4")}
			files, old := test.change(out, node.MetadataFiles(values, map[string][]byte{"kubelet-key": []byte("5")}, out), old)
			err = node.Write(test.ctx, files, old)
			if err == nil || test.ctx == cancelled && !errors.Is(err, context.Canceled) {
				t.Errorf("Write = %v; want an error", err)
			}
			if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
				t.Errorf("after a failure (-before +after):\n%s", diff)
			}
		})
	}
}
