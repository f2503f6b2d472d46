package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime/debug"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/embedded"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/store"
)

// openPrograms gives options the programs that go into images for architectures.
// A bake that `go install` built has to build them first.
func (h *host) openPrograms(ctx context.Context, options *source.Options, architectures ...arch.Arch) error {
	info, _ := debug.ReadBuildInfo()
	var err error
	options.Programs, err = embedded.Open(ctx, embedded.Config{
		Dir:     filepath.Join(options.Cache, store.ProgramsDir),
		Info:    info,
		Env:     h.env,
		Offline: options.Offline,
		Note:    func(format string, args ...any) { fmt.Fprintf(h.stderr, "bake: "+format+"\n", args...) },
	}, architectures...)
	return err
}
