package boot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/nodebake/bake/bake/image/cpio"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/initramfs"
)

// initramfsFormat is part of every key: raise it when the same inputs give
// another initramfs.
const initramfsFormat = "initramfs 1"

// ownModules are what package initramfs needs beside the modules of the disk's
// controller: the filesystem of the root, and the one in which the firmware says
// which disk it booted. What a kernel has built in is not loaded.
func ownModules() []string { return []string{"ext4", "efivarfs"} }

// initramfs returns the entry of the finished initramfs.
//
// It is not compressed. With the modules it is about 3 MB, which firmware reads
// in a few milliseconds and the image's own compression makes small; and the bytes do
// not depend on a compressor's version.
func (c *Config) initramfs(version string) (*tree.Entry, error) {
	names := append(append([]string{}, c.Modules...), ownModules()...)
	derive := c.Derive
	if derive == nil {
		derive = tree.NewPack
	}
	pack, err := derive(c.initramfsKey(version, names), func(w *tree.PackWriter) error {
		var archive bytes.Buffer
		if err := writeInitramfs(&archive, c.Root, version, names, c.Init, c.Epoch); err != nil {
			return err
		}
		e := tree.Entry{Path: "initrd.img", Type: tree.File, Perm: 0o644, Size: int64(archive.Len())}
		return w.Add(e, &archive)
	})
	if err != nil {
		return nil, fmt.Errorf("making the initramfs: %w", err)
	}
	if len(pack.Entries) != 1 || pack.Entries[0].Type != tree.File {
		return nil, fmt.Errorf("BUG: the initramfs' pack has %d entries, want one file", len(pack.Entries))
	}
	e := pack.Entries[0]
	e.Owner = "bake"
	return &e, nil
}

// initramfsKey identifies the initramfs by what it is made of, without reading
// it: the content of a tree's file is known by its digest.
func (c *Config) initramfsKey(version string, names []string) string {
	h := sha256.New()
	put := func(parts ...string) {
		for _, p := range parts {
			var n [8]byte
			binary.LittleEndian.PutUint64(n[:], uint64(len(p)))
			h.Write(n[:])
			h.Write([]byte(p))
		}
	}
	init := sha256.Sum256(c.Init)
	put(version, string(init[:]), fmt.Sprint(c.Epoch), fmt.Sprint(len(names)))
	put(names...)
	for e := range moduleFiles(c.Root, version) {
		put(e.Path, string(e.SHA256[:]))
	}
	return initramfsFormat + " " + hex.EncodeToString(h.Sum(nil))
}

// writeInitramfs writes the archive: the program as /init, the modules in
// /modules, and the order to load them in.
func writeInitramfs(w *bytes.Buffer, root *tree.Tree, version string, names []string, init []byte, epoch int64) error {
	set, err := findModules(root, version)
	if err != nil {
		return err
	}
	modules, err := set.closure(names)
	if err != nil {
		return err
	}
	entries := []tree.Entry{
		textEntry("init", 0o755, init),
		// The kernel's own initramfs has dev with a console and a root; what init mounts
		// on must be there too.
		directory("."), directory("dev"), directory("proc"), directory("sys"),
		directory(initramfs.NewRoot), directory(initramfs.ModulesDir),
	}
	var list strings.Builder
	for _, m := range modules {
		file := m.name + ".ko"
		entries = append(entries, textEntry(initramfs.ModulesDir+"/"+file, 0o644, m.content))
		list.WriteString(file + "\n")
	}
	entries = append(entries, textEntry(initramfs.ModulesList, 0o644, []byte(list.String())))
	t, err := withParents(entries)
	if err != nil {
		return err
	}
	return cpio.Write(w, t, epoch)
}

func directory(path string) tree.Entry {
	return tree.Entry{Path: path, Type: tree.Dir, Perm: 0o755, Owner: "bake"}
}

func textEntry(path string, perm uint16, content []byte) tree.Entry {
	return tree.Entry{
		Path: path, Type: tree.File, Perm: perm, Owner: "bake",
		Size: int64(len(content)), SHA256: sha256.Sum256(content), Blob: tree.Bytes(path, content),
	}
}
