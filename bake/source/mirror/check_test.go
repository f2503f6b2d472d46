package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/test/must"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld()
	w.write(t, dir)
	r := must.Get(Check(t.Context(), dir, 2, progress.Discard{}))
	var size int64
	for _, b := range w.blobs {
		size += int64(len(b))
	}
	if r.Err() != nil || len(r.Extra) > 0 || r.Files != len(w.blobs) || r.Bytes != size || r.Entries != len(w.index.Entries) || len(r.Sets) != 2 {
		t.Errorf("Check of a good mirror = %+v; want %d files, %d bytes and no problems", r, len(w.blobs), size)
	}
	if got := string(must.Get(json.Marshal(r))); !strings.Contains(got, `"problems":[]`) || !strings.Contains(got, `"extra":[]`) {
		t.Errorf("the report is %s", got)
	}

	// What is around the blobs.
	for _, test := range []struct{ file, content, want string }{
		{pageFile, "", "index.html: it is missing"},
		{ociLayoutFile, "", "oci-layout: it is missing"},
		{ociLayoutFile, `{"imageLayoutVersion":"9"}`, `imageLayoutVersion is "9"`},
		{ociIndexFile, "", "index.json: it is missing"},
		{ociIndexFile, `{"schemaVersion":2,"manifests":[]}`, "it does not name image"},
	} {
		file := filepath.Join(dir, test.file)
		before := must.Get(os.ReadFile(file))
		try(t, os.Remove(file))
		if test.content != "" {
			try(t, os.WriteFile(file, []byte(test.content), 0o644))
		}
		r := must.Get(Check(t.Context(), dir, 1, progress.Discard{}))
		if len(r.Problems) != 1 || r.Problems[0].Kind != BadLayout || !strings.Contains(r.Err().Error(), test.want) {
			t.Errorf("Check with %s %q = %v; want one problem with %q", test.file, test.content, r.Err(), test.want)
		}
		try(t, os.WriteFile(file, before, 0o644))
	}
	for _, name := range []string{".tmp-1", "README", "blobs/sha256/README", "blobs/sha256/" + sumL, "logs/access.log"} {
		try(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		try(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644))
	}
	r = must.Get(Check(t.Context(), dir, 1, progress.Discard{}))
	if want := []string{".tmp-1", "README", "blobs/sha256/README", "blobs/sha256/" + sumL, "logs/access.log"}; r.Err() != nil || !slices.Equal(r.Extra, want) {
		t.Errorf("Check with other files = %v, extra %q; want %q", r.Err(), r.Extra, want)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, err := Check(ctx, dir, 2, progress.Discard{}); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("Check that is cancelled = %v", err)
	}
}

// TestCheckSHA512 has an index whose SHA-512 is not that of the bytes.
func TestCheckSHA512(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld()
	w.index.Entries[4].SHA512 = manifesttest.Digest512([]byte("something else"))
	w.write(t, dir)
	r := must.Get(Check(t.Context(), dir, 1, progress.Discard{}))
	if len(r.Problems) != 1 || r.Problems[0].Name != victim || !strings.Contains(r.Err().Error(), "sha512:") {
		t.Errorf("Check with another SHA-512 = %v; want one problem that names it", r.Err())
	}
}
