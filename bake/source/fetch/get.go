package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// ErrTooLarge is the error of a URL whose file is longer than Get was to take.
var ErrTooLarge = errors.New("the file is too large")

// ErrSettle is what an accept of Get returns for content that would do where
// nobody has better: other URLs are asked, and none is waited for.
var ErrSettle = errors.New("not what is looked for")

// rejectedError says why a file will not do.
type rejectedError struct{ err error }

func (e *rejectedError) Error() string { return e.err.Error() }
func (e *rejectedError) Unwrap() error { return e.err }

// Get returns a small file that no digest pins, such as a signed index, from
// the first URL whose content accept takes; nil takes any. More than limit bytes
// are an error. The error is an UnreachableError unless ctx has ended. The URLs
// must be of servers that the user named (see Config.PublicOnly).
func (f *Fetcher) Get(ctx context.Context, urls []string, limit int64, accept func(url string, content []byte) error) ([]byte, error) {
	return f.get(context.WithValue(ctx, ours{}, true), urls, limit, accept)
}

// GetForeign is Get for one URL that whoever wrote the versions file chose.
func (f *Fetcher) GetForeign(ctx context.Context, url string, limit int64) ([]byte, error) {
	return f.get(ctx, []string{url}, limit, nil)
}

func (f *Fetcher) get(ctx context.Context, urls []string, limit int64, accept func(url string, content []byte) error) ([]byte, error) {
	if len(urls) == 0 {
		return nil, &UnreachableError{Name: "a file"}
	}
	var content []byte
	err := f.tryAll(ctx, redact(urls[0]), urls, func(ctx context.Context, url string, patience time.Duration) error {
		resp, err := f.request(ctx, http.MethodGet, url, nil, patience)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return NewStatusError(resp)
		}
		if resp.ContentLength > limit {
			return fmt.Errorf("%w: %d bytes, at most %d are expected", ErrTooLarge, resp.ContentLength, limit)
		}
		content, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
		if err != nil {
			return err
		}
		if int64(len(content)) > limit {
			return fmt.Errorf("%w: more than the %d bytes that are expected", ErrTooLarge, limit)
		}
		if accept != nil {
			if err := accept(url, content); err != nil {
				return &rejectedError{err}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return content, nil
}
