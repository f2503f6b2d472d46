// Package manifesttest computes digests for tests.
package manifesttest

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/nodebake/bake/bake/manifest"
)

// Digest returns the SHA-256 of content.
func Digest[T string | []byte](content T) manifest.Digest {
	return manifest.SHA256(sha256.Sum256([]byte(content)))
}

// Digest512 returns the SHA-512 of content.
func Digest512(content []byte) manifest.Digest {
	return manifest.Digest(fmt.Sprintf("sha512:%x", sha512.Sum512(content)))
}

// DigestFile returns the SHA-256 of a file.
func DigestFile(t testing.TB, path string) manifest.Digest {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return manifest.SHA256([sha256.Size]byte(h.Sum(nil)))
}
