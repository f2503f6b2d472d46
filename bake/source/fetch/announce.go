package fetch

import (
	"slices"
	"sync"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
)

// announcer tells a display how many files will be fetched. Several calls of
// Fetch may wait for the same file, of which one fetches it, or none where it
// comes to the store in another way, or is unavailable: it is announced once, and
// what does not begin is taken back.
type announcer struct {
	sink  progress.Sink
	mu    sync.Mutex
	files map[manifest.Digest]*announcement
}

// announcement is a file that some call waits for.
type announcement struct {
	waiting int  // calls
	began   bool // a task did
}

func newAnnouncer(sink progress.Sink) *announcer {
	return &announcer{sink: sink, files: map[manifest.Digest]*announcement{}}
}

// fileOf is what a file is known by here: SHA-256 where there is one.
func fileOf(req Request) manifest.Digest { return slices.Min(req.Sums) }

// expect announces those of reqs that nobody has. Each must be left.
func (a *announcer) expect(reqs []Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	more := 0
	for _, req := range reqs {
		file := a.files[fileOf(req)]
		if file == nil {
			file = &announcement{}
			a.files[fileOf(req)] = file
			more++
		}
		file.waiting++
	}
	progress.Expect(a.sink, more)
}

// begin says that a task for req is started.
func (a *announcer) begin(req Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if file := a.files[fileOf(req)]; file != nil {
		file.began = true
	}
}

// leave ends one wait for req.
func (a *announcer) leave(req Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	file := a.files[fileOf(req)]
	file.waiting--
	if file.waiting > 0 {
		return
	}
	delete(a.files, fileOf(req))
	if !file.began {
		progress.Expect(a.sink, -1)
	}
}
