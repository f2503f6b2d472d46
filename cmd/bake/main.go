// Bake composes Google Compute Engine images for Kubernetes worker nodes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
)

func main() { os.Exit(start(time.Now, nil)) }

// start runs the program on this machine and returns its exit code.
func start(now func() time.Time, keyring []byte) int {
	// A bake holds a few ten megabytes and makes as much garbage again: collecting
	// half as often takes a twentieth off a bake that changes nothing, for 40 MB.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second Ctrl-C ends the program at once, whatever it is doing; but not
	// within the first second, which cleaning up needs: timeout(1), for one,
	// sends its signal to the program and again to its group.
	context.AfterFunc(ctx, func() {
		time.Sleep(time.Second)
		stop()
	})
	host := &host{
		env:      os.Environ(),
		stdout:   os.Stdout,
		stderr:   os.Stderr,
		terminal: drawsOn(os.Stderr),
		size:     progress.TerminalSize(os.Stderr),
		now:      now,
		began:    now(),
		keyring:  keyring,
	}
	err := run(ctx, host, os.Args[1:])
	if err != nil {
		host.report(err)
	}
	return exitCode(ctx, err)
}

// host is what commands know of the machine that they run on.
type host struct {
	env      []string
	stdout   io.Writer
	stderr   io.Writer
	terminal bool                       // stderr is one
	size     func() (columns, rows int) // of that terminal
	now      func() time.Time
	began    time.Time // when the program started
	shown    shown     // set by flags
	keyring  []byte    // of Debian's archives; nil: those that are built in
}

// print writes what was made to stdout: its digest and path in one line, or
// everything as JSON.
func (h *host) print(sum manifest.Digest, path string, result any, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(h.stdout).Encode(result)
	}
	var l lines
	l.add("%s %s", sum, path)
	return l.print(h.stdout)
}

// run executes one command line.
func run(ctx context.Context, h *host, args []string) error {
	root := newRoot(h)
	root.SetArgs(args)
	root.SetOut(h.stdout)
	root.SetErr(h.stderr)
	err := root.ExecuteContext(ctx)
	if _, ok := errors.AsType[*endedError](err); ok {
		return err
	}
	switch {
	case err == nil || ctx.Err() == nil:
		return err
	case errors.Is(err, context.Canceled):
		return &endedError{"interrupted, run again to continue"}
	}
	return fmt.Errorf("interrupted, run again to continue: %w", err)
}

func newRoot(h *host) *cobra.Command {
	root := &cobra.Command{
		Use:   "bake",
		Short: "Build Compute Engine images for Kubernetes workers",
		Long: `Bake builds an image for Kubernetes workers on Compute Engine out of pinned parts:
Debian packages, released programs, container images, systemd units and
firstboot. It needs no root, no virtual machine and no container, and the same
inputs give the same bytes.`,
		Example: `  bake lock  --versions versions.yaml   resolve the OS packages, once
  bake image --versions versions.yaml   build the image
  bake node  worker-0 --server URL ...  make a worker's metadata
  bake run   IMAGE --metadata DIR       try both in QEMU
  bake cluster IMAGE                    run a cluster of them here`,
		Annotations:       map[string]string{exitCodes: "0 done, 1 failed, 2 wrong usage, 3 bad input, 4 the lock is stale, 130 interrupted"},
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w (see `%s --help`)", err, c.CommandPath())}
	})
	root.AddCommand(newImage(h), newLock(h), newMirror(h), newInspect(h), newLint(h), newVerify(h), newNode(h), newKubeconfig(h), newRoutes(h), newDNS(h), newSmoke(h), newCache(h), newRun(h), newCluster(h), newVersion(h))
	addCompletions(h, root)
	root.SetHelpFunc(func(c *cobra.Command, _ []string) {
		if err := writeHelp(c.OutOrStdout(), c); err != nil {
			c.PrintErrln(err)
		}
	})
	return root
}

// noArgs refuses arguments as wrong usage; exactArgs wants n of them.
func noArgs(c *cobra.Command, args []string) error { return exactArgs(0)(c, args) }

func exactArgs(n int) cobra.PositionalArgs { return rangeArgs(n, n) }

func rangeArgs(low, high int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if n := len(args); n < low || n > high {
			return &usageError{fmt.Errorf("%s takes %s, not %d (see `%s --help`)", c.CommandPath(), countArgs(low, high), n, c.CommandPath())}
		}
		return nil
	}
}

func countArgs(low, high int) string {
	switch {
	case high == 0:
		return "no arguments"
	case low == high && low == 1:
		return "1 argument"
	case low == high:
		return fmt.Sprintf("%d arguments", low)
	}
	return fmt.Sprintf("%d to %d arguments", low, high)
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// requireFlag is a usage error unless value was given.
func requireFlag(c *cobra.Command, name, value string) error {
	if value == "" {
		return &usageError{fmt.Errorf("--%s is required (see `%s --help`)", name, c.CommandPath())}
	}
	return nil
}
