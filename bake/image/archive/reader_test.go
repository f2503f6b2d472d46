package archive

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
)

// tarGz packs parts of a tar archive as one gzip member.
func tarGz(parts ...[]byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for _, p := range parts {
		w.Write(p)
	}
	w.Close()
	return b.Bytes()
}

// diskHeader returns a good header, changed by change, with its checksum right
// again.
func diskHeader(t testing.TB, size int64, change func(b []byte)) []byte {
	b, err := header(DiskName, size, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(b)
		putOctal(b[sumAt:sumAt+sumLen-1], checksum(b))
	}
	return b
}

func TestReaderRefuses(t *testing.T) {
	data, end := text(5, 1000), make([]byte, 24+1024)
	data[510], data[511] = 0x55, 0xaa
	good := tarGz(diskHeader(t, 1000, nil), data, end)
	with := func(change func(b []byte)) []byte { return tarGz(diskHeader(t, 1000, change), data, end) }
	flipped := bytes.Clone(good)
	flipped[len(flipped)-6] ^= 1 // CRC-32
	length := bytes.Clone(good)
	length[len(length)-1] ^= 1 // ISIZE

	for _, tc := range []struct {
		name string
		in   []byte
		want string // in the error; empty: accepted
	}{
		{"good", good, ""},
		{"octal type", with(func(b []byte) { b[typeAt] = 0 }), ""},
		{"padding to a record", tarGz(diskHeader(t, 1000, nil), data, make([]byte, 24+17*512)), ""},

		{"nothing", nil, "reading the gzip header: unexpected EOF"},
		{"not gzip", []byte("disk.raw is not here, sorry"), "gzip: invalid header"},
		{"empty member", tarGz(), "reading the tar header: unexpected EOF"},
		{"half a header", tarGz(diskHeader(t, 1000, nil)[:300]), "reading the tar header: unexpected EOF"},
		{"not tar", tarGz(text(9, 10240)), "the first header's checksum is wrong"},
		{"empty tar", tarGz(make([]byte, 10240)), "the first header's checksum is wrong"},
		{"wrong checksum", tarGz(bytes.Replace(diskHeader(t, 1000, nil), []byte("disk"), []byte("risk"), 1), data, end), "checksum is wrong"},
		{"POSIX header", with(func(b []byte) { copy(b[magicAt:], "ustar\x0000") }), `the tar header has magic "ustar\x0000"`},
		{"another name", with(func(b []byte) { copy(b, "./disk.raw") }), `called "./disk.raw", want "disk.raw"`},
		{"sparse", with(func(b []byte) { b[typeAt] = 'S' }), "is a sparse tar member"},
		{"directory", with(func(b []byte) { b[typeAt] = '5' }), "of type '5', want a regular file"},
		{"symlink", with(func(b []byte) { b[typeAt] = '2' }), "of type '2', want a regular file"},
		{"long name", with(func(b []byte) { b[typeAt] = 'L' }), "of type 'L', want a regular file"},
		{"no size", with(func(b []byte) { copy(b[sizeAt:], strings.Repeat(" ", sizeLen)) }), `"" is not an octal number`},
		{"size in no base", with(func(b []byte) { copy(b[sizeAt:], "0000000009x") }), "is not an octal number"},
		{"negative size", with(func(b []byte) { copy(b[sizeAt:], bytes.Repeat([]byte{0xff}, sizeLen)) }), "is a negative number"},
		{"huge size", with(func(b []byte) { copy(b[sizeAt:], "\x80\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00") }), "more than 63 bits"},
		{"larger than imported", tarGz(diskHeader(t, gce.MaxImageSize+1, nil)), "claims to have 2048000000001 bytes; Compute Engine imports at most 2048000000000"},

		{"disk too short", tarGz(diskHeader(t, 2000, nil), data), "reading disk.raw at 1000 of 2000 bytes: unexpected EOF"},
		{"no padding", tarGz(diskHeader(t, 1000, nil), data), "reading the padding of disk.raw: unexpected EOF"},
		{"disk longer than it says", tarGz(diskHeader(t, 999, nil), data, end), "the padding of disk.raw is not zero"},
		{"one zero block", tarGz(diskHeader(t, 1000, nil), data, end[:24+512]), "two zero blocks that end a tar archive: unexpected EOF"},
		{"second tar member", tarGz(diskHeader(t, 1000, nil), data, end[:24], diskHeader(t, 1000, nil), data, end), "a second tar member follows"},
		{"second member behind one zero block", tarGz(diskHeader(t, 1000, nil), data, end[:24+512], diskHeader(t, 1000, nil), data, end), "a second tar member follows"},
		{"something behind the end", tarGz(diskHeader(t, 1000, nil), data, end, []byte("\x00\x00x")), "2 bytes after the end of the tar archive"},
		{"endless padding", tarGz(diskHeader(t, 1000, nil), data, end, make([]byte, maxPadding+1)), "more than 1048576 zero bytes"},

		{"wrong CRC", flipped, "gzip: invalid checksum"},
		{"wrong length", length, "gzip: invalid checksum"},
		{"no trailer", good[:len(good)-8], "unexpected EOF"},
		{"half a stream", good[:len(good)/2], "unexpected EOF"},
		{"second gzip member", append(bytes.Clone(good), good...), "a second gzip member follows"},
		{"garbage", append(bytes.Clone(good), "garbage"...), "garbage follows the gzip member"},
		{"zeroes behind", append(bytes.Clone(good), 0), "garbage follows the gzip member"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readAll(bytes.NewReader(tc.in))
			f := create(t)
			_, unpackErr := Unpack(t.Context(), bytes.NewReader(tc.in), f)
			if tc.want == "" {
				if err != nil || !bytes.Equal(got, data) || unpackErr != nil {
					t.Errorf("read %d bytes, %v; Unpack: %v; want %d bytes", len(got), err, unpackErr, len(data))
				}
				return
			}
			for _, err := range []error{err, unpackErr} {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error = %v; want one with %q", err, tc.want)
				}
			}
		})
	}
}

func readAll(in io.Reader) ([]byte, error) {
	r, err := NewReader(in)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// unpackAll unpacks a tar.gz, whatever is on its disk, to a file.
func unpackAll(ctx context.Context, t *testing.T, archive []byte) (*os.File, int64, error) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	f := create(t)
	size, err := fill(ctx, r, f)
	return f, size, err
}

func TestUnpack(t *testing.T) {
	for _, l := range []*extent.List{mixedList(), {}, {Size: 9 << 20}} {
		out, _ := write(t, l, Options{})
		f, size, err := unpackAll(t.Context(), t, out)
		if err != nil {
			t.Fatal(err)
		}
		if got := filetest.Read(t, f.Name()); size != l.Size || !bytes.Equal(got, content(t, l)) {
			t.Errorf("the unpacked disk has %d bytes, or is not the list's content; want %d", size, l.Size)
		}
	}
	out, _ := write(t, mixedList(), Options{})
	if _, _, err := unpackAll(t.Context(), t, out[:len(out)-1]); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("unpacking a cut archive = %v; want %v", err, io.ErrUnexpectedEOF)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := unpackAll(ctx, t, out); !errors.Is(err, context.Canceled) {
		t.Errorf("unpacking after a cancel = %v; want %v", err, context.Canceled)
	}
}

func TestUnpackRefusesABomb(t *testing.T) {
	// A thousand times its size, none of it zero.
	const size = 64 << 20
	bomb := tarGz(diskHeader(t, size, nil), bytes.Repeat([]byte{1}, size), make([]byte, 1024))
	empty := tarGz(diskHeader(t, size, nil), make([]byte, size), make([]byte, 1024))
	for _, test := range []struct {
		name   string
		in     []byte
		limits limits
		want   string // in the error; empty: none
	}{
		{"much", bomb, limits{data: 10 << 20, free: size, ratio: 200}, "more than 10485760 bytes of disk.raw are not zero"},
		{"much for its size", bomb, limits{data: size, free: 10 << 20, ratio: 200}, "of the archive, more than 200 times as many: refusing to unpack the rest"},
		{"less than that", bomb, limits{data: size, free: 10 << 20, ratio: 2000}, ""},
		{"zeroes", empty, limits{data: 10 << 20, free: 10 << 20, ratio: 200}, ""},
	} {
		r, err := NewReader(bytes.NewReader(test.in))
		if err != nil {
			t.Fatal(err)
		}
		f := create(t)
		err = unpack(t.Context(), r, f, test.limits)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: unpack = %v; want an error with %q", test.name, err, test.want)
		}
		if info, err := f.Stat(); err != nil || test.want != "" && info.Size() > 15<<20 {
			t.Errorf("%s: wrote %v, %v; want it to stop at the limit", test.name, info.Size(), err)
		}
	}
}

// TestUnpackLooksFirst gives Unpack what is no disk: nothing is written.
func TestUnpackLooksFirst(t *testing.T) {
	const size = 40 * 512
	disk := func(change func(b []byte)) []byte {
		b := text(7, size)
		b[510], b[511] = 0, 0
		change(b)
		return tarGz(diskHeader(t, size, nil), b, make([]byte, 1024))
	}
	for _, test := range []struct {
		name string
		in   []byte
		good bool
	}{
		{"neither", disk(func(b []byte) {}), false},
		{"zeroes", tarGz(diskHeader(t, size, nil), make([]byte, size+1024)), false},
		{"a file of a few bytes", tarGz(diskHeader(t, 3, nil), make([]byte, 512+1024)), false},
		{"boot record", disk(func(b []byte) { b[510], b[511] = 0x55, 0xaa }), true},
		{"partition table", disk(func(b []byte) { copy(b[512:], "EFI PART") }), true},
	} {
		f := create(t)
		_, err := Unpack(t.Context(), bytes.NewReader(test.in), f)
		if test.good && err != nil {
			t.Errorf("%s: Unpack = %v", test.name, err)
		}
		const want = "disk.raw is no disk: there is neither a boot record nor a partition table at its beginning"
		if !test.good && (err == nil || err.Error() != want) {
			t.Errorf("%s: Unpack = %v; want %s", test.name, err, want)
		}
		if info, err := f.Stat(); err != nil || (info.Size() == 0) == test.good {
			t.Errorf("%s: the file has %d bytes, %v", test.name, info.Size(), err)
		}
	}
}

func FuzzReader(f *testing.F) {
	data, end := text(5, 1000), make([]byte, 24+1024)
	good := tarGz(diskHeader(f, 1000, nil), data, end)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(append(bytes.Clone(good), good...))
	f.Add(tarGz(diskHeader(f, 1<<40, nil), data, end))
	f.Add(tarGz(diskHeader(f, 1000, func(b []byte) { b[typeAt] = 'S' }), data, end))
	var ours bytes.Buffer
	if _, err := WriteTarGz(context.Background(), &ours, packs(tree.Bytes("b", data)), Options{}); err != nil {
		f.Fatal(err)
	}
	f.Add(ours.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := NewReader(bytes.NewReader(in))
		if err != nil {
			return
		}
		n, err := io.Copy(io.Discard, struct{ io.Reader }{r})
		if n > r.Size() {
			t.Errorf("read %d bytes; the header says %d", n, r.Size())
		}
		if err == nil && n != r.Size() {
			t.Errorf("accepted %d bytes; the header says %d", n, r.Size())
		}
	})
}

// FuzzHeader holds what the header's parser accepts against what it means.
func FuzzHeader(f *testing.F) {
	for _, size := range []int64{0, 1000, 1<<33 - 1, 1 << 33, gce.MaxImageSize} {
		f.Add(diskHeader(f, size, nil))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < blockSize {
			return
		}
		in = bytes.Clone(in[:blockSize])
		putOctal(in[sumAt:sumAt+sumLen-1], checksum(in)) // let it past the checksum
		if size, err := parseHeader(in); err == nil && size < 0 {
			t.Errorf("parseHeader = %d", size)
		}
	})
}
