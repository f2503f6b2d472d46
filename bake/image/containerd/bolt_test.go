package containerd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
)

// openBolt opens data with bbolt.
func openBolt(t *testing.T, data []byte) *bbolt.DB {
	t.Helper()
	file := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{NoSync: true, NoGrowSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// check has bbolt check a database.
func check(t *testing.T, db *bbolt.DB) {
	t.Helper()
	err := db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestBoltSizes goes around the sizes at which something changes: empty, in the
// parent's page, a page, two, branches of branches; values at a page's end and
// beyond. bbolt reads each, then changes it as containerd would, and finds it
// sound before and after.
func TestBoltSizes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ keys, value int }{
		{0, 0}, {1, 0}, {1, 900}, {1, 1100}, {9, 71}, {10, 71}, {50, 30}, {51, 30}, {52, 30}, {5000, 100},
		{1, 4096 - 16 - 16 - 8}, {1, 4096 - 16 - 16 - 7}, {3, 10_000},
	} {
		t.Run(fmt.Sprintf("%d keys of %d bytes", test.keys, test.value), func(t *testing.T) {
			t.Parallel()
			root, want := newBucket(), map[string]string{}
			b := root.at("a", "b")
			for i := range test.keys {
				key, value := fmt.Sprintf("key%05d", i*7), bytes.Repeat([]byte{byte(i)}, test.value)
				b.values[key], want[key] = value, string(value)
			}
			data := writeBolt(root)
			if again := writeBolt(root); !bytes.Equal(data, again) {
				t.Error("the same input gives other bytes")
			}
			db := openBolt(t, data)
			check(t, db)
			got := map[string]string{}
			err := db.Update(func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte("a")).Bucket([]byte("b"))
				if err := b.ForEach(func(k, v []byte) error { got[string(k)] = string(v); return nil }); err != nil {
					return err
				}
				n := 0
				for key := range want {
					if n++; n%2 == 0 {
						continue
					}
					if err := b.Delete([]byte(key)); err != nil {
						return err
					}
				}
				for i := range 100 {
					if err := b.Put(fmt.Appendf(nil, "new%d", i), []byte("value")); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("content (-written +read):\n%s", diff)
			}
			check(t, db)
		})
	}
}

// TestBoltBuckets: a bucket with buckets, and many of them, in order.
func TestBoltBuckets(t *testing.T) {
	t.Parallel()
	root := newBucket()
	for i := range 300 {
		b := root.at("v1", fmt.Sprintf("object %03d", i))
		b.values["small"] = []byte("value")
		b.at("labels").values["label"] = bytes.Repeat([]byte("x"), i*10) // from some size on not in its parent's page
	}
	db := openBolt(t, writeBolt(root))
	check(t, db)
	err := db.View(func(tx *bbolt.Tx) error {
		for i := range 300 {
			b := tx.Bucket([]byte("v1")).Bucket(fmt.Appendf(nil, "object %03d", i))
			if b == nil {
				return fmt.Errorf("no bucket for object %d", i)
			}
			if got := len(b.Bucket([]byte("labels")).Get([]byte("label"))); got != i*10 {
				t.Errorf("object %d has a label of %d bytes; want %d", i, got, i*10)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
