package bake_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/baketest"
)

// TestPlus has packages whose paths have a "+", which the world's server takes
// for a blank as S3 does, locked, baked and mirrored.
func TestPlus(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	w.Package("tool").Version = "1.0+deb13u1"
	w.Package("libtool0").Version = "1.0-1+b5"
	w.Package("kube-proxy-amd64").Version = "1.30.0~rc1"
	w.Publish()
	w.Lock()
	w.Image(w.Config())
	baketest.Mirror(t, w.MirrorConfig())
}

// TestDeadMirror has the first of two Debian mirrors dead, in either way, and
// measures what that costs.
func TestDeadMirror(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(silent.Close)
	for _, work := range []struct {
		name  string
		limit time.Duration // beside what it takes without the dead mirror
		do    func(t *testing.T, c bake.Config)
	}{
		{"lock", 3 * time.Second, func(t *testing.T, c bake.Config) {
			c.Lock = filepath.Join(t.TempDir(), "new.lock")
			if _, err := baketest.Lock(t.Context(), w.LockConfig(c), arch.AMD64); err != nil {
				t.Error(err)
			}
		}},
		{"lock check", 3 * time.Second, func(t *testing.T, c bake.Config) {
			if _, err := baketest.CheckLock(t.Context(), w.LockConfig(c)); err != nil {
				t.Error(err)
			}
		}},
		{"image", 5 * time.Second, func(t *testing.T, c bake.Config) {
			if _, err := baketest.Image(t.Context(), c); err != nil {
				t.Error(err)
			}
		}},
		{"mirror", 5 * time.Second, func(t *testing.T, c bake.Config) {
			m := w.MirrorConfig()
			m.DebianMirrors = c.DebianMirrors
			baketest.Mirror(t, m)
		}},
	} {
		t.Run(work.name, func(t *testing.T) {
			took := func(mirrors ...string) time.Duration {
				c := w.Config()
				c.DebianMirrors = mirrors
				began := time.Now()
				work.do(t, c)
				return time.Since(began)
			}
			for name, dead := range map[string]string{"refuses": "http://127.0.0.1:1", "is silent": silent.URL} {
				// The best of three: other tests run beside this one.
				for try := 1; ; try++ {
					without, with := took(w.URL), took(dead, w.URL)
					if with <= without+work.limit {
						break
					}
					if try == 3 {
						t.Errorf("%s takes %v where the first mirror %s, and %v without it; want %v more at most", work.name, with, name, without, work.limit)
						break
					}
				}
			}
		})
	}
}
