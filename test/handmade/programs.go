package handmade

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/bake/image/ext4"
	"github.com/nodebake/bake/bake/image/gpt"
	"github.com/nodebake/bake/bake/tree"
)

// Where a worker's programs are in an image of bake's, and below dir.
func programDirs() []struct{ from, to string } {
	return []struct{ from, to string }{
		{"usr/bin/containerd", "bin/containerd"}, // and the shims
		{"usr/bin/ctr", "bin/ctr"},
		{"usr/local/bin/", ""},
		{"opt/cni/bin/", "cni/"},
	}
}

// takePrograms writes the worker's programs on the root of a disk below dir, as
// unpacked releases have them: bin/ is containerd's, cni/ the plugins'.
func takePrograms(disk, dir string) error {
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	table, err := gpt.Read(f, info.Size())
	if err != nil {
		return err
	}
	// The root is the last partition.
	p := table.Partitions[len(table.Partitions)-1]
	root, err := ext4.Open(io.NewSectionReader(f, p.Start, p.Length))
	if err != nil {
		return err
	}
	taken := 0
	err = root.Walk(func(n *ext4.Element) error {
		to, ok := programPath(n.Path)
		if !ok || n.Type != tree.File {
			return nil
		}
		content, err := root.Content(n)
		if err != nil {
			return err
		}
		taken++
		return write(filepath.Join(dir, to), content)
	})
	if err == nil && taken < 10 {
		err = fmt.Errorf("found %d; want containerd's, Kubernetes' and the CNI plugins", taken)
	}
	return err
}

func programPath(path string) (string, bool) {
	for _, d := range programDirs() {
		if rest, ok := strings.CutPrefix(path, d.from); ok {
			return d.to + rest, true
		}
	}
	return "", false
}

func write(path string, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, content)
	return errors.Join(err, out.Close())
}
