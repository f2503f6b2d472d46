package mirror

import (
	"context"
	"errors"

	"github.com/nodebake/bake/bake/progress"
)

// Report is what Check found. It encodes as JSON.
type Report struct {
	Mirror   string    `json:"mirror"`   // its directory
	Sets     []string  `json:"sets"`     // by name
	Entries  int       `json:"entries"`  // of the index
	Files    int       `json:"files"`    // blobs that were read
	Bytes    int64     `json:"bytes"`    // of them
	Problems []Problem `json:"problems"` // none: the mirror is as its index says
	Extra    []string  `json:"extra"`    // files that the index does not name, relative; no problem
}

// Problem is one thing that is wrong with a mirror.
type Problem struct {
	Kind string   `json:"kind"` // "missing", "altered", "size", "swapped", "link", "unreadable", "index"
	File string   `json:"file"` // relative to the mirror
	Name string   `json:"name"` // of the entry; empty where it is no entry's
	Path string   `json:"path"` // of the entry
	Sets []string `json:"sets"` // that need it
	What string   `json:"what"` // what is wrong and what to do
}

// Check reads every byte of the mirror in dir, an absolute path, with jobs
// processors; 0: all that Go uses.
func Check(ctx context.Context, dir string, jobs int, sink progress.Sink) (*Report, error) {
	return nil, errors.New("not implemented yet")
}
