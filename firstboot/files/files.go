// Package files writes the files of a configuration below a root, all of them
// or none.
package files

import (
	"errors"
	"io/fs"
)

// File is what a file shall be.
type File struct {
	Path    string // absolute on the node: "/var/lib/kubelet/kubeconfig"
	Content []byte
	Mode    fs.FileMode // permission bits
}

// Change is something that Apply does to one file.
type Change struct {
	Path string // absolute on the node
	What string // "created", "rewritten", "mode changed" or "removed"
}

var errTodo = errors.New("not written yet")

// Plan says what Apply would do, and touches nothing.
func Plan(root string, want []File) ([]Change, error) { return nil, errTodo }

// Apply makes the files below root what want says, and removes those of the
// configuration before that want no longer has.
func Apply(root string, want []File, did func(Change)) ([]Change, error) { return nil, errTodo }

// Recover ends an Apply that a power cut interrupted.
func Recover(root string) ([]Change, error) { return nil, errTodo }
