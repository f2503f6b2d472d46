package archive

import (
	"bytes"
	"testing"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
)

func TestWriteRaw(t *testing.T) {
	for _, tc := range []struct {
		name string
		list *extent.List
	}{
		{"mixed", mixedList()},
		{"empty", &extent.List{}},
		{"zeroes", &extent.List{Size: 100 << 20}},
		{"one byte", &extent.List{Size: 1, Extents: []extent.Extent{{Length: 1, Blob: tree.Bytes("b", []byte("x"))}}}},
	} {
		for _, workers := range []int{1, 5} {
			f := create(t)
			if _, err := f.Write(bytes.Repeat([]byte("old"), 1<<20)); err != nil {
				t.Fatal(err)
			}
			if err := WriteRaw(t.Context(), f, tc.list, Options{Workers: workers}); err != nil {
				t.Fatal(err)
			}
			got := filetest.Read(t, f.Name())
			if !bytes.Equal(got, content(t, tc.list)) {
				t.Errorf("%s, %d workers: the file's content is not the list's", tc.name, workers)
			}
		}
	}
}
