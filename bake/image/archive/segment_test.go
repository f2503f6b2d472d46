package archive

import (
	"regexp"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
)

func TestSegmentsCoverTheList(t *testing.T) {
	for _, l := range []*extent.List{mixedList(), {}, {Size: 7}, {Size: 20 << 30}} {
		var at int64
		var pieces []extent.Piece
		for s := range segments(l) {
			if s.offset != at {
				t.Fatalf("a segment starts at %d; want %d", s.offset, at)
			}
			at += s.length
			if s.pieces == nil {
				pieces = append(pieces, extent.Piece{Offset: s.offset, Length: s.length})
				continue
			}
			if s.length > segmentSize {
				t.Errorf("the segment at %d has %d bytes; want at most %d", s.offset, s.length, segmentSize)
			}
			var sum int64
			for _, p := range s.pieces {
				sum += p.Length
			}
			if sum != s.length {
				t.Errorf("the segment at %d has %d bytes of pieces; want %d", s.offset, sum, s.length)
			}
			pieces = append(pieces, s.pieces...)
		}
		i := 0
		for want := range l.Pieces() {
			if i == len(pieces) || pieces[i] != want {
				t.Fatalf("piece %d is not %+v", i, want)
			}
			i++
		}
		if i != len(pieces) || at != l.Size {
			t.Errorf("%d pieces up to %d; want %d up to %d", len(pieces), at, i, l.Size)
		}
	}
}

// packs puts blobs on a disk one after another, as package after package.
func packs(blobs ...*tree.Blob) *extent.List {
	l := &extent.List{}
	for _, b := range blobs {
		l.Append(l.Size, b.Size, b, 0)
		l.Size += (b.Size + tree.Align - 1) / tree.Align * tree.Align
	}
	return l
}

func TestAChangeStaysLocal(t *testing.T) {
	var blobs []*tree.Blob
	for i := range 40 {
		// Small packages in a row, and every fifth one larger.
		size := 20_000 * (1 + i%3)
		if i%5 == 4 {
			size = 1_500_000
		}
		blobs = append(blobs, tree.Bytes("package", text(uint64(i), size)))
	}
	cache := newMapCache()
	_, first := write(t, packs(blobs...), Options{Cache: cache})
	if first.Cached != 0 {
		t.Fatalf("the first run found %d bytes cached", first.Cached)
	}
	blobs[1] = tree.Bytes("package", text(1000, 90_000)) // changed, and larger
	_, second := write(t, packs(blobs...), Options{Cache: cache})
	// At most the group of small packages around it is compressed again.
	if fresh := second.Content - second.Cached; fresh > 300_000 {
		t.Errorf("after a change of 90,000 bytes %d bytes were compressed again; want at most 300,000", fresh)
	}
}

func TestPlanDigest(t *testing.T) {
	unreadable := mixedList()
	for _, e := range unreadable.Extents {
		e.Blob.R = failingReader{}
	}
	base := PlanDigest(unreadable, Options{})
	if again := PlanDigest(mixedList(), Options{Workers: 5, Cache: newMapCache(), Name: DiskName}); again != base {
		t.Errorf("PlanDigest of an equal plan = %s; want %s", again, base)
	}
	split := mixedList()
	e := split.Extents[1]
	split.Extents[1].Length = 1 << 20
	e.Offset, e.BlobOffset, e.Length = e.Offset+1<<20, e.BlobOffset+1<<20, e.Length-1<<20
	split.Insert(0, extent.List{Extents: []extent.Extent{e}})
	if got := PlanDigest(split, Options{}); got != base {
		t.Error("PlanDigest depends on how equal content is cut into extents")
	}

	seen := map[tree.Digest]string{base: "the same list"}
	for _, tc := range []struct {
		name   string
		change func(*extent.List, *Options)
	}{
		{"name", func(_ *extent.List, o *Options) { o.Name = "other.raw" }},
		{"epoch", func(_ *extent.List, o *Options) { o.Epoch = 1 }},
		{"size", func(l *extent.List, _ *Options) { l.Size++ }},
		{"place", func(l *extent.List, _ *Options) { l.Extents[0].Offset += 512 }},
		{"length", func(l *extent.List, _ *Options) { l.Extents[0].Length -= 512 }},
		{"blob offset", func(l *extent.List, _ *Options) {
			l.Extents[0].BlobOffset += 512
			l.Extents[0].Length -= 512
		}},
		{"content", func(l *extent.List, _ *Options) { l.Extents[0].Blob = tree.Bytes("", text(99, 34*512)) }},
	} {
		l, o := mixedList(), Options{}
		tc.change(l, &o)
		d := PlanDigest(l, o)
		if other, ok := seen[d]; ok {
			t.Errorf("PlanDigest after a change of %s is that of %s", tc.name, other)
		}
		seen[d] = "a change of " + tc.name
	}
}

// A cache outlives the program. Where the library or its output changes, codec
// must, or old and new segments mix in one archive and its digest depends on
// what was cached.
func TestCodecNamesTheLibraryVersion(t *testing.T) {
	mod := filetest.Read(t, "../../../go.mod")
	m := regexp.MustCompile(`github.com/klauspost/compress (\S+)`).FindSubmatch(mod)
	if m == nil {
		t.Fatal("go.mod does not name github.com/klauspost/compress")
	}
	if want := "github.com/klauspost/compress " + string(m[1]); !strings.HasPrefix(codec, want+" ") {
		t.Errorf("codec = %q; want it to start with %q: go.mod has that version", codec, want)
	}
}

// The digests below were equal on amd64, arm64 and 386. If they change without
// a change in this package, the library compresses to other bytes and codec
// must change.
func TestCodecGolden(t *testing.T) {
	_, r := write(t, mixedList(), Options{})
	const want = "fae39d7ba659d8df2e40ea41830c01abe7831edfc59ff546ae1163084e8f145f"
	if r.SHA256.String() != want {
		t.Errorf("WriteTarGz of the mixed list has SHA-256 %s; want %s", r.SHA256, want)
	}
}

// A compressor that has worked before gives the same bytes as a new one.
func TestCompressorKeepsNoState(t *testing.T) {
	used, err := newCompressor()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		b := text(uint64(i%7), 1+i*i*i*5) // up to segmentSize
		got, err := used.appendValue(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := newCompressor()
		if err != nil {
			t.Fatal(err)
		}
		want, err := fresh.appendValue(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Fatalf("segment %d of %d bytes: other bytes from a used compressor", i, len(b))
		}
		if !validValue(got) {
			t.Errorf("segment %d is not a valid value", i)
		}
	}
}
