package main

import (
	"context"
	"errors"
	"strings"

	"github.com/nodebake/bake/bake/lock"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source"
)

// The exit codes, which scripts rely on.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitBadInput    = 3
	exitStale       = 4
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

func exitCode(ctx context.Context, err error) int {
	var usage *usageError
	var input *manifest.InputError
	var badInput *manifest.ArgumentError
	var noArch *manifest.MissingArchError
	var stale *manifest.StaleError
	var outdated *lock.OutdatedError
	var superseded *source.SupersededError
	switch {
	case err == nil:
		return exitDone
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &usage) || strings.HasPrefix(err.Error(), "unknown command"): // cobra has no type for it
		return exitUsage
	case errors.As(err, &stale) || errors.As(err, &outdated) || errors.As(err, &superseded):
		return exitStale
	case errors.As(err, &input) || errors.As(err, &badInput) || errors.As(err, &noArch):
		return exitBadInput
	}
	return exitFailed
}
