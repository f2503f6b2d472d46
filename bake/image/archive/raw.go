package archive

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/image/extent"
)

// WriteRaw makes f hold l: what f held before is dropped, content is verified
// and written in place, zeroes are left out, so that f is sparse where its
// filesystem can be. Name, Epoch and Cache of o are not used. After any error
// what f holds is worthless. On Windows f is as large on the disk as l, unless
// the caller has marked it sparse.
func WriteRaw(ctx context.Context, f *os.File, l *extent.List, o Options) error {
	o = o.withDefaults()
	if err := l.Check(); err != nil {
		return err
	}
	for _, size := range []int64{0, l.Size} {
		if err := f.Truncate(size); err != nil {
			return fmt.Errorf("setting the size of %s: %w", f.Name(), err)
		}
	}
	shown := o.Progress.Start("write", DiskName, contentSize(l))
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan segment)
	g.Go(func() error {
		defer close(work)
		for s := range segments(l) {
			if s.pieces == nil {
				continue
			}
			select {
			case work <- s:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range o.Workers {
		g.Go(func() error {
			loader := &loader{}
			for s := range work {
				if err := ctx.Err(); err != nil {
					return err
				}
				content, err := loader.load(&s)
				if err != nil {
					return fmt.Errorf("writing %s: %w", s.describe(), err)
				}
				if _, err := f.WriteAt(content, s.offset); err != nil {
					return fmt.Errorf("writing %s: %w", s.describe(), err)
				}
				shown.Add(s.contentSize())
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		shown.End("failed")
		return err
	}
	shown.End("done")
	return nil
}
