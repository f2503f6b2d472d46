// Package atomicfile writes files that appear under their names complete or not at
// all: to a temporary file in the same directory, which is renamed.
//
// A file is not synced unless its writer does so: after a power cut it may be
// missing or empty, as with other build tools.
package atomicfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// File is a file under way. Write to it, then call [Commit] or Drop.
type File struct {
	*os.File
	path   string
	perm   fs.FileMode // what it has under that name
	placed bool        // it has its name
}

// Create begins a file that Commit gives the name path.
func Create(path string) (*File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".bake-*")
	if err != nil {
		return nil, err
	}
	return &File{File: f, path: path, perm: 0o644}, nil
}

// SetMode has Commit give the file other permissions than 0644: those of a file
// that others may not read, or of the one that it replaces.
func (f *File) SetMode(perm fs.FileMode) { f.perm = perm }

// Commit gives files their names, once all of them are complete. Other users may
// read them unless SetMode was called. A filesystem without permissions (FAT,
// CIFS) refuses to change any: there the mount says who may. A nil file is one
// that has its name already.
func Commit(files ...*File) error {
	files = slices.DeleteFunc(files, func(f *File) bool { return f == nil })
	for _, f := range files {
		_ = f.Chmod(f.perm)
		if err := f.Close(); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := os.Rename(f.Name(), f.path); err != nil {
			return err
		}
		f.placed = true
	}
	return nil
}

// Drop removes what was written. After Commit it does nothing, nor for nil.
func (f *File) Drop() {
	if f == nil || f.placed {
		return
	}
	f.Close()
	os.Remove(f.Name())
}

// Write writes data to path.
func Write(path string, data []byte) error {
	f, err := Create(path)
	if err != nil {
		return err
	}
	defer f.Drop()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return Commit(f)
}
