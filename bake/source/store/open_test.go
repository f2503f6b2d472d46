//go:build unix

package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nodebake/bake/test/filetest"
)

// TestOpenError says what is wrong with a directory, and the remedy, in one line.
func TestOpenError(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	filetest.Write(t, file, "")
	_, below := Open(filepath.Join(file, "cache"))
	s := &Store{dir: "/nfs/bake"}
	const remedy = "; give another directory with --cache, or set XDG_CACHE_HOME: "
	for _, test := range []struct {
		err  error
		want string
	}{
		{below, fmt.Sprintf("opening the store: %s/cache can't be made or written%smkdir %s: not a directory", file, remedy, file)},
		{s.openError(syscall.ENOLCK), "opening the store: /nfs/bake is on a filesystem without locks (NFS without a lock service?)" + remedy + "no locks available"},
		{s.openError(syscall.ENOTSUP), "opening the store: /nfs/bake is on a filesystem without locks (NFS without a lock service?)" + remedy + "operation not supported"},
		{s.openError(syscall.EROFS), "opening the store: /nfs/bake can't be made or written" + remedy + "read-only file system"},
	} {
		if _, ok := errors.AsType[*DirError](test.err); !ok || test.err.Error() != test.want {
			t.Errorf("error is %v; want %s", test.err, test.want)
		}
	}
}
