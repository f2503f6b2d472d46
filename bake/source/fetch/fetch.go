package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/store"
)

// maxUnsized bounds a download of unknown size, so that a server can't fill
// the disk. The largest release of Kubernetes has 0.6 GB.
const maxUnsized = 4 << 30

// Fetch downloads what the store does not have. Files that are unavailable do not
// stop the others: the error joins an UnreachableError or a DigestError for
// each. What would fail all of them, such as a full disk or a network that is
// down, ends the work; what arrived until then is resumed next time.
func (f *Fetcher) Fetch(ctx context.Context, reqs []Request) error {
	missing, err := f.Missing(ctx, reqs)
	if err != nil {
		return err
	}
	if err := f.reserve(missing); err != nil {
		return err
	}
	f.noteLacking(missing)
	f.announcer.expect(missing)
	// The largest first, so that none of them is what is left at the end.
	slices.SortStableFunc(missing, func(a, b Request) int {
		return int(max(min(b.Size-a.Size, 1), -1))
	})
	var mu sync.Mutex
	var failed []error
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(f.config.Parallel)
	for _, req := range missing {
		group.Go(func() error {
			defer f.announcer.leave(req)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			err := f.fetch(ctx, req)
			if !onlyThisFile(err) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, err)
			return nil
		})
	}
	err = group.Wait()
	return errors.Join(append(failed, err)...)
}

// onlyThisFile reports whether err says nothing about other files.
func onlyThisFile(err error) bool {
	if _, ok := errors.AsType[*DigestError](err); ok {
		return true
	}
	unreachable, ok := errors.AsType[*UnreachableError](err)
	return ok && unreachable.lasting()
}

// Missing returns the requests whose file the store does not have.
func (f *Fetcher) Missing(ctx context.Context, reqs []Request) ([]Request, error) {
	var missing []Request
	for _, req := range reqs {
		if err := req.check(); err != nil {
			return nil, err
		}
		_, ok, err := f.find(ctx, req)
		if err != nil {
			return nil, err
		}
		if !ok {
			missing = append(missing, req)
		}
	}
	return missing, nil
}

// find returns the file of req in the store, fetched as it must be.
func (f *Fetcher) find(ctx context.Context, req Request) (string, bool, error) {
	if req.As != "" && !slices.Contains(f.config.Store.FetchedAs(req.Sums[0]), req.fetched()) {
		return "", false, nil
	}
	path, ok, err := f.config.Store.Find(ctx, req.Sums)
	if wrong, ok := errors.AsType[*manifest.DigestError](err); ok {
		err = &DigestError{Name: req.Name, URL: "the store (by its other digest)", Got: string(wrong.Got), Want: string(wrong.Want)}
	}
	return path, ok, err
}

// reserve fails early where the files can't fit.
func (f *Fetcher) reserve(missing []Request) error {
	var need int64
	for _, req := range missing {
		need += req.Size
	}
	return f.config.Store.Reserve(need)
}

// Open returns the file of req, verified and open for reading. It is
// downloaded where the store does not have it, or has it damaged.
func (f *Fetcher) Open(ctx context.Context, req Request) (*os.File, error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	sum := fileOf(req)
	for again := false; ; again = true {
		if err := f.fetch(ctx, req); err != nil {
			return nil, err
		}
		file, err := f.config.Store.OpenFile(ctx, sum)
		if damaged, ok := errors.AsType[*store.DamagedError](err); ok && !again {
			f.config.Progress.Note("%s: %s was damaged, fetching it again", req.Name, damaged.Path)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("opening %s: %w", req.Name, err)
		}
		return file, nil
	}
}

// fetch brings one file into the store.
func (f *Fetcher) fetch(ctx context.Context, req Request) error {
	if err := req.check(); err != nil {
		return err
	}
	if _, ok, err := f.find(ctx, req); ok || err != nil {
		return err
	}
	d, err := f.config.Store.Download(ctx, req.Name, req.Sums)
	if err != nil {
		return fmt.Errorf("fetching %s: %w", req.Name, err)
	}
	defer d.Close()
	// Another goroutine or process may have fetched it while we waited.
	if _, ok, err := f.find(ctx, req); ok || err != nil {
		return err
	}
	urls, err := f.urls(req)
	if err != nil {
		return err
	}
	t := &transfer{Fetcher: f, req: req, d: d}
	err = f.tryAll(ctx, req.Name, urls, t.try)
	if t.task != nil {
		if err == nil {
			t.task.End("done")
		} else {
			t.task.End("failed")
		}
	}
	return err
}

// transfer is one file under way.
type transfer struct {
	*Fetcher
	req   Request
	d     *store.Download
	task  progress.Task // nil until the first byte may come
	shown int64         // bytes reported to task
}

// errRange says that a server can't continue where we stopped.
var errRange = errors.New("the server can't resume the download")

// try downloads from one URL. What was resumed and proves wrong is fetched
// once more from its beginning, because the bytes of before may be to blame.
func (t *transfer) try(ctx context.Context, url string, patience time.Duration) error {
	resumed, err := t.get(ctx, url, patience)
	if _, ok := errors.AsType[*DigestError](err); resumed && (ok || errors.Is(err, errRange)) {
		t.config.Progress.Note("%s: %v; starting again from its beginning", t.req.Name, err)
		if err := t.d.Reset("", ""); err != nil {
			return &storeError{err}
		}
		_, err = t.get(ctx, url, patience)
	}
	return err
}

// get downloads what is missing from one URL and commits the file. It reports
// whether the file began with bytes that were there before.
func (t *transfer) get(ctx context.Context, url string, patience time.Duration) (resumed bool, err error) {
	if from, _ := t.d.From(); t.req.As != "" && from != redact(url) && t.d.Size() > 0 {
		if err := t.d.Reset("", ""); err != nil { // bytes from elsewhere prove nothing
			return false, &storeError{err}
		}
	}
	have := t.d.Size()
	if have > 0 && have == t.req.Size {
		return true, t.commit(ctx, url) // interrupted just before its end
	}
	resp, err := t.request(t.choose(ctx, t.req, url), http.MethodGet, url, t.rangeHeader(url), patience)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()

	var total int64 // -1: not known
	switch {
	case resp.StatusCode == http.StatusPartialContent && have > 0:
		start, size, ok := parseContentRange(resp.Header.Get("Content-Range"))
		if !ok || start != have {
			return true, fmt.Errorf("%w: it sends %q after %d bytes", errRange, resp.Header.Get("Content-Range"), have)
		}
		total, resumed = size, true
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && have > 0:
		return true, errRange
	case resp.StatusCode == http.StatusOK:
		total = resp.ContentLength
		if err := t.d.Reset(redact(url), validator(resp)); err != nil {
			return false, &storeError{err}
		}
	default:
		return false, NewStatusError(resp)
	}
	if t.req.Size > 0 && total >= 0 && total != t.req.Size {
		return resumed, t.sizeError(url, total)
	}
	t.show(total)
	if err := t.receive(url, resp.Body, total); err != nil {
		return resumed, err
	}
	return resumed, t.commit(ctx, url)
}

// rangeHeader asks for what is missing, and for all of it should the file at
// the URL have changed since. From another URL than before no validator holds;
// then the digest alone decides whether the parts fit.
func (t *transfer) rangeHeader(url string) http.Header {
	have := t.d.Size()
	if have == 0 || t.req.Size > 0 && have > t.req.Size {
		return nil
	}
	header := http.Header{"Range": {fmt.Sprintf("bytes=%d-", have)}}
	if from, valid := t.d.From(); from == redact(url) && valid != "" {
		header.Set("If-Range", valid)
	}
	return header
}

// receive appends the body of a response to the download.
func (t *transfer) receive(url string, body io.Reader, total int64) error {
	limit := int64(maxUnsized)
	if t.req.Size > 0 {
		limit = t.req.Size
	} else if total >= 0 {
		limit = total
	}
	buf := make([]byte, 128<<10)
	for {
		n, err := body.Read(buf)
		if t.d.Size()+int64(n) > limit {
			_ = t.d.Reset("", "") // its beginning can't be trusted either
			return t.sizeError(url, -1)
		}
		if _, err := t.d.Write(buf[:n]); err != nil {
			return &storeError{err}
		}
		t.show(total)
		if err == io.EOF {
			break
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("the connection ended after %d of %d bytes", t.d.Size(), total)
		}
		if err != nil {
			return err
		}
	}
	// Without a length, a connection that ended early looks like the end.
	if t.d.Size() < t.req.Size {
		return fmt.Errorf("the connection ended after %d of %d bytes", t.d.Size(), t.req.Size)
	}
	return nil
}

func (t *transfer) commit(ctx context.Context, url string) error {
	_, err := t.d.Commit()
	if wrong, ok := errors.AsType[*manifest.DigestError](err); ok {
		return &DigestError{Name: t.req.Name, URL: redact(url), Got: string(wrong.Got), Want: string(wrong.Want), Mirror: t.mirrorOf(url)}
	}
	if err == nil && t.req.As != "" {
		err = t.config.Store.RecordFetched(ctx, t.req.Sums, t.req.fetched())
	}
	if err != nil {
		return &storeError{err}
	}
	return nil
}

// sizeError says that the file has another length than it must; got is -1
// where it is longer.
func (t *transfer) sizeError(url string, got int64) error {
	e := &DigestError{
		Name: t.req.Name, URL: redact(url), Mirror: t.mirrorOf(url),
		Got: fmt.Sprintf("%d bytes", got), Want: fmt.Sprintf("%d bytes", t.req.Size),
	}
	if got < 0 {
		e.Got = "longer"
	}
	if t.req.Size == 0 {
		e.Want = "as many bytes as the server announced"
	}
	return e
}

// show tells the display how many bytes there are.
func (t *transfer) show(total int64) {
	if t.task == nil {
		t.announcer.begin(t.req)
		t.task = t.config.Progress.Start("fetch", t.req.Name, max(t.req.Size, total))
	}
	if n := t.d.Size() - t.shown; n != 0 {
		t.task.Add(n)
		t.shown += n
	}
}

// parseContentRange reads "bytes 100-199/200" (RFC 9110, section 14.4). size
// is -1 where the server writes "*" for it.
func parseContentRange(s string) (start, size int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, all, ok2 := strings.Cut(s, "/")
	first, last, ok3 := strings.Cut(span, "-")
	start, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	size, err3 := strconv.ParseInt(all, 10, 64)
	if all == "*" {
		size, err3 = -1, nil
	}
	ok = ok && ok2 && ok3 && err1 == nil && err2 == nil && err3 == nil &&
		start >= 0 && end >= start && (size < 0 || end < size)
	return start, size, ok
}
