package mirror

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
)

// Report is what Check found. It encodes as JSON.
type Report struct {
	Mirror   string    `json:"mirror"`   // its directory
	Sets     []string  `json:"sets"`     // by name
	Entries  int       `json:"entries"`  // of the index
	Files    int       `json:"files"`    // blobs that were read to their end
	Bytes    int64     `json:"bytes"`    // of them
	Problems []Problem `json:"problems"` // none: the mirror is as its index says
	Extra    []string  `json:"extra"`    // files that the index does not name, relative; no problem
}

// Err returns an error that names every problem, or nil where there is none.
func (r *Report) Err() error {
	errs := make([]error, len(r.Problems))
	for i := range r.Problems {
		errs[i] = &r.Problems[i]
	}
	return errors.Join(errs...)
}

// Problem is one thing that is wrong with a mirror.
type Problem struct {
	Kind   string   `json:"kind"`           // see the constants
	File   string   `json:"file"`           // relative to the mirror
	Name   string   `json:"name,omitempty"` // of the entry, the first where there are several; empty where it is no blob
	Path   string   `json:"path,omitempty"` // of the same
	Sets   []string `json:"sets,omitempty"` // that need it
	What   string   `json:"what"`           // is wrong
	Remedy string   `json:"remedy"`
}

// The kinds of a Problem.
const (
	Missing    = "missing"
	WrongSize  = "size"       // cut off, or longer
	Altered    = "altered"    // bytes
	Swapped    = "swapped"    // it has the bytes of another entry
	Foreign    = "foreign"    // a link, a directory or a device
	Unreadable = "unreadable" // the system says why
	BadLayout  = "layout"     // the OCI layout or the page contradicts the index
)

// Error implements error.
func (p *Problem) Error() string {
	if p.Name == "" {
		return fmt.Sprintf("%s: %s: %s", p.File, p.What, p.Remedy)
	}
	sets := "set"
	if len(p.Sets) > 1 {
		sets = "sets"
	}
	return fmt.Sprintf("%s (%s %s): %s %s: %s", p.Name, sets, strings.Join(p.Sets, ", "), p.File, p.What, p.Remedy)
}

const (
	again       = "make the mirror again"
	removeAgain = "remove the file and make the mirror again"
)

// checkBuffer is what is read at once.
const checkBuffer = 512 << 10 // bytes

// Check reads every byte of the mirror in dir, an absolute path, on jobs
// processors (0: all). It is an error where there is no index to go by; what is
// wrong with the files is in the report.
func Check(ctx context.Context, dir string, jobs int, sink progress.Sink) (*Report, error) {
	content, err := readIndex(dir)
	if err != nil {
		return nil, fmt.Errorf("checking the mirror %s: %w", dir, err)
	}
	x, err := ParseIndex(content)
	if err != nil {
		return nil, fmt.Errorf("checking the mirror %s: reading %s: %w", dir, indexFile, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("checking the mirror %s: %w", dir, err)
	}
	defer root.Close()
	c := &checker{root: root, index: x}
	c.group()

	if jobs <= 0 {
		jobs = runtime.GOMAXPROCS(0)
	}
	var all int64
	for _, b := range c.blobs {
		all += b.entry.Size
	}
	c.task = sink.Start("check", dir, all)
	if err := c.readAll(ctx, jobs); err != nil {
		c.task.End("failed")
		return nil, fmt.Errorf("checking the mirror %s: %w", dir, err)
	}
	r := &Report{Mirror: dir, Entries: len(x.Entries), Sets: []string{}, Problems: []Problem{}, Extra: []string{}}
	for _, s := range x.Sets {
		r.Sets = append(r.Sets, s.Name)
	}
	for _, b := range c.blobs {
		if b.read {
			r.Files++
			r.Bytes += b.entry.Size
		}
		if b.problem != nil {
			r.Problems = append(r.Problems, *b.problem)
		}
	}
	r.Problems = append(r.Problems, c.layout()...)
	slices.SortStableFunc(r.Problems, func(a, b Problem) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.File, b.File)) })
	r.Extra, err = c.extra(ctx)
	if err != nil {
		c.task.End("failed")
		return nil, fmt.Errorf("checking the mirror %s: %w", dir, err)
	}
	if len(r.Problems) > 0 {
		c.task.End("failed")
	} else {
		c.task.End("done")
	}
	return r, nil
}

// checker is one run of Check.
type checker struct {
	root  *os.Root
	index *Index
	blobs []*blobCheck // the largest first
	named map[manifest.Digest]*blobCheck
	task  progress.Task
}

// blobCheck is a blob and what is found of it. One goroutine works at it.
type blobCheck struct {
	entry   Entry    // the first, with the SHA-512 of any
	sets    []string // of all entries
	read    bool
	problem *Problem
}

func (c *checker) group() {
	c.named = map[manifest.Digest]*blobCheck{}
	for _, e := range c.index.Entries {
		b := c.named[e.SHA256]
		if b == nil {
			b = &blobCheck{entry: e}
			c.named[e.SHA256], c.blobs = b, append(c.blobs, b)
		}
		if b.entry.SHA512 == "" {
			b.entry.SHA512 = e.SHA512
		}
		b.sets = slices.Compact(slices.Sorted(slices.Values(append(b.sets, e.Sets...))))
	}
	// The largest first, so that none of them is what is left at the end.
	slices.SortStableFunc(c.blobs, func(a, b *blobCheck) int { return cmp.Compare(b.entry.Size, a.entry.Size) })
}

// readAll checks all blobs.
func (c *checker) readAll(ctx context.Context, jobs int) error {
	queue := make(chan *blobCheck, len(c.blobs))
	for _, b := range c.blobs {
		queue <- b
	}
	close(queue)
	group, ctx := errgroup.WithContext(ctx)
	for range jobs {
		group.Go(func() error {
			buf := make([]byte, checkBuffer)
			for b := range queue {
				if err := c.readBlob(ctx, b, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// readBlob finds out what is wrong with one blob. Its error is that ctx is done.
func (c *checker) readBlob(ctx context.Context, b *blobCheck, buf []byte) error {
	want := b.entry
	path := blobPath(want.SHA256)
	found := func(kind, remedy, format string, args ...any) {
		b.problem = &Problem{Kind: kind, File: path, Name: want.Name, Path: want.Path, Sets: b.sets, What: fmt.Sprintf(format, args...), Remedy: remedy}
	}
	f, err := openRegular(c.root, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		found(Missing, again, "is missing")
		return nil
	case errors.Is(err, errForeign):
		found(Foreign, removeAgain, "can't be read: %v", err)
		return nil
	case err != nil:
		found(Unreadable, "correct that, or "+again, "can't be read: %v", err)
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() != want.Size {
		found(WrongSize, again, "has %d bytes, want %d", info.Size(), want.Size)
		return nil
	}
	own, other := sha256.New(), hash.Hash(nil)
	if want.SHA512 != "" {
		other = sha512.New()
	}
	for {
		if err := stopped(ctx); err != nil {
			return err
		}
		n, err := f.Read(buf)
		own.Write(buf[:n])
		if other != nil {
			other.Write(buf[:n])
		}
		c.task.Add(int64(n))
		if err == io.EOF {
			break
		}
		if err != nil {
			found(Unreadable, "correct that, or "+removeAgain, "can't be read: %v", err)
			return nil
		}
	}
	b.read = true
	got := manifest.Digest("sha256:" + hex.EncodeToString(own.Sum(nil)))
	is, known := c.named[got]
	switch {
	case got != want.SHA256 && known:
		found(Swapped, removeAgain, "has the bytes of %q", is.entry.Name)
	case got != want.SHA256:
		found(Altered, removeAgain, "is altered: its bytes have the digest %s", got)
	case other != nil:
		if err := want.SHA512.Check(other); err != nil {
			found(Altered, "compare with what the publisher states, and "+again, "is not what the index says: its %v", err)
		}
	}
	return nil
}

// layout checks the files beside the blobs.
func (c *checker) layout() []Problem {
	var problems []Problem
	found := func(file string, err error) {
		problems = append(problems, Problem{Kind: BadLayout, File: file, What: err.Error(), Remedy: again})
	}
	read := func(name string) []byte {
		b, err := readLimited(c.root, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			found(name, errors.New("it is missing"))
		case err != nil:
			found(name, err)
		}
		return b
	}
	read(pageFile)
	if b := read(ociLayoutFile); b != nil {
		if err := checkOCILayout(b); err != nil {
			found(ociLayoutFile, err)
		}
	}
	if b := read(ociIndexFile); b != nil {
		if err := checkOCIIndex(c.index, b); err != nil {
			found(ociIndexFile, err)
		}
	}
	return problems
}

// extra lists what the index does not name, sorted.
func (c *checker) extra(ctx context.Context) ([]string, error) {
	extra := []string{}
	err := fs.WalkDir(c.root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err := stopped(ctx); err != nil {
			return err
		}
		switch {
		case errors.Is(err, fs.ErrPermission) && path != ".":
			extra = append(extra, path)
			return nil
		case err != nil:
			return err
		case d.IsDir():
			return nil
		}
		if hex, ok := strings.CutPrefix(path, blobsDir+"/"); ok {
			if c.named[manifest.Digest("sha256:"+hex)] != nil {
				return nil
			}
		} else if ours(path) && !strings.HasPrefix(path, tmpPrefix) && path != "blobs" {
			return nil
		}
		extra = append(extra, path)
		return nil
	})
	return extra, err
}
