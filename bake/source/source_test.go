package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/must"
)

// Whole bakes, in package bake's tests, go through the rest of this package.

func TestCopyMembers(t *testing.T) {
	var files []string // the content of each is its path
	for _, p := range []string{"DEBIAN/control", "usr/bin/containerd", "usr/bin/ctr", "usr/sbin/runc", "usr/libexec/nft", "usr/libexec/ipt"} {
		files = append(files, p, p)
	}
	from := treetest.PackOf(t, "test", append(files,
		"usr/bin/ctr-link", "-> x", "usr/sbin/ipt", "=> usr/libexec/ipt", "usr/sbin/ipt6", "=> usr/libexec/ipt", "usr/sbin/nft", "-> ../libexec/nft",
		"usr/games/a", "-> b", "usr/games/b", "=> usr/sbin/runc", "usr/games/c", "-> /usr/games/a")...)
	for i := range from.Entries {
		from.Entries[i].UID, from.Entries[i].Xattrs = 7, map[string][]byte{"user.x": nil}
	}
	pos := manifest.Pos{File: "versions.yaml", Line: 12, Column: 9}
	for _, test := range []struct {
		member, path string
		want         map[string]string // content by path
		err          string
	}{
		{"usr/sbin/runc", "/usr/local/sbin/runc", map[string]string{"usr/local/sbin/runc": "usr/sbin/runc"}, ""},
		{"usr/sbin/runc", "/usr/local/sbin/", map[string]string{"usr/local/sbin/runc": "usr/sbin/runc"}, ""},
		{"usr/bin/c*[^k]", "/bin/", map[string]string{"bin/containerd": "usr/bin/containerd", "bin/ctr": "usr/bin/ctr"}, ""},
		{"usr/sbin/ipt", "/bin/", map[string]string{"bin/ipt": "usr/libexec/ipt"}, ""},
		{"usr/*/ipt*", "/bin/", nil, `versions.yaml:12:9: "usr/libexec/ipt" and "usr/sbin/ipt" would both become /bin/ipt`},
		{"usr/sbin/ipt*", "/bin/", map[string]string{"bin/ipt": "usr/libexec/ipt", "bin/ipt6": "=> bin/ipt"}, ""},
		{"usr/games/*", "/bin/", map[string]string{"bin/a": "-> b", "bin/b": "usr/sbin/runc", "bin/c": "-> b"}, ""},
		{"usr/*bin/*", "/bin/", nil, `versions.yaml:12:9: "usr/bin/ctr-link" is a symbolic link to "x", which is no file that is taken as well`},
		{"usr/sbin/nft", "/bin/", nil, `versions.yaml:12:9: "usr/sbin/nft" is a symbolic link to "../libexec/nft", which is no file that is taken as well`},
		{"usr/bin/runc", "/bin/runc", nil, `versions.yaml:12:9: no file matches "usr/bin/runc"`},
		{"usr/bin/*-link", "/bin/", nil, `"usr/bin/ctr-link" is a symbolic link to "x", which is no file that is taken as well`},
		{"DEBIAN/*", "/bin/", nil, `no file matches "DEBIAN/*"`},
		{"usr/[", "/bin/", nil, `versions.yaml:12:9: pattern "usr/[": syntax error`},
	} {
		t.Run(test.member+" "+test.path, func(t *testing.T) {
			made, err := tree.NewPack("made", func(w *tree.PackWriter) error {
				return copyMembers(from, []manifest.File{{Member: test.member, Path: test.path, Mode: 0o750, Pos: pos}}, w)
			})
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("copyMembers = %v; want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, e := range made.Entries {
				switch e.Type {
				case tree.Symlink:
					got[e.Path] = "-> " + e.Link
					continue
				case tree.Hardlink:
					got[e.Path] = "=> " + e.Link
					continue
				}
				got[e.Path] = string(treetest.Content(t, &e))
				if e.Perm != 0o750 || e.UID != 0 || e.Xattrs != nil {
					t.Errorf("%+v: want mode 0750, root's, and nothing else of the package", e)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGone(t *testing.T) {
	status := func(code int) error { return fmt.Errorf("wrapped: %w", &fetch.StatusError{Code: code}) }
	for _, test := range []struct {
		tried []error
		want  bool
	}{
		{[]error{status(http.StatusNotFound)}, true},
		{[]error{status(http.StatusGone), status(http.StatusNotFound)}, true},
		{[]error{status(http.StatusForbidden)}, false},
		{[]error{status(http.StatusNotFound), status(http.StatusBadGateway)}, false},
		{[]error{status(http.StatusNotFound), errors.New("connection refused")}, false},
		{[]error{&fetch.DigestError{}}, false},
		{nil, false}, // no URL is known: locking again gives none
	} {
		e := &fetch.UnreachableError{Name: "bash 5"}
		for _, err := range test.tried {
			e.Tried = append(e.Tried, fetch.Attempt{URL: "http://mirror.example", Err: err})
		}
		if got := gone(e); got != test.want {
			t.Errorf("gone(%v) = %t; want %t", test.tried, got, test.want)
		}
	}
}

// TestForget drops a pack once: a disk that spoils it again would have it made
// for ever.
func TestForget(t *testing.T) {
	st := must.Get(store.Open(t.TempDir()))
	defer st.Close()
	s := New(Config{Store: st})
	for _, key := range []string{"key", "another key"} { // of one name
		_, err := s.Packs().Pack(t.Context(), key, "component x", func(context.Context, *tree.PackWriter) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []bool{true, false} {
			if got, err := s.Forget(key); got != want || err != nil {
				t.Errorf("Forget(%s) = %t, %v; want %t", key, got, err, want)
			}
		}
		if st.HasPack(key) {
			t.Errorf("the store has the pack with %s still", key)
		}
	}
}
