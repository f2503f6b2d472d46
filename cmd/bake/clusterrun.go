package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"gvisor.dev/gvisor/pkg/log"

	"github.com/nodebake/bake/bake/cluster"
	"github.com/nodebake/bake/bake/vm"
)

// clusterSession is a cluster from its preparation on.
type clusterSession struct {
	*clusterFlags
	root         string
	dir          *cluster.Dir
	client       *cluster.Client
	watcher      clusterWatcher
	stopProgress func()
}

// untilHangup returns a context that ends with the terminal, too.
func untilHangup(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}

// quietNetwork keeps what the stack of the network logs about packets to itself.
// Some of its loggers have taken their target already.
func quietNetwork() {
	log.SetLevel(log.Warning)
	log.SetTarget(&log.Writer{Next: io.Discard})
}

// ending is when something ends, and why.
type ending struct {
	done chan struct{}
	err  error // after done
}

func whenEnded(run func() error) *ending {
	e := &ending{done: make(chan struct{})}
	go func() {
		defer close(e.done)
		e.err = run()
	}()
	return e
}

// runHere runs the cluster in this process, until Ctrl-C.
func (s *clusterSession) runHere(ctx context.Context, tools vm.Tools) error {
	quietNetwork()
	// Writing to a pipe that is closed shall fail, instead of ending us at once.
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	defer signal.Stop(pipes)
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := whenEnded(func() error { return cluster.Run(running, s.dir, s.config, tools, s.host.now) })
	status, ready := s.watcher.follow(running, s.client, ended.done)
	s.stopProgress()
	var printErr error
	if ready {
		if printErr = s.host.printCluster(status, s.asJSON); printErr != nil {
			cancel()
		} else {
			s.host.say(fmt.Sprintf("cluster %s runs until Ctrl-C, and keeps nothing", s.config.Name))
			s.noteWorkers(running, status, ended.done)
		}
	}
	<-ended.done
	switch {
	case ctx.Err() != nil:
		return &endedError{fmt.Sprintf("interrupted; cluster %s has ended", s.config.Name)}
	case printErr != nil:
		return printErr
	case ended.err == nil:
		s.host.say(fmt.Sprintf("cluster %s was deleted", s.config.Name))
	}
	return s.keptLogs(ended.err)
}

// keptLogs says where the logs of a cluster are that failed.
func (s *clusterSession) keptLogs(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\nits logs are kept until it is started again or deleted: bake cluster logs --name %s --output DIR", err, s.config.Name)
}

// noteWorkers says when a worker's state changes, until the cluster ends.
func (s *clusterSession) noteWorkers(ctx context.Context, last cluster.Status, ended <-chan struct{}) {
	states := map[string]cluster.WorkerState{}
	for _, w := range last.Workers {
		states[w.Name] = w.State
	}
	for {
		select {
		case <-ended:
			return
		case <-ctx.Done():
			return
		case <-time.After(noteTime):
		}
		status, err := s.client.Status(ctx)
		if err != nil {
			continue
		}
		for _, w := range status.Workers {
			if states[w.Name] != w.State {
				states[w.Name] = w.State
				s.host.say(strings.TrimSuffix(fmt.Sprintf("%s is %s: %s", w.Name, w.State, w.Message), ": "))
			}
		}
	}
}

// noteTime is the pause between two looks at a cluster that runs.
const noteTime = 2 * time.Second

// runDetached runs the cluster in a process of its own.
func (s *clusterSession) runDetached(ctx context.Context) error {
	cmd, err := s.supervisor()
	if err != nil {
		return errors.Join(err, s.dir.Remove())
	}
	if err := s.dir.Handover(&s.config); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("starting the cluster's process: %w", err), s.delete(ctx))
	}
	ended := whenEnded(cmd.Wait)
	status, ready := s.watcher.follow(ctx, s.client, ended.done)
	s.stopProgress()
	switch {
	case ready:
		s.host.say(fmt.Sprintf("cluster %s runs in process %d, and keeps nothing; bake cluster delete --name %s ends it", s.config.Name, status.PID, s.config.Name))
		return s.host.printCluster(status, s.asJSON)
	case ctx.Err() != nil:
		if err := s.delete(ctx); err != nil {
			return err
		}
		return &endedError{fmt.Sprintf("interrupted; cluster %s has ended", s.config.Name)}
	}
	return s.keptLogs(s.whyEnded(ended.err))
}

// delete ends the cluster, also where ctx has.
func (s *clusterSession) delete(ctx context.Context) error {
	return cluster.Delete(context.WithoutCancel(ctx), s.root, s.config.Name)
}

// supervisor returns the command that runs the cluster: this program again, without
// a terminal.
func (s *clusterSession) supervisor() (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	out, err := os.OpenFile(s.dir.LogFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making the log of the cluster's process: %w", err)
	}
	cmd := exec.Command(program, "cluster", "supervise", "--name", s.config.Name)
	cmd.Args[0] = os.Args[0]
	cmd.Dir, cmd.Env = "/", s.host.env
	cmd.Stdout, cmd.Stderr = out, out
	detachFromTerminal(cmd)
	return cmd, nil
}

// whyEnded says why the cluster's process has ended before it ran.
func (s *clusterSession) whyEnded(err error) error {
	status, statusErr := s.client.Status(context.Background())
	if statusErr == nil && status.Error != "" {
		reason, more, _ := strings.Cut(status.Error, "\n")
		if more == "" {
			return errors.New(reason)
		}
		return fmt.Errorf("%w\n%s", errors.New(reason), more) // shown as the error itself would be
	}
	text, _ := os.ReadFile(s.dir.LogFile())
	return fmt.Errorf("the cluster's process ended (%v): %s", err, strings.TrimSpace(string(text)))
}

// newClusterSupervise is the command of the process that --detach leaves.
func newClusterSupervise(h *host) *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:    "supervise --name NAME",
		Short:  "Run a cluster that bake cluster --detach has prepared",
		Hidden: true,
		Args:   noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			root, err := h.clusterRoot()
			if err != nil {
				return err
			}
			dir, config, err := cluster.Resume(root, name)
			if err != nil {
				return err
			}
			quietNetwork()
			tools, err := cluster.FindTools(c.Context(), config.Image, vm.FirmwareDirs())
			if err != nil {
				return errors.Join(err, dir.Remove())
			}
			return cluster.Run(c.Context(), dir, config, tools, h.now)
		},
	}
	addClusterName(c, &name)
	return c
}
