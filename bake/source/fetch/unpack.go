package fetch

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// An archive is refused, and no pack is made of it, where
//
//   - a member's name is absolute or has "..", whether or not it is selected;
//   - a selected member is neither a regular file nor a link to a selected
//     one: devices, FIFOs and links that lead elsewhere;
//   - two members, or two patterns, give one path of the image;
//   - a pattern selects no regular file;
//   - it has more than maxMembers members, or unpacks to more than the limits
//     of decompress.go;
//   - it is cut off, or something follows its end.
const maxMembers = 100_000

// packFormat is part of every key: packs made by other rules have another.
const packFormat = "release 1"

// PackKey returns the key under which the store keeps what files takes out of
// the artifact that has sums.
func PackKey(sums []manifest.Digest, files []manifest.File) string {
	type selection struct {
		Member, Path string
		Mode         uint16
	}
	var what []selection
	for _, f := range files {
		what = append(what, selection{f.Member, f.Path, f.Mode})
	}
	b, err := json.Marshal(what)
	if err != nil {
		panic(fmt.Sprintf("BUG: encoding %v: %v", what, err)) // strings and numbers always encode
	}
	return fmt.Sprintf("%s\n%s\n%s", packFormat, slices.Min(sums), b)
}

// Pack returns what files takes out of the artifact of req, from the store or
// else by downloading and unpacking it. origin is what errors and
// tree.Entry.Owner call it: "component kubelet".
func (f *Fetcher) Pack(ctx context.Context, req Request, origin string, files []manifest.File) (*tree.Pack, error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	return f.config.Store.Pack(ctx, PackKey(req.Sums, files), origin, func(ctx context.Context, w *tree.PackWriter) error {
		artifact, err := f.Open(ctx, req)
		if err != nil {
			return err
		}
		defer artifact.Close()
		task := f.config.Progress.Start("unpack", req.Name, 0)
		err = Unpack(ctx, artifact, req.artifact(), files, w)
		if err != nil {
			task.End("failed")
		} else {
			task.End("done")
		}
		return err
	})
}

// Unpack adds to w what files takes out of artifact, which errors call name.
// A File without a Member is the artifact itself; for the others it must be a
// tar archive, whatever compresses it. Owners are root and times zero.
func Unpack(ctx context.Context, artifact io.ReadSeeker, name string, files []manifest.File, w *tree.PackWriter) error {
	u := &unpacker{name: name, w: w, dests: map[string]string{}, members: map[string]string{}}
	for _, f := range files {
		if f.Member != "" {
			u.patterns = append(u.patterns, f)
			continue
		}
		if err := u.addWhole(artifact, f); err != nil {
			return fmt.Errorf("unpacking %s: %w", name, err)
		}
	}
	if len(u.patterns) == 0 {
		return nil
	}
	size, err := artifact.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = artifact.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = u.addMembers(ctx, artifact, size)
	}
	if err != nil {
		return fmt.Errorf("unpacking %s: %w", name, err)
	}
	return nil
}

// unpacker is one run of Unpack.
type unpacker struct {
	name     string
	w        *tree.PackWriter
	patterns []manifest.File
	used     []bool            // which patterns selected a regular file
	seen     []string          // names of regular files, for errors
	dests    map[string]string // paths of the image that were given, and the members that did
	members  map[string]string // paths of the image of selected regular files, by member
	links    []link            // whose target may come later
	size     int64             // of the selected files, bytes
}

type link struct {
	member, target string // names in the archive
	dest           string
	mode           uint16
	symbolic       bool
}

func (u *unpacker) addWhole(artifact io.ReadSeeker, f manifest.File) error {
	size, err := artifact.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := artifact.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if strings.HasSuffix(f.Path, "/") {
		return fmt.Errorf("%s%s is a directory, and the artifact itself has no name to give the file there", at(f.Pos), f.Path)
	}
	dest, err := u.claim("the artifact", f, u.name)
	if err != nil {
		return err
	}
	return u.w.Add(regular(dest, f, size), artifact)
}

func regular(dest string, f manifest.File, size int64) tree.Entry {
	return tree.Entry{Path: dest, Type: tree.File, Perm: modeOf(f), Size: size}
}

// addMembers walks a tar archive of size bytes.
func (u *unpacker) addMembers(ctx context.Context, archive io.Reader, size int64) error {
	u.used = make([]bool, len(u.patterns))
	d, err := newDecompressed(ctx, archive)
	if err != nil {
		return err
	}
	defer d.Close()
	tr := tar.NewReader(d)
	for count := 0; ; count++ {
		header, err := tr.Next()
		if err == io.EOF {
			break
		}
		if errors.Is(err, tar.ErrHeader) && count == 0 {
			return fmt.Errorf("it is not a tar archive, compressed or not: %w", err)
		}
		if err != nil {
			return d.tarError(err)
		}
		if count == maxMembers {
			return fmt.Errorf("it has more than %d members", maxMembers)
		}
		if err := u.addMember(memberReader{tr, d}, header, size); err != nil {
			return err
		}
	}
	if err := drain(d); err != nil {
		return err
	}
	if err := u.addLinks(); err != nil {
		return err
	}
	return u.unmatched()
}

// memberReader reads the content of a member. Its errors say what is wrong
// with the archive.
type memberReader struct {
	tar    *tar.Reader
	stream *decompressed
}

func (r memberReader) Read(b []byte) (int, error) {
	n, err := r.tar.Read(b)
	if err != nil && err != io.EOF {
		err = r.stream.tarError(err)
	}
	return n, err
}

// drain reads to the end, which verifies the checksum of the compressed
// stream, and wants the two zero blocks of pax(1) and nothing but zeroes after
// them.
func drain(d *decompressed) error {
	const trailer = 1024
	if d.zeroes < trailer {
		return errors.New("it is cut off: its end is not marked")
	}
	before, zeroes := d.Out(), d.zeroes
	if _, err := io.Copy(io.Discard, d); err != nil {
		return err
	}
	if d.zeroes != zeroes+d.Out()-before {
		return errors.New("something follows its end")
	}
	return nil
}

// addMember adds one member if a pattern selects it.
func (u *unpacker) addMember(content io.Reader, h *tar.Header, archiveSize int64) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	member, err := cleanMember(h.Name)
	if err != nil {
		return err
	}
	isRegular := h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse
	if isRegular {
		u.seen = append(u.seen, member)
	}
	i, err := u.selectedBy(member)
	if err != nil || i < 0 || h.Typeflag == tar.TypeDir {
		return err
	}
	f := u.patterns[i]
	switch {
	case isRegular:
	case h.Typeflag == tar.TypeLink, h.Typeflag == tar.TypeSymlink:
		return u.addLink(h, member, f)
	default:
		return fmt.Errorf("%q, which %s selects, is a %s", member, describe(f), typeName(h.Typeflag))
	}
	// A sparse member can be large without taking room in the archive.
	u.size += h.Size
	if u.size > maxUnpacked || u.size > freeOutput && u.size/maxRatio > archiveSize {
		return fmt.Errorf("%q brings what is taken out of it to %d bytes, far more than a release of %d bytes has", member, u.size, archiveSize)
	}
	dest, err := u.claim(member, f, path.Base(member))
	if err != nil {
		return err
	}
	u.used[i] = true
	u.members[member] = dest
	return u.w.Add(regular(dest, f, h.Size), content)
}

// cleanMember returns the name of a member without "./" and the like.
func cleanMember(name string) (string, error) {
	if strings.HasPrefix(name, "/") {
		return "", fmt.Errorf("its member %q has an absolute name", name)
	}
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", fmt.Errorf("its member %q leaves the archive", name)
	}
	return path.Clean(name), nil
}

// selectedBy returns the index of the pattern that selects member, or -1.
func (u *unpacker) selectedBy(member string) (int, error) {
	found := -1
	for i, f := range u.patterns {
		ok, err := path.Match(f.Member, member)
		if err != nil {
			return -1, fmt.Errorf("%spattern %q: %w", at(f.Pos), f.Member, err)
		}
		if ok && found >= 0 {
			return -1, fmt.Errorf("%q is selected by %s and by %s", member, describe(u.patterns[found]), describe(f))
		}
		if ok {
			found = i
		}
	}
	return found, nil
}

// claim returns the path of the image for a member, which no other may have.
func (u *unpacker) claim(member string, f manifest.File, base string) (string, error) {
	dest := f.Path
	if strings.HasSuffix(dest, "/") {
		dest += base
	}
	dest = strings.TrimPrefix(dest, "/")
	if err := tree.ValidPath(dest); err != nil || dest == "." {
		return "", fmt.Errorf("%s%s can't be the path of a file: %w", at(f.Pos), f.Path, errors.Join(err))
	}
	other, taken := u.dests[dest]
	if taken && other == member {
		return "", fmt.Errorf("it has %q twice", member)
	}
	if taken {
		return "", fmt.Errorf("%s%q and %q would both become /%s", at(f.Pos), other, member, dest)
	}
	u.dests[dest] = member
	return dest, nil
}

func (u *unpacker) addLink(h *tar.Header, member string, f manifest.File) error {
	l := link{member: member, mode: modeOf(f), symbolic: h.Typeflag == tar.TypeSymlink}
	target := h.Linkname
	if l.symbolic && !strings.HasPrefix(target, "/") {
		target = path.Join(path.Dir(member), target) // may leave the archive
	}
	clean, err := cleanMember(target)
	if err != nil {
		return fmt.Errorf("its link %q leads to %q, out of the archive", member, h.Linkname)
	}
	l.target = clean
	l.dest, err = u.claim(member, f, path.Base(member))
	if err != nil {
		return err
	}
	u.links = append(u.links, l)
	return nil
}

// addLinks adds the links once all files are known, since a symbolic link may
// come before its target.
func (u *unpacker) addLinks() error {
	for _, l := range u.links {
		target, ok := u.members[l.target]
		if !ok {
			return fmt.Errorf("its link %q leads to %q, which is no regular file that is taken as well", l.member, l.target)
		}
		e := tree.Entry{Path: l.dest, Type: tree.Hardlink, Perm: l.mode, Link: target}
		if l.symbolic {
			e.Type, e.Perm, e.Link = tree.Symlink, 0o777, "/"+target
			if path.Dir(target) == path.Dir(l.dest) {
				e.Link = path.Base(target)
			}
		}
		if err := u.w.Add(e, nil); err != nil {
			return err
		}
	}
	return nil
}

// unmatched reports patterns that selected no regular file, with the members
// that may have been meant.
func (u *unpacker) unmatched() error {
	var errs []error
	for i, f := range u.patterns {
		if u.used[i] {
			continue
		}
		has := "it has no files"
		if near := u.near(f.Member); len(near) > 0 {
			has = "it has " + strings.Join(near, ", ")
		}
		errs = append(errs, fmt.Errorf("%sno file matches %q: %s", at(f.Pos), f.Member, has))
	}
	return errors.Join(errs...)
}

// near returns up to five members, best the ones that have the pattern's name
// in another directory.
func (u *unpacker) near(pattern string) []string {
	const most = 5
	base := path.Base(pattern)
	var near []string
	for _, member := range u.seen {
		if ok, _ := path.Match(base, path.Base(member)); ok {
			near = append(near, member)
		}
	}
	for _, member := range u.seen {
		if !slices.Contains(near, member) && len(near) < most {
			near = append(near, member)
		}
	}
	for i := range near {
		near[i] = fmt.Sprintf("%q", near[i])
	}
	if more := len(u.seen) - most; more > 0 {
		return append(near[:most], fmt.Sprintf("and %d more", more))
	}
	return near
}

// modeOf returns the permission bits of a File, 0755 where it gives none.
func modeOf(f manifest.File) uint16 {
	if f.Mode == 0 {
		return 0o755
	}
	return f.Mode
}

func describe(f manifest.File) string { return fmt.Sprintf("%s%q", at(f.Pos), f.Member) }

// at returns "versions.yaml:12: ", or nothing where the place is not known.
func at(p manifest.Pos) string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d: ", p.File, p.Line)
}

func typeName(flag byte) string {
	switch flag {
	case tar.TypeChar:
		return "character device"
	case tar.TypeBlock:
		return "block device"
	case tar.TypeFifo:
		return "FIFO"
	}
	return fmt.Sprintf("member of type %q", flag)
}
