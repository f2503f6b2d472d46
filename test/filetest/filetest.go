// Package filetest handles files for tests, which end where that fails.
package filetest

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// Read returns the content of a file.
func Read(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Open opens a file for as long as the test runs.
func Open(t testing.TB, path string) *os.File {
	t.Helper()
	return opened(t)(os.Open(path))
}

// Create creates a file, open for as long as the test runs.
func Create(t testing.TB, path string) *os.File {
	t.Helper()
	return opened(t)(os.Create(path))
}

func opened(t testing.TB) func(*os.File, error) *os.File {
	return func(f *os.File, err error) *os.File {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
}

// Stat describes a file.
func Stat(t testing.TB, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// ReadAll returns what r has, to its end.
func ReadAll(t testing.TB, r io.Reader) []byte {
	t.Helper()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Write writes a file that all may read, and makes the directories above it.
func Write[T ~string | ~[]byte](t testing.TB, path string, content T) {
	t.Helper()
	write(t, path, []byte(content), 0o644)
}

// Script writes a file that can be run.
func Script(t testing.TB, path, text string) {
	t.Helper()
	write(t, path, []byte(text), 0o755)
}

func write(t testing.TB, path string, content []byte, mode fs.FileMode) {
	t.Helper()
	Mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
}

// Mkdir makes a directory and those above it, and returns its path.
func Mkdir(t testing.TB, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Link makes a symbolic link at path, and the directories above it.
func Link(t testing.TB, to, path string) {
	t.Helper()
	Mkdir(t, filepath.Dir(path))
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// Remove removes a file, or a directory with all that it holds.
func Remove(t testing.TB, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// Copy copies a directory.
func Copy(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// Names returns the names in a directory, which need not exist, sorted.
func Names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// WantEmpty fails where a directory holds anything. It need not exist.
func WantEmpty(t testing.TB, dir string) {
	t.Helper()
	if names := Names(t, dir); len(names) > 0 {
		t.Errorf("%s holds %q; want nothing", dir, names)
	}
}

// Flip changes a bit in the middle of a file.
func Flip(t testing.TB, path string) {
	t.Helper()
	FlipAt(t, path, Stat(t, path).Size()/2)
}

// FlipAt changes a bit of the byte at offset at; from the end where that is
// negative.
func FlipAt(t testing.TB, path string, at int64) {
	t.Helper()
	f := opened(t)(os.OpenFile(path, os.O_RDWR, 0))
	defer f.Close()
	if at < 0 {
		end, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			t.Fatal(err)
		}
		at += end
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// Noise returns content that does not compress, the same for each name.
func Noise(name string, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(b)
	return b
}
