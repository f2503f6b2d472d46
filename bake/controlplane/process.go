package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// process is a running program of the control plane. It ends with its context,
// and with this one, however that ends.
type process struct {
	name string
	pid  int
	log  string        // a file
	done chan struct{} // closed when it ended
	err  error         // why; to be read after done
}

// logSuffix is the end of the names of logs.
const logSuffix = ".log"

// start runs a program in dir, with its output in NAME.log there.
func start(ctx context.Context, dir, program string, args ...string) (*process, error) {
	p := &process{name: filepath.Base(program), done: make(chan struct{})}
	p.log = filepath.Join(dir, p.name+logSuffix)
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	// Nothing of the environment: these programs read proxies from it, and
	// kubectl's settings.
	cmd.Env = []string{"HOME=" + dir, "PATH=/usr/bin:/bin", "TMPDIR=" + dir}
	cmd.SysProcAttr = attributes()
	// What it keeps is thrown away, so there is nothing to end gracefully.
	cmd.Cancel = func() error { return cmd.Process.Kill() }
	started := make(chan error)
	go func() {
		// The process is killed when the thread that started it ends, and so
		// this one must not (go.dev/issue/27505).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			if ctx.Err() == nil {
				p.err = fmt.Errorf("%s ended by itself: %w", p.name, orZero(p.err))
			}
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	return p, nil
}

func orZero(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// ended returns why the process ended, if it did.
func (p *process) ended() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// tail returns the last lines of the log.
func (p *process) tail(lines int) string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(data, "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// waitFor calls try until it succeeds, ctx ends, or one of the processes does.
func waitFor(ctx context.Context, what string, processes []*process, try func(context.Context) error) error {
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		for _, p := range processes {
			if ended := p.ended(); ended != nil {
				return fmt.Errorf("waiting for %s: %w", what, ended)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (the last try: %w)", what, context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
