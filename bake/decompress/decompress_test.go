package decompress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/nodebake/bake/test/archivetest"
	"github.com/nodebake/bake/test/need"
)

// free are limits that refuse nothing here.
var free = Limits{Bytes: 1 << 40}

func all(b []byte, f Format, l Limits) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(b), f, l)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// text is n bytes that compress to about a half.
func text(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = "0123456789abcdef"[r.IntN(16)]
	}
	return b
}

// compressed is content in format f: an xz stream asks for a dictionary of 64 KiB.
func compressed(f Format, content []byte) []byte {
	return archivetest.Compress(map[Format]string{Gzip: ".gz", XZ: ".xz", Zstd: ".zst"}[f], content)
}

// tool compresses with a program that is not ours.
func tool(t *testing.T, content []byte, command ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), need.Program(t, command[0], "xz-utils zstd bzip2"), command[1:]...)
	cmd.Stdin = bytes.NewReader(content)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	return out
}

// TestTools reads what the formats' own programs write.
func TestTools(t *testing.T) {
	t.Parallel()
	content := text(300_000)
	for _, test := range []struct {
		format  Format
		command []string
	}{
		{Gzip, []string{"gzip", "-c"}},
		{Bzip2, []string{"bzip2", "-c"}},
		{XZ, []string{"xz", "-c"}},
		{XZ, []string{"xz", "-c", "-0", "--check=none"}},
		{XZ, []string{"xz", "-c", "--check=crc32"}},
		{XZ, []string{"xz", "-c", "--check=sha256"}},
		{XZ, []string{"xz", "-c", "-9e"}},
		{XZ, []string{"xz", "-c", "-T2", "--block-size=65536"}},    // announces sizes
		{XZ, []string{"xz", "-c", "-T1", "--block-list=1000,1,0"}}, // does not
		{Zstd, []string{"zstd", "-c", "-q"}},
		{Zstd, []string{"zstd", "-c", "-q", "--ultra", "-22", "--long=27"}},
	} {
		t.Run(strings.Join(test.command, " "), func(t *testing.T) {
			b := tool(t, content, test.command...)
			empty := tool(t, nil, test.command...)
			for name, stream := range map[string][]byte{
				"one": b, "two": append(append(bytes.Clone(b), empty...), b...),
			} {
				want := content
				if name == "two" {
					want = append(bytes.Clone(content), content...)
				}
				if got, err := all(stream, test.format, free); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
				}
			}
			if test.format != Bzip2 && Detect(b) != test.format {
				t.Errorf("Detect = %q; want %q", Detect(b), test.format)
			}
			for _, n := range []int{len(b) / 2, len(b) - 1, 20} {
				if _, err := all(b[:n], test.format, free); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%d of %d bytes: %v; want that it is cut off", n, len(b), err)
				}
			}
		})
	}
}

func TestXZPadding(t *testing.T) {
	t.Parallel()
	b := compressed(XZ, []byte("content"))
	for zeroes, want := range map[int]error{0: nil, 4: nil, 400_000: nil, 1: ErrFollowed, 2: ErrFollowed, 7: ErrFollowed} {
		padded := append(bytes.Clone(b), make([]byte, zeroes)...)
		for streams, stream := range [][]byte{1: padded, 2: append(bytes.Clone(padded), b...)} {
			if got, err := all(stream, XZ, free); streams > 0 && (!errors.Is(err, want) || err == nil && string(got) != strings.Repeat("content", streams)) {
				t.Errorf("%d streams with %d zeroes: %q, %v; want %v", streams, zeroes, got, err, want)
			}
		}
	}
}

// TestDamage flips bits of every byte of a stream. What comes out without an error
// is what went in: the library does not mind a chunk of LZMA2 that says that it is
// longer than it is.
func TestDamage(t *testing.T) {
	t.Parallel()
	content := []byte("some content that has a length, and not a short one, and a length again")
	for _, f := range []Format{XZ, Zstd} {
		b, want := compressed(f, content), content
		if f == XZ {
			b, want = bytes.Repeat(b, 2), bytes.Repeat(content, 2)
		}
		for i := range b {
			for _, bit := range []byte{1, 0x80} {
				c := bytes.Clone(b)
				c[i] ^= bit
				if got, err := all(c, f, free); err == nil && !bytes.Equal(got, want) {
					t.Errorf("%s: bit %#x of byte %d flipped: no error, %q", f, bit, i, got)
				}
			}
		}
	}
}

// xzHeaders makes a stream header and a block header as `xz -T` writes it, with
// both sizes announced, and any dictionary.
func xzHeaders(dict byte, announced bool) []byte {
	out := []byte(xzMagic + "\x00\x01")
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(out[6:8]))
	block := []byte{0, 0}
	if announced {
		block[1] = 0xc0
		block = append(block, 0x80, 0x80, 0x80, 0x80, 0x01) // compressed
		block = append(block, 0x80, 0x80, 0x80, 0x80, 0x08) // uncompressed
	}
	block = append(block, lzma2Filter, 1, dict)
	for len(block)%4 != 0 {
		block = append(block, 0)
	}
	block[0] = byte(len(block) / 4)
	return append(out, binary.LittleEndian.AppendUint32(block, crc32.ChecksumIEEE(block))...)
}

// most is the memory that a refused stream may cost.
const most = 4 << 20

// allocated is how much memory do allocates, freed or not.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestMemory shows streams that ask for much memory, in the first block and in
// later ones, in the first stream and in the next, whatever sizes they announce.
func TestMemory(t *testing.T) {
	good := compressed(XZ, []byte("content"))
	second := func(block []byte) []byte { // a block after the first one of good
		index := bytes.LastIndexByte(good[:len(good)-xzHeaderSize], 0) // of its CRC, or before: found below
		for ; index > 0; index-- {
			c := append(bytes.Clone(good[:index]), block...)
			if _, err := all(c, XZ, free); err != nil && strings.Contains(err.Error(), "dictionary") {
				return c
			}
		}
		t.Fatal("BUG: no place for a second block")
		return nil
	}
	zstdFrame := func(window, single []byte) []byte {
		b := []byte("\x28\xb5\x2f\xfd")
		if single != nil {
			return append(append(b, 0xe0), single...) // single segment, 8 bytes of size
		}
		return append(append(b, 0x00), window...)
	}
	large := xzHeaders(37, true) // 1.5 GiB
	for _, test := range []struct {
		name   string
		format Format
		stream []byte
		want   string
	}{
		{"first block", XZ, xzHeaders(37, false), "xz: it needs a dictionary of 1536 MiB, at most 64 are allowed"},
		{"first block with sizes", XZ, large, "xz: it needs a dictionary of 1536 MiB, at most 64 are allowed"},
		{"96 MiB", XZ, xzHeaders(29, true), "xz: it needs a dictionary of 96 MiB, at most 64 are allowed"},
		{"4 GiB", XZ, xzHeaders(40, true), "xz: it needs a dictionary of 4096 MiB, at most 64 are allowed"},
		{"second block", XZ, second(large[xzHeaderSize:]), "xz: it needs a dictionary of 1536 MiB, at most 64 are allowed"},
		{"second stream", XZ, append(bytes.Clone(good), large...), "xz: it needs a dictionary of 1536 MiB, at most 64 are allowed"},
		{"zstd window", Zstd, zstdFrame([]byte{0x98}, nil), "zstd: window size exceeded"}, // 512 MiB
		{"zstd single segment", Zstd, zstdFrame(nil, []byte{0, 0, 0, 0x40, 0, 0, 0, 0}), "zstd: decompressed size exceeds configured limit"},
	} {
		var err error
		used := allocated(func() { _, err = all(test.stream, test.format, free) })
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: error is %v; want %s", test.name, err, test.want)
		}
		if used > most {
			t.Errorf("%s: it took %d bytes of memory to refuse; want at most %d", test.name, used, most)
		}
	}
	// What is allowed costs what it says, or what the block has where that is less.
	for _, command := range [][]string{{"xz", "-c", "-9"}, {"xz", "-c", "-9", "-T2", "--block-size=65536"}} {
		b := tool(t, text(100_000), command...)
		used := allocated(func() {
			if _, err := all(b, XZ, free); err != nil {
				t.Errorf("%v: %v", command, err)
			}
		})
		if limit := uint64(MaxXZDict + most); used > limit {
			t.Errorf("%v: it took %d bytes of memory; want at most %d", command, used, limit)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{Gzip, XZ, Zstd} {
		b := compressed(f, make([]byte, 4<<20))
		for _, test := range []struct {
			limits Limits
			want   string
		}{
			{Limits{Bytes: 4 << 20}, ""},
			{Limits{Bytes: 4 << 20, Ratio: 10, Free: 4 << 20}, ""},
			{Limits{Bytes: 4<<20 - 1}, "it decompresses to more than 4194303 bytes"},
			{Limits{Bytes: 4 << 20, Ratio: 10, Free: 1 << 20}, "it decompresses to more than 10 times its size: "},
		} {
			r, err := NewReader(bytes.NewReader(b), f, test.limits)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, r)
			var limit *LimitError
			if got := fmt.Sprint(err); (err == nil) != (test.want == "") || err != nil && (!strings.HasPrefix(got, test.want) || !errors.As(err, &limit)) {
				t.Errorf("%s within %+v: %v; want %q", f, test.limits, err, test.want)
			}
			if n > test.limits.Bytes {
				t.Errorf("%s within %+v: %d bytes came", f, test.limits, n)
			}
			r.Close()
		}
	}
}

// FuzzXZ compares with the library's own reader of the container, which believes
// headers: both must read the same, or we must refuse.
func FuzzXZ(f *testing.F) {
	b := compressed(XZ, []byte("content"))
	f.Add(b)
	f.Add(append(append(bytes.Clone(b), 0, 0, 0, 0), b...))
	f.Add(xzHeaders(37, true))
	f.Add(xzHeaders(0, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := all(b, XZ, Limits{Bytes: 1 << 20})
		if err != nil {
			return
		}
		r, err := xz.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("the library says %v of %x", err, b)
		}
		if want, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%x has %x; the library reads %x, %v", b, got, want, err)
		}
	})
}

func FuzzReader(f *testing.F) {
	for _, format := range []Format{Gzip, Zstd} {
		f.Add(compressed(format, []byte("content")))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, _ := all(b, Detect(b), Limits{Bytes: 1 << 20}); len(got) > 1<<20 {
			t.Errorf("%d bytes came out", len(got))
		}
	})
}

// BenchmarkXZ reads 16 MiB of text, as this package does and as the library
// does, which has no limits.
func BenchmarkXZ(b *testing.B) {
	content := text(16 << 20)
	stream := compressed(XZ, content)
	for name, open := range map[string]func() (io.Reader, error){
		"here":    func() (io.Reader, error) { return NewReader(bytes.NewReader(stream), XZ, free) },
		"library": func() (io.Reader, error) { return xz.NewReader(bytes.NewReader(stream)) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				r, err := open()
				if err == nil {
					_, err = io.Copy(io.Discard, r)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
