package manifest

import "testing"

func TestCheckLocalPath(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"a", "a/b.yaml", "registry.k8s.io/pause:3.10", "golang.org/x/sys/@v/v0.1.0.zip", "a-b", "a/-b", "..a", "a b"} {
		if err := CheckLocalPath(p); err != nil {
			t.Errorf("CheckLocalPath(%q) = %v; want nil", p, err)
		}
	}
	for _, p := range []string{"", ".", "..", "/", "/a", "a/", "a//b", "./a", "a/.", "../a", "a/..", "a/../b", "-a", "--a/b", `a\b`, `..\a`, `C:\a`, "a\xff"} {
		if err := CheckLocalPath(p); err == nil {
			t.Errorf("CheckLocalPath(%q) = nil; want an error", p)
		}
	}
	const want = `"/etc/cron.d/x" is no path below a directory (want no / or - at its beginning, no ., .., // or \ in it)`
	if err := CheckLocalPath("/etc/cron.d/x"); err == nil || err.Error() != want {
		t.Errorf("CheckLocalPath = %v; want %s", err, want)
	}
}
