package rootfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/nodebake/bake/bake/image/rootfs/depmod"
	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/relation"
	"github.com/nodebake/bake/bake/tree"
)

const modulesDir = "usr/lib/modules"

// addModules makes the files by which modprobe and udev find kernel modules.
// They are derived once for a kernel: every module must be decompressed.
func (l *layout) addModules() error {
	versions := map[string][]tree.Entry{} // the modules of each kernel
	for _, p := range l.Below(modulesDir) {
		version, file, nested := strings.Cut(strings.TrimPrefix(p, modulesDir+"/"), "/")
		if !nested || !strings.HasSuffix(file, ".ko") && !strings.HasSuffix(file, ".ko.xz") {
			continue
		}
		if e, ok := l.File(p); ok {
			versions[version] = append(versions[version], e)
		}
	}
	weakDeps := false
	if kmod := l.ByOwner[merge.Owner("kmod")]; kmod != nil {
		weakDeps = relation.CompareVersions(kmod.Version, "33") >= 0
	}
	for _, version := range sortedKeys(versions) {
		dir := path.Join(modulesDir, version)
		key := sha256.New()
		fmt.Fprintf(key, "%q %t\n", version, weakDeps)
		for _, e := range versions[version] {
			fmt.Fprintf(key, "%q %s\n", e.Path, e.SHA256)
		}
		in := depmod.Input{WeakDeps: weakDeps}
		for _, f := range []struct {
			name string
			to   *[]byte
		}{
			{"modules.order", &in.Order}, {"modules.builtin", &in.Builtin}, {"modules.builtin.modinfo", &in.BuiltinModinfo},
		} {
			var err error
			if *f.to, err = l.Read(path.Join(dir, f.name)); err != nil {
				return err
			}
			fmt.Fprintf(key, "%s %x\n", f.name, sha256.Sum256(*f.to))
		}
		pack, err := l.Derive("depmod 1 "+hex.EncodeToString(key.Sum(nil)), func(w *tree.PackWriter) error {
			return writeModules(w, dir, in, versions[version])
		})
		if err != nil {
			return fmt.Errorf("kernel %s: %w", version, err)
		}
		for _, e := range pack.Entries {
			e.Owner = "depmod"
			l.Put(e)
		}
	}
	return nil
}

func writeModules(w *tree.PackWriter, dir string, in depmod.Input, modules []tree.Entry) error {
	for _, e := range modules {
		in.Modules = append(in.Modules, depmod.Module{
			Path: strings.TrimPrefix(e.Path, dir+"/"), Size: e.Size, Open: func() io.Reader { return e.Content() },
		})
	}
	files, err := depmod.Files(in)
	if err != nil {
		return err
	}
	for _, f := range files {
		e := tree.Entry{Path: path.Join(dir, f.Name), Type: tree.File, Perm: 0o644, Size: int64(len(f.Content))}
		if err := w.Add(e, bytes.NewReader(f.Content)); err != nil {
			return err
		}
	}
	return nil
}
