// Firstboot configures a Kubernetes worker from its instance's metadata, and
// judges whether it became healthy.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nodebake/bake/firstboot"
)

const usage = `firstboot configures this machine as a Kubernetes worker from its metadata.

  firstboot                        configure (firstboot.service)
  firstboot health [-deadline D]   wait until the node is healthy (firstboot-health.service)
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "firstboot: failed:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return firstboot.Run(ctx, firstboot.Config{Log: stdout})
	}
	flags := flag.NewFlagSet("firstboot "+args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	deadline := flags.Duration("deadline", 5*time.Minute, "")
	if args[0] != "health" {
		flags.Usage()
		return fmt.Errorf("unknown command %q", args[0])
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	return firstboot.Health(ctx, firstboot.HealthConfig{Deadline: *deadline, Log: stdout})
}
