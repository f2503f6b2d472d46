// Package archivetest makes archives and compressed streams in memory, for tests.
package archivetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/nodebake/bake/test/must"
)

// Member is one of a tar.
type Member struct {
	tar.Header
	Content string
}

// File is a file that all may read.
func File(name, content string) Member { return of(tar.TypeReg, name, 0o644, "", content) }

// Dir is a directory.
func Dir(name string) Member { return of(tar.TypeDir, name, 0o755, "", "") }

// Symlink is a symbolic link.
func Symlink(name, to string) Member { return of(tar.TypeSymlink, name, 0o777, to, "") }

// Hardlink is another name of a file.
func Hardlink(name, to string) Member { return of(tar.TypeLink, name, 0o644, to, "") }

func of(kind byte, name string, mode int64, link, content string) Member {
	return Member{tar.Header{Name: name, Typeflag: kind, Linkname: link, Mode: mode}, content}
}

// Tar makes an archive. Sizes are those of the contents; who has no other owner is
// root's, and what has no time has one.
func Tar(members ...Member) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.Size = int64(len(m.Content))
		if m.ModTime.IsZero() {
			m.ModTime = time.Unix(1_700_000_000, 0)
		}
		if m.Uname == "" && m.Uid == 0 {
			m.Uname = "root"
		}
		if m.Gname == "" && m.Gid == 0 {
			m.Gname = "root"
		}
		must.Do(w.WriteHeader(&m.Header))
		must.Get(io.WriteString(w, m.Content))
	}
	must.Do(w.Close())
	return b.Bytes()
}

// ArMagic is what an ar archive begins with.
const ArMagic = "!<arch>\n"

// AppendAr appends a member to an ar archive, ar(5).
func AppendAr(archive []byte, name string, content []byte) []byte {
	archive = fmt.Appendf(archive, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", name, 0, 0, 0, 0o100644, len(content))
	archive = append(archive, content...)
	if len(content)%2 == 1 {
		archive = append(archive, '\n')
	}
	return archive
}

// Gzip compresses content.
func Gzip(content []byte) []byte { return Compress(".gz", content) }

// XZ compresses content.
func XZ(content []byte) []byte { return Compress(".xz", content) }

// Compress compresses content into what a file's name ends with: .gz, .xz, .zst
// or nothing.
func Compress(suffix string, content []byte) []byte {
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch suffix {
	case "":
		return content
	case ".gz":
		w, err = gzip.NewWriterLevel(&b, gzip.BestSpeed)
	case ".xz":
		w, err = xz.WriterConfig{DictCap: 64 << 10}.NewWriter(&b) // a larger one takes long to make
	case ".zst":
		w, err = zstd.NewWriter(&b)
	default:
		panic("BUG: nothing compresses to " + suffix)
	}
	must.Do(err)
	must.Get(w.Write(content))
	must.Do(w.Close())
	return b.Bytes()
}
