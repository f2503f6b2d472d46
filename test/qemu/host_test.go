//go:build system

package qemu

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/vm"
	"github.com/nodebake/bake/test/artifact"
)

// root is the project's, seen from this package.
const root = "../.."

// host is what all tests of an image share.
type host struct {
	tools  vm.Tools
	accel  vm.Accel
	image  string // the tar.gz
	digest string // its sha256
	disk   string // disk.raw taken out of it, sparse; never written to
}

// prepared is a host and what went wrong with it, found out once.
type prepared struct {
	once sync.Once
	host host
	err  error
}

var current, guides prepared

func TestMain(m *testing.M) {
	code := m.Run()
	for _, p := range []*prepared{&current, &guides} {
		if p.host.disk != "" {
			os.RemoveAll(filepath.Dir(p.host.disk))
		}
	}
	os.Exit(code)
}

// theHost finds QEMU and the image that `make image` made, once for all tests.
// Without them a test is skipped, in CI it fails.
func theHost(t *testing.T) *host {
	t.Helper()
	return current.get(t, func() (string, error) { return artifact.Image(root) })
}

// guidesHost is theHost with the image of the guide's versions.
func guidesHost(t *testing.T) *host {
	t.Helper()
	return guides.get(t, func() (string, error) { return artifact.Guides(root) })
}

func (p *prepared) get(t *testing.T, image func() (string, error)) *host {
	t.Helper()
	p.once.Do(func() { p.err = p.host.prepare(image) })
	if p.err != nil {
		unavailable(t, p.err)
	}
	h := &p.host
	t.Logf("image %s, sha256:%s; QEMU %s with %s", filepath.Base(h.image), h.digest, h.tools.Version, h.accel)
	return h
}

// unavailable ends a test that lacks something on this machine.
func unavailable(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skipf("%v (make test-qemu installs and makes what is needed)", err)
}

func (h *host) prepare(image func() (string, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var err error
	if h.tools, err = vm.FindTools(ctx, arch.AMD64, vm.FirmwareDirs()...); err != nil {
		return err
	}
	if h.image, err = image(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bake-qemu-")
	if err != nil {
		return err
	}
	h.disk = filepath.Join(dir, "disk.raw")
	if h.digest, err = extract(h.disk, h.image); err != nil {
		return fmt.Errorf("taking disk.raw out of %s: %w", h.image, err)
	}
	h.accel = h.tools.Accelerator(ctx, h.disk)
	return nil
}

// extract writes the disk of a tar.gz to a sparse file and returns the digest
// of the tar.gz. It uses Go's own readers, so that ours are not their own proof.
func extract(to, from string) (string, error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	sum := sha256.New()
	zr, err := gzip.NewReader(io.TeeReader(in, sum))
	if err != nil {
		return "", err
	}
	tr := tar.NewReader(zr)
	header, err := tr.Next()
	if err != nil {
		return "", err
	}
	if header.Name != "disk.raw" {
		return "", fmt.Errorf("the first member is %s; want disk.raw", header.Name)
	}
	out, err := os.Create(to)
	if err != nil {
		return "", err
	}
	defer out.Close()
	block, zeroes := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(tr, block)
		if n > 0 && !bytes.Equal(block[:n], zeroes[:n]) {
			if _, err := out.WriteAt(block[:n], at); err != nil {
				return "", err
			}
		}
		at += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return "", err
		}
	}
	if err := out.Truncate(header.Size); err != nil {
		return "", err
	}
	if _, err := tr.Next(); err != io.EOF {
		return "", fmt.Errorf("after disk.raw: %v; want the end", err)
	}
	if _, err := io.Copy(io.Discard, zr); err != nil {
		return "", err
	}
	if _, err := io.Copy(sum, in); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), out.Close()
}
