//go:build system

// Package image holds the finished image against checkers that we did not
// write: GNU tar and gzip, sgdisk, e2fsck, fsck.vfat, the kernel's ext4, dpkg
// and apt.
//
// The image is the one named by BAKE_IMAGE, or the only *-amd64.tar.gz in out/.
package image

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/test/artifact"
	"github.com/nodebake/bake/test/need"
)

// root is the project's, seen from this package.
const root = "../.."

// subject is an image under test, taken apart once for all tests.
type subject struct {
	once    sync.Once
	archive string // NAME.tar.gz
	record  *record.Record
	dir     string // scratch
	disk    string // disk.raw
	esp     string // partition images
	root    string
	err     error
}

var current, guides subject

func TestMain(m *testing.M) {
	code := m.Run()
	for _, s := range []*subject{&current, &guides} {
		if s.dir != "" {
			os.RemoveAll(s.dir)
		}
	}
	os.Exit(code)
}

func theImage(t *testing.T) *subject {
	t.Helper()
	return current.get(t, artifact.Image)
}

// theGuidesImage is the image of the guide's versions.
func theGuidesImage(t *testing.T) *subject {
	t.Helper()
	return guides.get(t, artifact.Guides)
}

func (s *subject) get(t *testing.T, find func(root string) (string, error)) *subject {
	t.Helper()
	s.once.Do(func() { s.err = s.prepare(find) })
	if s.err != nil {
		need.Missing(t, "%v", s.err)
	}
	return s
}

func (s *subject) prepare(find func(root string) (string, error)) error {
	var err error
	if s.archive, err = find(root); err != nil {
		return err
	}
	f, err := os.Open(strings.TrimSuffix(s.archive, ".tar.gz") + ".json")
	if err != nil {
		return err
	}
	defer f.Close()
	if s.record, err = record.Read(f.Name(), f); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "bake-image-"); err != nil {
		return err
	}
	// GNU tar makes the file sparse by itself with -S only when it creates
	// archives; piped through cp it is.
	s.disk = filepath.Join(s.dir, "disk.raw")
	if err := sh("tar -xzOf %s disk.raw | cp --sparse=always /dev/stdin %s", s.archive, s.disk); err != nil {
		return err
	}
	for _, p := range s.record.Disk.Partitions {
		path := filepath.Join(s.dir, p.Type)
		if err := copyRange(path, s.disk, p.Start, p.Size); err != nil {
			return err
		}
		switch p.Type {
		case "esp":
			s.esp = path
		case "root":
			s.root = path
		}
	}
	if s.esp == "" || s.root == "" {
		return fmt.Errorf("%s names partitions %v; want esp and root", f.Name(), s.record.Disk.Partitions)
	}
	return nil
}

// copyRange writes size bytes of from at offset to a sparse file.
func copyRange(to, from string, offset, size int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	cmd := exec.Command("cp", "--sparse=always", "/dev/stdin", to)
	cmd.Stdin = io.NewSectionReader(in, offset, size)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("copying a partition: %w: %s", err, out)
	}
	return nil
}

func sh(format string, args ...any) error {
	command := fmt.Sprintf(format, args...)
	if out, err := exec.Command("bash", "-o", "pipefail", "-c", command).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, out)
	}
	return nil
}

// run runs a checker that must succeed, and returns its output.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func try(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		need.Missing(t, "%s is not installed here (scripts/install-tools test installs it)", name)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
