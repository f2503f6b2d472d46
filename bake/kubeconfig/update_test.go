package kubeconfig_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nodebake/bake/bake/kubeconfig"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/test/must"
)

// put has every file that is there say what text is.
func put(text string) func([]kubeconfig.File) (*kubeconfig.Result, error) {
	return func(files []kubeconfig.File) (*kubeconfig.Result, error) {
		r := &kubeconfig.Result{}
		for _, f := range files {
			r.Files = append(r.Files, kubeconfig.File{Path: f.Path, Content: []byte(text)})
		}
		return r, nil
	}
}

// names lists what is below a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(dir, path); name != "." {
			found = append(found, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "sub", "dir", "b")
	write(t, a, "old")
	must.Do(os.Chmod(a, 0o640))
	paths := kubeconfig.Paths{Files: []string{b, a}, Target: b}
	_, err := kubeconfig.Update(t.Context(), paths, kubeconfig.Waiting{}, func(files []kubeconfig.File) (*kubeconfig.Result, error) {
		if diff := cmp.Diff([]string{"a", "a.lock", "sub", "sub/dir", "sub/dir/b.lock"}, names(t, dir)); diff != "" {
			t.Errorf("while it is decided there are (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]kubeconfig.File{{Path: b}, {Path: a, Content: []byte("old")}}, files); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
		return put("new")(files)
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "sub", "sub/dir", "sub/dir/b"}, names(t, dir)); diff != "" {
		t.Errorf("afterwards there are (-want +got):\n%s", diff)
	}
	for path, mode := range map[string]fs.FileMode{a: 0o640, b: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode && runtime.GOOS != "windows" || readFile(t, path) != "new" {
			t.Errorf("%s is %q with the mode %v, %v; want new and %v", path, readFile(t, path), info.Mode(), err, mode)
		}
	}
}

// TestUpdateRefuses wants nothing to change where something is wrong.
func TestUpdateRefuses(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("links and permissions are others")
	}
	problem := errors.New("no")
	quick := kubeconfig.Waiting{Time: 50 * time.Millisecond, Every: time.Millisecond, Now: time.Now}
	for _, test := range []struct {
		name     string
		prepare  func(dir string) error
		decide   func([]kubeconfig.File) (*kubeconfig.Result, error)
		want     string
		badInput bool
	}{
		{"nothing decided", func(string) error { return nil }, func([]kubeconfig.File) (*kubeconfig.Result, error) { return nil, problem }, "no", false},
		{"a link", func(dir string) error { return os.Symlink("real", filepath.Join(dir, "new")) }, put("x"),
			"DIR/new is a symbolic link, and would be replaced by a file (give the file itself: --kubeconfig DIR/real)", true},
		{"a broken link", func(dir string) error { return os.Symlink("gone", filepath.Join(dir, "new")) }, put("x"), "DIR/new is a symbolic link that leads nowhere (remove it)", true},
		{"read-only", func(dir string) error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o400) }, put("x"),
			"DIR/new is read-only (chmod u+w DIR/new, or another file by --kubeconfig)", true},
		{"a directory", func(dir string) error { return os.Mkdir(filepath.Join(dir, "new"), 0o755) }, put("x"), "reading a kubeconfig: read DIR/new: is a directory", true},
		{"locked", func(dir string) error {
			lock := filepath.Join(dir, "real.lock")
			return errors.Join(os.WriteFile(lock, nil, 0), os.Chtimes(lock, time.Time{}, time.Now().Add(-time.Hour)))
		}, put("x"), "DIR/real.lock is there after 50ms, and was made 1h0m0s ago: another program writes the file, or was killed at it (then remove the lock)", false},
		{"below a file", func(dir string) error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o600) }, nil, "", false}, // replaced below
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "real"), "old")
			if err := test.prepare(dir); err != nil {
				t.Fatal(err)
			}
			before := names(t, dir)
			target := filepath.Join(dir, "new")
			if test.decide == nil {
				target = filepath.Join(dir, "new", "config")
				test.decide, test.want, test.badInput = put("x"), "reading a kubeconfig: open DIR/new/config: not a directory", true
			}
			_, err := kubeconfig.Update(t.Context(), kubeconfig.Paths{Files: []string{filepath.Join(dir, "real"), target}, Target: target}, quick, test.decide)
			if err == nil || strings.ReplaceAll(err.Error(), dir, "DIR") != test.want {
				t.Errorf("Update = %v; want %s", err, test.want)
			}
			if _, ok := errors.AsType[*manifest.ArgumentError](err); ok != test.badInput {
				t.Errorf("Update = %T; want that it is an *ArgumentError: %t", err, test.badInput)
			}
			if diff := cmp.Diff(before, names(t, dir)); diff != "" || readFile(t, filepath.Join(dir, "real")) != "old" {
				t.Errorf("afterwards there are (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUpdateMakesNothing is about directories for a file that is not written.
func TestUpdateMakesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := filepath.Join(dir, "sub", "dir", "config")
	result, err := kubeconfig.Update(t.Context(), kubeconfig.Paths{Files: []string{target}, Target: target}, kubeconfig.Waiting{}, func(files []kubeconfig.File) (*kubeconfig.Result, error) {
		return kubeconfig.Remove(files, server, newWorld(t).ca.CertificatePEM())
	})
	if got := names(t, dir); err != nil || len(result.Files) > 0 || len(got) > 0 {
		t.Errorf("Update = %v, %v, and makes %s; want nothing", result, err, got)
	}
}

// TestUpdateWaits has another program hold the lock for a while, and then for
// longer than who waits wants.
func TestUpdateWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	paths := kubeconfig.Paths{Files: []string{path}, Target: path}
	write(t, path+".lock", "")
	var notes []string
	waiting := kubeconfig.Waiting{Note: func(text string) {
		notes = append(notes, text)
		if err := os.Remove(path + ".lock"); err != nil {
			t.Error(err)
		}
	}}
	if _, err := kubeconfig.Update(t.Context(), paths, waiting, put("new")); err != nil || readFile(t, path) != "new" {
		t.Errorf("Update = %v; want that it waits", err)
	}
	if diff := cmp.Diff([]string{"waiting for " + path + ".lock, which another program has made"}, notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	write(t, path+".lock", "")
	ctx, cancel := context.WithCancel(t.Context())
	waiting.Note = func(string) { cancel() }
	if _, err := kubeconfig.Update(ctx, paths, waiting, put("newer")); !errors.Is(err, context.Canceled) || readFile(t, path) != "new" {
		t.Errorf("Update = %v; want that it ends with its context", err)
	}
}

// TestUpdateAtOnce has many write one file at the same time, and kubectl's own
// code among them, which gives up where the file is locked. Nothing gets lost.
func TestUpdateAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	w := newWorld(t)
	options := kubectl(t, path, "", "")
	const each = 8
	var wg sync.WaitGroup
	for i := range each {
		k := w.admin(w.ca)
		k.Name, k.User = fmt.Sprintf("ours-%d", i), fmt.Sprintf("ours-%d", i)
		wg.Go(func() {
			_, err := kubeconfig.Update(t.Context(), kubeconfig.FindPaths(path, "", ""), kubeconfig.Waiting{Time: time.Minute, Every: time.Millisecond}, func(files []kubeconfig.File) (*kubeconfig.Result, error) {
				return kubeconfig.Merge(files, path, k, false)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	_, err := kubeconfig.Update(t.Context(), kubeconfig.FindPaths(path, "", ""), kubeconfig.Waiting{}, func(files []kubeconfig.File) (*kubeconfig.Result, error) {
		// kubectl comes while we have the lock.
		if err := clientcmd.ModifyConfig(options, *clientcmdapi.NewConfig(), true); !errors.Is(err, fs.ErrExist) {
			t.Errorf("kubectl's ModifyConfig = %v; want that the file is locked", err)
		}
		return kubeconfig.Merge(files, path, w.admin(w.ca), false)
	})
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Clusters) != each+1 || len(config.Contexts) != each+1 || len(config.AuthInfos) != each+1 {
		t.Errorf("there are %d clusters, %d contexts and %d users; want %d of each", len(config.Clusters), len(config.Contexts), len(config.AuthInfos), each+1)
	}
}
