package debian

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/fetch"
)

// shelf is a Files that has what was kept, and asks the web for the rest.
type shelf struct {
	*web
	dir  string
	kept map[manifest.Digest][]byte
}

func newShelf(t *testing.T, w *web) *shelf {
	return &shelf{w, t.TempDir(), map[manifest.Digest][]byte{}}
}

func (s *shelf) keep(_ context.Context, content []byte) error {
	s.kept[manifest.SHA256(sha256.Sum256(content))] = content
	return nil
}

func (s *shelf) Open(ctx context.Context, req fetch.Request) (*os.File, error) {
	content, ok := s.kept[req.Sums[0]]
	for _, u := range req.URLs {
		if got, err := s.Get(ctx, []string{u}, 1<<20, nil); !ok && err == nil && manifest.SHA256(sha256.Sum256(got)) == req.Sums[0] {
			content, ok = got, true
			s.kept[req.Sums[0]] = got
		}
	}
	if !ok {
		return nil, &fetch.UnreachableError{Name: req.Name}
	}
	path := filepath.Join(s.dir, req.Sums[0].Hex())
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return nil, err
	}
	return os.Open(path)
}

// indexed says of each index what a test can know: its path, and "newer" with
// what is gone.
func indexed(list []Index) (out []string) {
	for _, x := range list {
		line := x.Path
		if x.Newer {
			line += " newer"
		}
		out = append(out, strings.Join(append([]string{line}, x.Gone...), ", without "))
	}
	return out
}

func TestIndices(t *testing.T) {
	const base = "http://mirror.example"
	p := newPublisher(t)
	old, now := newWeb(), newWeb()
	p.trixie(old, base)
	maps.Copy(now.files, old.files)
	p.publish(now, base, suite{archive: "debian-security", name: "trixie-security", age: -time.Minute, packages: pkg("curl", "8.0+deb13u2", "") + pkg("libcurl4", "8.0+deb13u1", "")})

	cfg := testConfig(t, p, old, base)
	cfg.Packages = refs("curl")
	kept := newShelf(t, newWeb())
	cfg.Keep = kept.keep
	lock, err := Resolve(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	same := []string{
		"debian/dists/trixie/InRelease", "debian/dists/trixie/main/binary-amd64/Packages.gz",
		"debian/dists/trixie-updates/InRelease", "debian/dists/trixie-updates/main/binary-amd64/Packages.gz",
		"debian-security/dists/trixie-security/InRelease", "debian-security/dists/trixie-security/main/binary-amd64/Packages.gz",
	}
	moved := slices.Clone(same)
	moved[4] += " newer"
	moved[5] += " newer, without curl 8.0+deb13u1"
	broken := newWeb()
	maps.Copy(broken.files, old.files)
	broken.files[base+"/debian/dists/trixie/InRelease"] = []byte("-----BEGIN PGP SIGNED MESSAGE-----\n")

	// The first mirror has a still newer InRelease and no index of it.
	half := newWeb()
	maps.Copy(half.files, now.files)
	const first = "http://first.example"
	p.publish(half, first, suite{archive: "debian-security", name: "trixie-security", age: -time.Hour, packages: pkg("curl", "9", "")})
	for u := range half.files {
		if strings.HasPrefix(u, first) && strings.Contains(u, "Packages") || strings.Contains(u, first) && strings.Contains(u, "by-hash") {
			delete(half.files, u)
		}
	}
	twoMirrors, err := Mirrors([]string{first, base}, nil)
	if err != nil {
		t.Fatal(err)
	}

	// Long after Valid-Until: the lock was made while it held.
	later := func(c *Config) { c.Now = c.Now.AddDate(0, 6, 0) }
	for _, test := range []struct {
		name   string
		files  *shelf
		change func(*Config)
		want   []string
		err    string
	}{
		{"kept", kept, func(c *Config) { c.Getter, c.Mirrors = newWeb(), nil }, same, ""},
		{"kept, and mirrors have newer ones", kept, func(c *Config) { c.Getter = now }, same, ""},
		{"not kept, and mirrors still have them", newShelf(t, old), later, same, ""},
		{"not kept, and mirrors have newer ones", newShelf(t, now), func(c *Config) { c.Getter = now; later(c) }, moved, ""},
		{"not kept, and the first mirror is being updated", newShelf(t, half), func(c *Config) { c.Getter, c.Mirrors = half, twoMirrors; later(c) }, moved, ""},
		{"not kept, and no mirror", newShelf(t, old), func(c *Config) { c.Mirrors = nil }, nil,
			"finding the index of trixie of debian, from which the lock was made: no mirror of archive debian is known"},
		{"not kept, and nothing is there", newShelf(t, newWeb()), func(c *Config) { c.Getter = newWeb() }, nil, base + "/debian/dists/trixie/InRelease is unavailable: 404"},
		{"a newer one that is broken", newShelf(t, broken), func(c *Config) { c.Getter = broken }, nil, "clearsigned message is damaged"},
		{"a newer one of another key", newShelf(t, now), func(c *Config) { c.Getter, c.Keyring = now, newPublisher(t).Keyring }, nil, "none of its signatures is good"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := testConfig(t, p, old, base)
			c.Keep = test.files.keep
			test.change(&c)
			got, err := Indices(t.Context(), c, test.files, lock)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("Indices() = %v; want an error with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, indexed(got)); diff != "" {
				t.Errorf("Indices (-want +got):\n%s", diff)
			}
			for _, x := range got {
				f, err := test.files.Open(t.Context(), fetch.Request{Sums: []manifest.Digest{x.SHA256}})
				if err != nil {
					t.Errorf("%s is not there afterwards: %v", x.Path, err)
					continue
				}
				if info, err := f.Stat(); err != nil || info.Size() != x.Size {
					t.Errorf("%s: %v; want %d bytes", x.Path, err, x.Size)
				}
				f.Close()
			}
		})
	}

	// That an index can't be kept is no reason to lock nothing.
	cfg.Keep = func(context.Context, []byte) error { return fmt.Errorf("disk full") }
	if _, err := Resolve(t.Context(), cfg); err != nil {
		t.Errorf("Resolve with nowhere to keep indices = %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if _, err := Indices(ctx, testConfig(t, p, old, base), newShelf(t, old), lock); !errors.Is(err, cause) {
		t.Errorf("Indices with a cancelled context = %v; want %v", err, cause)
	}
}
