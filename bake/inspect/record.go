package inspect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/image/ext4"
	"github.com/nodebake/bake/bake/image/gpt"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/tree"
)

// EmbeddedRecord returns the record that the image holds.
func (m *Image) EmbeddedRecord() (*record.Record, error) {
	text, err := m.Files.Text(record.Path)
	if err != nil {
		return nil, fmt.Errorf("reading the record inside the image: %w", err)
	}
	return record.Read("/"+record.Path, strings.NewReader(text))
}

// Record says what is in the image. Components, packages and inputs come from
// the record inside; partitions, files with their digests and the kernel's
// arguments from what is there. jobs files are read at once.
func (m *Image) Record(ctx context.Context, jobs int) (*record.Record, error) {
	r, err := m.EmbeddedRecord()
	if err != nil {
		return nil, err
	}
	if r.File, err = m.File(ctx); err != nil {
		return nil, err
	}
	r.Disk = record.Disk{Size: m.Size}
	for _, p := range m.Table.Partitions {
		r.Disk.Partitions = append(r.Disk.Partitions, record.Partition{
			Name: p.Name, Type: PartitionType(p.Type), GUID: p.GUID.String(), Start: p.Start, Size: p.Length,
		})
	}
	if len(m.LoaderEntries) > 0 {
		r.KernelArguments = m.LoaderEntries[0].Options
	}
	if err := m.hash(ctx, jobs); err != nil {
		return nil, fmt.Errorf("reading files of %s: %w", m.Path, err)
	}
	var t tree.Tree
	for i := range m.Files.Nodes {
		e := m.Files.Nodes[i].Entry
		if e.Path == lostFound {
			continue
		}
		if e.Type == tree.Hardlink { // one inode, and so one mode and owner
			first := m.Files.Lookup(e.Link)
			e.Perm, e.UID, e.GID = first.Perm, first.UID, first.GID
		}
		t.Entries = append(t.Entries, e)
	}
	r.Files = record.Entries(&t)
	return r, nil
}

// lostFound is in every ext4 filesystem and no part of what an image is made
// of.
const lostFound = "lost+found"

func PartitionType(t gpt.GUID) string {
	if _, ok := RootArch(t); ok {
		return "root"
	}
	if t == gpt.ESPType() {
		return "esp"
	}
	return gpt.TypeName(t)
}

// hash sets the digest of every file. ext4's reader serves one goroutine, what
// it returns for a file's content as many as the disk does.
func (m *Image) hash(ctx context.Context, jobs int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(jobs, 1))
	for i := range m.Files.Nodes {
		n := &m.Files.Nodes[i]
		if n.Type != tree.File || !n.SHA256.IsZero() {
			continue
		}
		content, err := m.Root.Content(n)
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		g.Go(func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			return sum(n, content)
		})
	}
	return g.Wait()
}

func sum(n *ext4.Element, content io.Reader) error {
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{content}, make([]byte, min(max(n.Size, 1), 256<<10))); err != nil {
		return err
	}
	h.Sum(n.SHA256[:0])
	return nil
}

// digest returns the digest of the file at p, following links.
func (m *Image) Digest(p string) (tree.Digest, error) {
	n, err := m.Files.Resolve(p)
	if err != nil {
		return tree.Digest{}, err
	}
	if n.SHA256.IsZero() {
		content, err := m.Root.Content(n)
		if err != nil {
			return tree.Digest{}, err
		}
		if err := sum(n, content); err != nil {
			return tree.Digest{}, err
		}
	}
	return n.SHA256, nil
}

// Contradictions says in what the image is not as the record r, which it
// holds, says: packages, programs of components, embedded programs, kernel
// arguments, architecture.
func (m *Image) Contradictions(r *record.Record) ([]string, error) {
	var found []string
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if r.Arch != m.Arch {
		add("the record says %s, the root partition's type %s", r.Arch, m.Arch)
	}
	installed, err := m.Files.installed()
	if err != nil {
		return nil, err
	}
	found = append(found, comparePackages(r.Packages, installed)...)
	for _, c := range r.Components {
		for _, p := range c.Files {
			got, err := m.Digest(p.Path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				add("component %s: %s is recorded and missing", c.Name, p.Path)
			case err != nil:
				return nil, err
			case p.SHA256 != (tree.Digest{}).String() && got.String() != p.SHA256: // a link has none
				add("component %s: %s has sha256:%s, the record says sha256:%s", c.Name, p.Path, got, p.SHA256)
			}
		}
	}
	if want, ok := r.Inputs.Programs["firstboot"]; ok {
		if got, err := m.Digest(record.FirstbootPath); err == nil && manifest.SHA256(got) != want {
			add("/%s has %s, the record says %s", record.FirstbootPath, manifest.SHA256(got), want)
		}
	}
	for _, k := range m.Kernels {
		if want, ok := r.Inputs.Programs["init"]; ok && k.Init != nil {
			if got := manifest.SHA256(sha256.Sum256(k.Init)); got != want {
				add("init in the initramfs of %s has %s, the record says %s", k.Entry.Path, got, want)
			}
		}
	}
	if inside, err := m.EmbeddedRecord(); err == nil && len(m.LoaderEntries) > 0 {
		for _, a := range inside.KernelArguments {
			if !slices.Contains(m.LoaderEntries[0].Options, a) {
				add("kernel argument %s is recorded and not in %s", a, m.LoaderEntries[0].Path)
			}
		}
	}
	return found, nil
}

// CheckSidecar compares the digest in the record beside the image, NAME.json,
// with the image's own. It returns the record's path, or "" where there is none
// or where it describes another file, such as the same image in another format.
func (m *Image) CheckSidecar(ctx context.Context) (string, error) {
	name, ok := strings.CutSuffix(m.Path, "."+m.Format)
	if !ok {
		return "", nil
	}
	path := name + ".json"
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return path, err
	}
	r, err := record.Read(path, bytes.NewReader(data))
	if err != nil {
		return path, err
	}
	if r.File == nil || r.File.Name != filepath.Base(m.Path) {
		return "", nil
	}
	file, err := m.File(ctx)
	if err != nil {
		return path, err
	}
	if r.File.SHA256 != file.SHA256 {
		return path, &manifest.DigestError{Want: r.File.SHA256, Got: file.SHA256}
	}
	return path, nil
}

// ReadFile returns the content of a file of the root filesystem, following
// symbolic links; after "esp:", of a file of the EFI system partition.
func (m *Image) ReadFile(name string) (io.Reader, error) {
	if p, ok := strings.CutPrefix(name, "esp:"); ok {
		return m.Boot.Open(p)
	}
	n, err := m.Files.Resolve(name)
	if err != nil {
		return nil, err
	}
	return m.Root.Content(n)
}
