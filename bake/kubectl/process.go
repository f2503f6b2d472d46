package kubectl

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"time"
)

// Output is what a program printed, and how it ended.
type Output struct {
	Stdout, Stderr string
	Code           int // the exit code; that of the program in the pod for `kubectl exec`
}

// endTime is how long kubectl may take to end once it is told to.
const endTime = 5 * time.Second

// command is a call of kubectl.
func (k Kubectl) command(ctx context.Context, args []string) *exec.Cmd {
	var all []string
	if k.Kubeconfig != "" {
		all = append(all, "--kubeconfig="+k.Kubeconfig)
	}
	if k.CacheDir != "" {
		all = append(all, "--cache-dir="+k.CacheDir)
	}
	return command(ctx, k.Path, k.Env, append(all, args...))
}

// Program runs another program as Ask runs kubectl.
func Program(ctx context.Context, path string, env []string, args ...string) (Output, error) {
	return ask(ctx, command(ctx, path, env, args), nil)
}

func command(ctx context.Context, path string, env, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(slices.Clone(env), "KUBERC=off") // nobody's preferences
	cmd.SysProcAttr = attributes()
	// It may clean up, as at Ctrl-C.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = endTime
	return cmd
}

func ask(ctx context.Context, cmd *exec.Cmd, input []byte) (Output, error) {
	out, err := run(ctx, cmd, input)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		out.Code, err = exit.ExitCode(), nil
	}
	return out, err
}

// run runs a program with input. An error is why ctx ended, or what exec says.
func run(ctx context.Context, cmd *exec.Cmd, input []byte) (Output, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	err := tied(cmd)
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	return Output{Stdout: stdout.String(), Stderr: stderr.String()}, err
}

// tied runs a program on a thread of its own: it is killed when that thread ends,
// and so with this process, however that ends (go.dev/issue/27505).
func tied(cmd *exec.Cmd) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- cmd.Run()
	}()
	return <-done
}

// forwarding is kubectl's line about the port that it took.
var forwarding = regexp.MustCompile(`^Forwarding from (127\.0\.0\.1:\d+) -> `)

// Forward runs `kubectl port-forward` with args, which give no port of this machine,
// calls use with the address that kubectl took, and ends kubectl. A connection that
// is refused ends kubectl too. Where it took none, its exit code is not 0.
func (k Kubectl) Forward(ctx context.Context, use func(address string), args ...string) (Output, error) {
	running, end := context.WithCancel(ctx)
	defer end()
	cmd := k.command(running, append([]string{"port-forward"}, args...))
	first := &firstLine{found: make(chan struct{})}
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = first, &stderr
	ended := make(chan error, 1)
	go func() { ended <- tied(cmd) }()
	var err error
	select {
	case <-first.found:
	case err = <-ended:
		ended <- err
	}
	out := Output{}
	if port := forwarding.FindSubmatch(first.line()); port != nil {
		use(string(port[1]))
	} else {
		out.Code = 1
	}
	end()
	err = <-ended
	out.Stdout, out.Stderr = first.text.String(), stderr.String()
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return out, context.Cause(ctx)
	case exited && out.Code != 0:
		out.Code = max(exit.ExitCode(), out.Code) // -1 where the signal to end was first
	case err != nil && !exited && !errors.Is(err, context.Canceled):
		return out, err
	}
	return out, nil
}

// firstLine keeps what is written to it up to the end of a line.
type firstLine struct {
	text  bytes.Buffer
	found chan struct{} // closed when the line is there
	done  bool
}

// Write implements io.Writer.
func (f *firstLine) Write(p []byte) (int, error) {
	n := len(p)
	if f.done {
		return n, nil
	}
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		p, f.done = p[:i+1], true
	}
	f.text.Write(p)
	if f.done {
		close(f.found)
	}
	return n, nil
}

// line is what was written, when that is found or no more comes.
func (f *firstLine) line() []byte { return bytes.TrimSuffix(f.text.Bytes(), []byte("\n")) }
