package smoke

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// call asks, for at most limit (0: callTime).
func (r *run) call(ctx context.Context, c call, limit time.Duration) output {
	if limit == 0 {
		limit = callTime
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	if c.url != "" {
		return head(ctx, c.url, r.Proxy)
	}
	cmd := r.command(ctx, c)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.stdin), &stdout, &stderr
	err := runCommand(cmd)
	out := output{stdout: stdout.String(), stderr: stderr.String()}
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		out.err = context.Cause(ctx)
	case exited:
		out.code = exit.ExitCode()
	case err != nil:
		out.err = err
	}
	return out
}

// command is the program of a call. It reads nobody's preferences (kuberc), and
// keeps what it learns about the API server in a directory of this run.
func (r *run) command(ctx context.Context, c call) *exec.Cmd {
	program, args := c.program, c.args
	if program == "" {
		program = r.Kubectl
		args = append([]string{"--kubeconfig", r.Kubeconfig, "--cache-dir", r.Dir}, args...)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(slices.Clone(r.Env), "KUBERC=off")
	cmd.SysProcAttr = attributes()
	cmd.WaitDelay = time.Second // for what it left behind with its output open
	return cmd
}

// runCommand runs a program on a thread of its own: it is killed when that thread
// ends, and so with this process, however that ends (go.dev/issue/27505).
func runCommand(cmd *exec.Cmd) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- cmd.Run()
	}()
	return <-done
}

// head asks a URL from this machine, by a connection of its own, through a proxy
// where there is one.
func head(ctx context.Context, address string, proxy *url.URL) output {
	transport := &http.Transport{DisableKeepAlives: true}
	if proxy != nil {
		transport.DialContext = tunnel(proxy)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return output{err: err}
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return output{err: err}
	}
	response.Body.Close()
	return output{stdout: fmt.Sprintf("%s %s\nServer: %s\n", response.Proto, response.Status, response.Header.Get("Server"))}
}

// forwarding is kubectl's line about the port that it took.
var forwarding = regexp.MustCompile(`^Forwarding from 127\.0\.0\.1:(\d+) -> `)

// forward asks nginx in a pod through `kubectl port-forward`, which ends with it. A
// connection that is refused ends kubectl, so it is started again for each try.
func (r *run) forward(ctx context.Context, c call) output {
	ctx, cancel := context.WithTimeoutCause(ctx, callTime, fmt.Errorf("no answer within %s", callTime))
	defer cancel()
	cmd := r.command(ctx, c)
	reader, writer := io.Pipe()
	var stderr bytes.Buffer
	first := &firstLine{w: writer}
	cmd.Stdout, cmd.Stderr = first, &stderr
	ended := make(chan error, 1)
	go func() {
		err := runCommand(cmd)
		writer.Close()
		ended <- err
	}()
	line, _ := io.ReadAll(reader)
	var out output
	if port := forwarding.FindSubmatch(line); port != nil {
		out = head(ctx, fmt.Sprintf("http://127.0.0.1:%s/", port[1]), nil)
	} else {
		out.code = 1
	}
	if ctx.Err() != nil {
		out.err = context.Cause(ctx)
	}
	cancel()
	<-ended
	out.stderr = stderr.String()
	return out
}

// firstLine passes on the first line that is written to it, and no more.
type firstLine struct {
	w    *io.PipeWriter
	text bytes.Buffer
	done bool
}

// Write implements io.Writer.
func (f *firstLine) Write(p []byte) (int, error) {
	if f.done {
		return len(p), nil
	}
	f.text.Write(p)
	if i := bytes.IndexByte(f.text.Bytes(), '\n'); i >= 0 {
		f.done = true
		_, _ = f.w.Write(f.text.Bytes()[:i]) // the reader reads to the end
		f.w.Close()
	}
	return len(p), nil
}
