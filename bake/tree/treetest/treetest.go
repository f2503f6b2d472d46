// Package treetest makes trees and packs for tests, and reads them.
package treetest

import (
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/tree"
)

// File is an entry with content, root's.
func File(path string, perm uint16, content string) tree.Entry {
	return tree.Entry{
		Path: path, Type: tree.File, Perm: perm, Size: int64(len(content)),
		SHA256: sha256.Sum256([]byte(content)), Blob: tree.Bytes(path, []byte(content)),
	}
}

// Dir is a directory that all may read.
func Dir(path string) tree.Entry { return tree.Entry{Path: path, Type: tree.Dir, Perm: 0o755} }

// New makes a tree.
func New(t testing.TB, entries ...tree.Entry) *tree.Tree {
	t.Helper()
	tr, err := tree.New(entries)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// PackOf packs files, given as path and content in turn. A path that ends in a
// slash is a directory, content that begins with "-> " a symbolic link and with
// "=> " a hard one.
func PackOf(t testing.TB, name string, files ...string) *tree.Pack {
	t.Helper()
	p, err := tree.NewPack(name, func(w *tree.PackWriter) error {
		for i := 0; i+1 < len(files); i += 2 {
			e, content := entry(files[i], files[i+1])
			if err := w.Add(e, strings.NewReader(content)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func entry(path, content string) (tree.Entry, string) {
	if dir, ok := strings.CutSuffix(path, "/"); ok {
		return Dir(dir), ""
	}
	if link, ok := strings.CutPrefix(content, "-> "); ok {
		return tree.Entry{Path: path, Type: tree.Symlink, Perm: 0o777, Link: link}, ""
	}
	if link, ok := strings.CutPrefix(content, "=> "); ok {
		return tree.Entry{Path: path, Type: tree.Hardlink, Link: link}, ""
	}
	return tree.Entry{Path: path, Type: tree.File, Perm: 0o644, Size: int64(len(content))}, content
}

// Content returns the content of a file.
func Content(t testing.TB, e *tree.Entry) []byte {
	t.Helper()
	content, err := io.ReadAll(e.Content())
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Text returns the content of the file at path, which may be a hard link.
func Text(t testing.TB, tr *tree.Tree, path string) string {
	t.Helper()
	e := tr.Lookup(path)
	if e != nil && e.Type == tree.Hardlink {
		e = tr.Lookup(e.Link)
	}
	if e == nil {
		t.Fatalf("there is no %s", path)
	}
	return string(Content(t, e))
}

// Digests maps the paths of a tree to the SHA-256 of files, and directories to
// "dir".
func Digests(t testing.TB, tr *tree.Tree) map[string]string {
	t.Helper()
	m := map[string]string{}
	for i := range tr.Entries {
		e := &tr.Entries[i]
		m[e.Path] = "dir"
		if e.Type != tree.Dir {
			m[e.Path] = fmt.Sprintf("%x", sha256.Sum256(Content(t, e)))
		}
	}
	return m
}
