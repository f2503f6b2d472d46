package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/unixsocket"
)

// ErrNotRunning says that no process of a cluster answers.
var ErrNotRunning = errors.New("it does not run")

// Client asks the process of a cluster.
type Client struct {
	name string
	dir  string
	http *http.Client
}

// NewClient returns a client of the cluster called name below root.
func NewClient(root, name string) *Client {
	dir := filepath.Join(root, name)
	return &Client{name: name, dir: dir, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return unixsocket.Dial(ctx, dir, socketFile)
		},
	}}}
}

// Status asks for the cluster's status. Of one that does not run it is what was
// written last, with the phase Ended where that was to go on.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.do(ctx, http.MethodGet, statusPath, nil, &s)
	if !errors.Is(err, ErrNotRunning) {
		return s, err
	}
	s, err = readStatus(c.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Status{Name: c.name, Phase: Ended}, nil
	case err != nil:
		return s, err
	case s.Phase == Preparing && isAlive(s.PID):
	case s.Phase != Failed:
		s.Phase = Ended
	}
	return s, nil
}

// Add lets a worker join: see [Cluster.Add].
func (c *Client) Add(ctx context.Context, name string, replace bool) error {
	return c.do(ctx, http.MethodPost, workersPath, addBody{name, replace}, nil)
}

// do sends a request. A nil in has no body, and a nil out wants none.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encoding a request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://cluster"+path, body)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.explain(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return readError(response)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(out); err != nil {
		return fmt.Errorf("reading the answer of cluster %s: %w", c.name, err)
	}
	return nil
}

// explain says what it means that a request was not answered.
func (c *Client) explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF):
		return fmt.Errorf("cluster %s: %w", c.name, ErrNotRunning)
	}
	return fmt.Errorf("asking cluster %s: %w", c.name, err)
}

func readError(response *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	var body errorBody
	if json.Unmarshal(text, &body) != nil || body.Error == "" {
		return fmt.Errorf("the cluster's process answers %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	if body.Input {
		return &manifest.ArgumentError{Err: errors.New(body.Error)}
	}
	return errors.New(body.Error)
}

// endTime is how long a process may take to end.
const endTime = time.Minute

// Delete ends the cluster called name below root, whatever it is at, and removes
// what it has.
func Delete(ctx context.Context, root, name string) error {
	if !Exists(root, name) {
		return &manifest.ArgumentError{Err: fmt.Errorf("there is no cluster %s%s", name, others(root))}
	}
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	pid := 0
	for {
		d, err := hold(root, name)
		running, held := errors.AsType[*RunningError](err)
		switch {
		case err == nil:
			err = d.Remove()
			waitForEnd(ctx, pid)
			return err
		case !held:
			return err
		}
		pid = running.PID
		err = NewClient(root, name).do(ctx, http.MethodDelete, clusterPath, nil, nil)
		switch {
		case errors.Is(err, ErrNotRunning) && pid != 0:
			signalEnd(pid) // it is preparing, and can't be asked yet
		case err != nil && !errors.Is(err, ErrNotRunning):
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("ending cluster %s: process %d goes on: %w", name, pid, ctx.Err())
		case <-time.After(checkTime / 5):
		}
	}
}

// others names the clusters that there are, for an error.
func others(root string) string {
	names, err := Names(root)
	if err != nil || len(names) == 0 {
		return ""
	}
	return " (there is: " + strings.Join(names, ", ") + ")"
}

// waitForEnd waits until a process has ended.
func waitForEnd(ctx context.Context, pid int) {
	for pid != os.Getpid() && isAlive(pid) && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(checkTime / 10):
		}
	}
}

// isAlive reports whether there is a process.
func isAlive(pid int) bool {
	process, err := os.FindProcess(pid)
	return pid > 0 && err == nil && process.Signal(syscall.Signal(0)) == nil
}

// signalEnd asks a process to end.
func signalEnd(pid int) {
	if process, err := os.FindProcess(pid); err == nil {
		process.Signal(syscall.SIGTERM)
	}
}
