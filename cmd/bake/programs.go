package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime/debug"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/embedded"
	"github.com/nodebake/bake/bake/manifest"
)

// openPrograms gives config the programs that go into images for architectures.
// A bake that `go install` built has to build them first.
func (h *host) openPrograms(ctx context.Context, config *bake.Config, architectures ...manifest.Arch) error {
	info, _ := debug.ReadBuildInfo()
	var err error
	config.Programs, err = embedded.Open(ctx, embedded.Config{
		Dir:     filepath.Join(config.Cache, "embedded"),
		Info:    info,
		Env:     h.env,
		Offline: config.Offline,
		Note:    func(format string, args ...any) { fmt.Fprintf(h.stderr, "bake: "+format+"\n", args...) },
	}, architectures...)
	return err
}
