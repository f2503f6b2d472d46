package unixsocket

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/nodebake/bake/test/must"
)

func TestLongDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if runtime.GOOS != "linux" {
		dir = t.TempDir()
	}
	must.Do(os.MkdirAll(dir, 0o700))
	if _, err := Dial(t.Context(), dir, "s"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Dial before Listen = %v; want that there is none", err)
	}
	for _, text := range []string{"first", "second"} { // the first one's socket is still there
		l, err := Listen(dir, "s")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if conn, err := l.Accept(); err == nil {
				io.WriteString(conn, text)
				conn.Close()
			}
		}()
		conn, err := Dial(t.Context(), dir, "s")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); string(got) != text {
			t.Errorf("the socket says %q, %v; want %q", got, err, text)
		}
		conn.Close()
		l.Close()
		if _, err := Dial(t.Context(), dir, "s"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Dial after Close = %v; want that it is refused", err)
		}
	}
}

func TestListenLeavesFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must.Do(os.MkdirAll(filepath.Join(dir, "s", "file"), 0o700))
	if _, err := Listen(dir, "s"); err == nil {
		t.Error("Listen replaces a directory that is not empty")
	}
}
