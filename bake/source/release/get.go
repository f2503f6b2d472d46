package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

var errTooLarge = errors.New("the file is too large")

// Get returns a small file that no digest pins, such as a signed index, from
// the first URL that has it. More than limit bytes are an error. The caller
// must verify what it gets in another way.
func (f *Fetcher) Get(ctx context.Context, urls []string, limit int64) ([]byte, error) {
	if len(urls) == 0 {
		return nil, &UnreachableError{Name: "a file"}
	}
	var content []byte
	err := f.tryAll(ctx, redact(urls[0]), urls, func(ctx context.Context, url string) error {
		resp, err := f.request(ctx, http.MethodGet, url, nil, f.config.Stall)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return statusError(resp)
		}
		if resp.ContentLength > limit {
			return fmt.Errorf("%w: %d bytes, at most %d are expected", errTooLarge, resp.ContentLength, limit)
		}
		content, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
		if err != nil {
			return err
		}
		if int64(len(content)) > limit {
			return fmt.Errorf("%w: more than the %d bytes that are expected", errTooLarge, limit)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return content, nil
}
