package fetch

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/progress/progresstest"
)

// TestAnnounced counts tasks where several calls want the same files: as many
// are announced as are started and end.
func TestAnnounced(t *testing.T) {
	t.Parallel()
	content := func(i int) []byte { return fmt.Appendf(nil, "file %d", i) }
	const files, calls = 20, 3
	tests := []struct {
		name      string
		reqs      func(reqs []Request) []Request
		open      bool // the last file meanwhile
		interrupt bool
		fails     string // what is in the error
		tasks     int    // -1: it depends on who is first
		announced int    // at most
	}{
		{name: "each once", tasks: files, announced: files},
		{
			name: "some twice", tasks: files, announced: files,
			reqs: func(reqs []Request) []Request { return append(reqs, reqs[:5]...) },
		},
		{
			name: "some by their other digest", tasks: -1, announced: files + 5,
			reqs: func(reqs []Request) []Request {
				for i := range 5 {
					other := reqs[i]
					other.Sums = []manifest.Digest{manifesttest.Digest512(content(i))}
					reqs[i].Sums = append(other.Sums, reqs[i].Sums...)
					reqs = append(reqs, other)
				}
				return reqs
			},
		},
		{
			name: "one is absent", tasks: files - 1, announced: files, fails: "404 Not Found",
			reqs: func(reqs []Request) []Request {
				reqs[3].URLs[0] += "/absent"
				return reqs
			},
		},
		{name: "one is opened", tasks: files, announced: files, open: true},
		{name: "interrupted", tasks: 0, announced: files, fails: "context canceled", interrupt: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			// Nothing is served before every call has announced what it wants.
			all := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-all:
				case <-r.Context().Done():
					return
				}
				i, err := strconv.Atoi(r.URL.Path[1:])
				if err != nil {
					http.NotFound(w, r)
					return
				}
				w.Write(content(i))
			}))
			defer server.Close()
			shown := &progresstest.Recorder{}
			f := newFetcher(t, func(c *Config) { c.Progress = shown })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var group sync.WaitGroup
			errs := make([]error, calls)
			var last Request
			for call := range calls {
				var reqs []Request
				for i := range files {
					reqs = append(reqs, request(content(i), fmt.Sprintf("%s/%d", server.URL, i)))
				}
				last = reqs[files-1]
				if test.reqs != nil {
					reqs = test.reqs(reqs)
				}
				group.Go(func() { errs[call] = f.Fetch(ctx, reqs) })
			}
			for f.announcer.waiting(last) < calls {
				time.Sleep(time.Millisecond)
			}
			if test.interrupt {
				cancel()
				group.Wait()
			}
			if test.open {
				group.Go(func() {
					file, err := f.Open(ctx, last)
					if err != nil {
						t.Error(err)
						return
					}
					file.Close()
				})
			}
			close(all)
			group.Wait()
			for _, err := range errs {
				if (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) {
					t.Errorf("Fetch = %v; want %q", err, test.fails)
				}
			}
			if test.tasks < 0 {
				test.tasks = shown.Started
			}
			want := progresstest.Counts{Expected: test.tasks, Started: test.tasks, Ended: test.tasks}
			if diff := cmp.Diff(want, shown.Counts); diff != "" {
				t.Errorf("tasks (-want +got):\n%s", diff)
			}
			if shown.Highest > test.announced {
				t.Errorf("%d tasks were announced; want %d at most", shown.Highest, test.announced)
			}
			if left := len(f.announcer.files); left > 0 {
				t.Errorf("%d files are still waited for", left)
			}
		})
	}
}

// waiting is how many calls wait for req.
func (a *announcer) waiting(req Request) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if file := a.files[fileOf(req)]; file != nil {
		return file.waiting
	}
	return 0
}
