// Firstboot makes the machine that it runs on the Kubernetes worker that its
// instance's metadata describe, and checks whether it became one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/nodebake/bake/firstboot"
	"github.com/nodebake/bake/firstboot/nvme"
	"github.com/nodebake/bake/firstboot/report"
)

const usage = `firstboot makes this machine the Kubernetes worker that its metadata describe.

  firstboot                       configure this machine (firstboot.service)
  firstboot health [--deadline D] wait until the node is healthy
                                  (firstboot-health.service; D is 5m by default)
  firstboot --dry-run [--root DIR] [--image FILE] [--metadata FILE|URL]
                                  show what would be written below DIR (/) and
                                  started, and change nothing. Metadata come from
                                  this machine's server, another one
                                  (http://127.0.0.1:8080), or a file with its
                                  recursive JSON
  firstboot disk-name DEVICE      print ID_GOOGLE_NAME=NAME, the name under which
                                  Compute Engine attached an NVMe disk, for udev;
                                  nothing for a disk of another maker
  firstboot --version

What was said and why is in: systemctl status firstboot; journalctl -u firstboot
Exit codes: 0 done, 1 failed, 2 wrong usage.
`

// memoryLimit is where garbage is collected after all; metadata are 4 MiB at most.
const memoryLimit = 48 << 20

// errUsage is for what was said about a wrong command line already.
var errUsage = errors.New("see firstboot --help")

func main() {
	// It runs for a moment or waits, beside a node that starts: collecting
	// garbage earlier than this is time taken from that, and so are threads
	// that look for work on a second processor.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "firstboot: %v\n", err)
		os.Exit(2)
	case errors.Is(err, errReported):
		os.Exit(1)
	default:
		fmt.Fprintf(os.Stderr, "firstboot: %s\n", report.OneLine(err.Error()))
		os.Exit(1)
	}
}

// errReported is for failures that the library reported, where it belongs and
// once in a boot.
var errReported = errors.New("reported")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	command := "firstboot"
	if len(args) > 0 && args[0] == "health" {
		command, args = "firstboot health", args[1:]
	}
	if len(args) > 0 && args[0] == "disk-name" {
		return diskName(args[1:], stdout)
	}
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var (
		dryRun   = flags.Bool("dry-run", false, "")
		root     = flags.String("root", "/", "")
		image    = flags.String("image", "", "")
		source   = flags.String("metadata", "", "")
		version  = flags.Bool("version", false, "")
		deadline = flags.Duration("deadline", 5*time.Minute, "")
	)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", err, errUsage)
	case flags.NArg() > 0:
		return fmt.Errorf("unknown command %q: %w", flags.Arg(0), errUsage)
	}
	for _, f := range []struct {
		name   string
		belong bool
		to     string
	}{
		{"deadline", command == "firstboot health", "health"},
		{"root", *dryRun, "--dry-run"}, {"image", *dryRun, "--dry-run"}, {"metadata", *dryRun, "--dry-run"},
		{"dry-run", command == "firstboot", "firstboot without a command"}, {"version", command == "firstboot", "firstboot without a command"},
	} {
		if isSet(flags, f.name) && !f.belong {
			return fmt.Errorf("--%s belongs to %s: %w", f.name, f.to, errUsage)
		}
	}

	switch {
	case *version:
		fmt.Fprintln(stdout, versionLine())
		return nil
	case *dryRun:
		c := firstboot.DryRunConfig{Root: *root, Image: *image, MetadataFile: *source, Out: stdout}
		c.Metadata.Waiting = once(stderr)
		if strings.HasPrefix(*source, "http://") || strings.HasPrefix(*source, "https://") {
			c.MetadataFile, c.Metadata.Endpoints = "", []string{strings.TrimSuffix(*source, "/")}
		}
		return firstboot.DryRun(ctx, c)
	}
	status := func(text string) {
		// Not started by systemd there is nobody to tell.
		_, _ = daemon.SdNotify(false, "STATUS="+text)
	}
	var err error
	if command == "firstboot health" {
		err = firstboot.Health(ctx, firstboot.HealthConfig{Deadline: *deadline, Log: stderr, Status: status})
	} else {
		err = firstboot.Run(ctx, firstboot.Config{Log: stderr, Status: status})
	}
	if err == nil || ctx.Err() != nil {
		return nil // stopped by systemd: no failure
	}
	return fmt.Errorf("%w: %w", errReported, err)
}

func diskName(args []string, stdout io.Writer) error {
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		return fmt.Errorf("disk-name takes one device, such as /dev/nvme0n1: %w", errUsage)
	}
	name, err := nvme.DeviceName(args[0])
	if err == nil && name != "" {
		fmt.Fprintf(stdout, "ID_GOOGLE_NAME=%s\n", name)
	}
	return err
}

func isSet(flags *flag.FlagSet, name string) (set bool) {
	flags.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// once prints each reason for waiting once.
func once(w io.Writer) func(error) {
	said := map[string]bool{}
	return func(err error) {
		if !said[err.Error()] {
			said[err.Error()] = true
			fmt.Fprintf(w, "firstboot: waiting for the metadata server: %v\n", err)
		}
	}
}

// versionLine says what this program was built from, as far as Go recorded it.
func versionLine() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "firstboot (unknown)"
	}
	version := info.Main.Version
	if version == "" {
		version = "(devel)"
	}
	return "firstboot " + version + " " + info.GoVersion
}
