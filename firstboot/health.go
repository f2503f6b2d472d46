package firstboot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/firstboot/report"
	"github.com/nodebake/bake/firstboot/services"
)

// crictl asks the runtime over its socket; the path is the guide's. A gRPC
// client of our own would double the size of this program.
const (
	crictl        = "/usr/local/bin/crictl"
	runtimeSocket = "/run/containerd/containerd.sock"
)

// kubeletHealth is the default of kubelet's healthzBindAddress and healthzPort.
const kubeletHealth = "http://127.0.0.1:10248/healthz"

// HealthConfig says what Health looks at. Deadline and Log are required.
type HealthConfig struct {
	Root     string          // "/" where empty
	Deadline time.Duration   // how long the node may take to become healthy
	Metadata metadata.Config // of the client that writes guest attributes
	Machine  Machine
	Log      io.Writer
	Status   func(string) // what `systemctl status firstboot-health` shows; may be nil

	Pause      time.Duration // between two looks; 250 ms where 0
	Socket     string        // the runtime's; runtimeSocket where empty
	KubeletURL string        // kubeletHealth where empty
	ProxyURL   string        // proxyHealth where empty
	// Settled is how long a healthy node waits for firstboot, which a boot with
	// an earlier configuration does not need, and for kube-proxy, before its API
	// server is asked; 15 s where 0.
	Settled time.Duration
	// Rest is how long systemd is left alone after the node became healthy, before
	// it rereads its files; 30 s where 0.
	Rest time.Duration

	// RuntimeInfo returns what `crictl info` prints, or an error that is
	// fs.ErrNotExist in an image without crictl; nil runs it.
	RuntimeInfo func(context.Context) ([]byte, error)
	// ProxyMayList tries kube-proxy's kubeconfig; nil does so.
	ProxyMayList func(context.Context) error
	// Reload makes systemd reread its files; systemd's where nil.
	Reload func(context.Context) error
}

func (c HealthConfig) withDefaults() HealthConfig {
	if c.Root == "" {
		c.Root = "/"
	}
	if c.Status == nil {
		c.Status = func(string) {}
	}
	if c.Pause == 0 {
		c.Pause = 250 * time.Millisecond
	}
	if c.Socket == "" {
		c.Socket = runtimeSocket
	}
	if c.KubeletURL == "" {
		c.KubeletURL = kubeletHealth
	}
	if c.ProxyURL == "" {
		c.ProxyURL = proxyHealth
	}
	if c.ProxyMayList == nil {
		root := c.Root
		c.ProxyMayList = func(ctx context.Context) error { return proxyMayList(ctx, root) }
	}
	if c.Settled == 0 {
		c.Settled = 15 * time.Second
	}
	if c.Rest == 0 {
		c.Rest = 30 * time.Second
	}
	if c.RuntimeInfo == nil {
		c.RuntimeInfo = runtimeInfo
	}
	if c.Reload == nil {
		c.Reload = reload
	}
	c.Machine = c.Machine.withDefaults()
	return c
}

func reload(ctx context.Context) error {
	manager, err := services.Dial(ctx, "/")
	if err != nil {
		return err
	}
	defer manager.Close()
	return manager.Reload(ctx)
}

// health is one look at the node, until it is healthy or the deadline.
type health struct {
	HealthConfig
	reporter report.Reporter
	phases   report.Phases // those that it fills in
	runtime  string        // as in report.Ready
	proxy    string        // the same

	proxySince time.Time // when kube-proxy was looked at first, or its API server asked
}

// Health waits until the container runtime, its network, the kubelet and
// kube-proxy are ready, and reports that, or what was still missing at the
// deadline. A kube-proxy that reaches no API server is not waited for.
func Health(ctx context.Context, c HealthConfig) error {
	h := &health{HealthConfig: c.withDefaults(), runtime: "ready"}
	h.reporter = report.Reporter{Dir: filepath.Join(h.Root, stateDir), Console: h.Machine.Console, Guest: metadata.New(h.Metadata).PutGuestAttribute}
	err := h.wait(ctx)
	switch {
	case err == nil:
		err = h.ready(ctx)
	case ctx.Err() != nil: // stopped
	default:
		h.Status("failed: " + report.OneLine(err.Error()))
		isNew, reportErr := h.reporter.Failed(ctx, err.Error())
		if isNew {
			fmt.Fprintf(h.Log, "firstboot: failed: %s\n", report.OneLine(err.Error()))
		}
		h.logReport(reportErr)
	}
	return err
}

func (h *health) logReport(err error) {
	if err != nil && !errors.Is(err, metadata.ErrDisabled) {
		fmt.Fprintf(h.Log, "firstboot: reporting: %s\n", report.OneLine(err.Error()))
	}
}

// wait passes through the checks, cheapest first: while the node starts, every
// run of crictl, a program of 28 MB, would make it start later. So the socket
// and kubelet's own answer are asked for often, and crictl only behind them.
func (h *health) wait(ctx context.Context) error {
	deadline := time.Now().Add(h.Deadline)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	for _, check := range []struct {
		status string
		look   func(context.Context) error
		phase  *int64
		pause  time.Duration
	}{
		{"waiting for the container runtime", h.checkSocket, &h.phases.Containerd, h.Pause},
		{"waiting for the kubelet", h.checkKubelet, &h.phases.Kubelet, h.Pause},
		{"waiting for the runtime's network", h.checkRuntime, &h.phases.Healthy, 4 * h.Pause},
		{"waiting for kube-proxy", h.checkProxy, nil, 4 * h.Pause},
	} {
		h.Status(check.status)
		var last error // of a look that the deadline did not cut short
		for {
			err := check.look(ctx)
			if err == nil {
				if check.phase != nil {
					*check.phase = h.Machine.Uptime().Milliseconds()
				}
				break
			}
			if errors.Is(err, errRefused) {
				return err
			}
			// A dial ends at the deadline too, perhaps a moment before ctx does.
			if time.Now().Before(deadline) || last == nil {
				last = err
			}
			if !sleep(ctx, check.pause) {
				return fmt.Errorf("the node is not healthy within %v: %w", h.Deadline, last)
			}
		}
	}
	return nil
}

// ready reports, once firstboot has said what is configured: after a reboot the
// node may be healthy before the metadata server answers.
func (h *health) ready(ctx context.Context) error {
	state, err := h.reporter.State()
	for waited := time.Duration(0); err == nil && state.Phases.Enqueued == 0 && waited < h.Settled; waited += h.Pause {
		if !sleep(ctx, h.Pause) {
			return ctx.Err()
		}
		state, err = h.reporter.State()
	}
	h.logReport(err)
	ready := report.Ready{
		Node: state.Node, Lock: state.Lock, Credentials: state.Credentials, Configuration: "current", Runtime: h.runtime, Proxy: h.proxy,
		Attempts: state.Attempts, Changed: state.Changed, CPU: state.CPU, Phases: state.Phases,
	}
	if state.Phases.Enqueued == 0 {
		ready.Configuration = "earlier"
	}
	ready.Phases.Containerd, ready.Phases.Kubelet, ready.Phases.Healthy = h.phases.Containerd, h.phases.Kubelet, h.phases.Healthy
	_, err = h.reporter.Ready(ctx, ready)
	h.logReport(err)
	h.Status("the node is healthy")

	// See services.Result. Not at once: kubelet is registering the node. Where
	// this is stopped before, the next boot needs no reload.
	err = h.reporter.Reload(func() error {
		if !sleep(ctx, h.Rest) {
			return nil
		}
		return h.Reload(ctx)
	})
	if err != nil {
		fmt.Fprintf(h.Log, "firstboot: %v\n", err)
	}
	return nil
}

// sleep is false where ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// checkSocket wants somebody to listen; what he says, crictl asks.
func (h *health) checkSocket(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", h.Socket)
	if err != nil {
		return fmt.Errorf("container runtime: nothing answers at %s: %w (systemctl status containerd says more)", h.Socket, errno(err))
	}
	return conn.Close()
}

// checkRuntime asks for the conditions that the CRI defines, RuntimeReady and
// NetworkReady (cri-api, RuntimeStatus). An image without crictl is content with
// the socket, and the report says so.
func (h *health) checkRuntime(ctx context.Context) error {
	out, err := h.RuntimeInfo(ctx)
	if errors.Is(err, os.ErrNotExist) {
		h.runtime = "socket only"
		return nil
	}
	if err != nil {
		return fmt.Errorf("container runtime: %w", err)
	}
	var info struct {
		Status struct {
			Conditions []struct {
				Type, Reason, Message string
				Status                bool
			}
		}
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return fmt.Errorf("container runtime: reading its status: %w", err)
	}
	missing := map[string]string{"RuntimeReady": "not reported", "NetworkReady": "not reported"}
	for _, condition := range info.Status.Conditions {
		if condition.Status {
			delete(missing, condition.Type)
		} else if _, ok := missing[condition.Type]; ok {
			missing[condition.Type] = condition.Reason + " " + condition.Message
		}
	}
	for _, name := range []string{"RuntimeReady", "NetworkReady"} {
		if why, ok := missing[name]; ok {
			return fmt.Errorf("container runtime: %s is false: %s", name, strings.TrimSpace(why))
		}
	}
	return nil
}

func runtimeInfo(ctx context.Context) ([]byte, error) {
	if _, err := os.Stat(crictl); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, crictl, "--runtime-endpoint", "unix://"+runtimeSocket, "info").Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("crictl info: %s", lastLine(string(exit.Stderr)))
	}
	return out, err
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func (h *health) checkKubelet(ctx context.Context) error {
	status, answer, err := get(ctx, h.KubeletURL)
	switch {
	case err != nil:
		return fmt.Errorf("kubelet: nothing answers at %s: %w (systemctl status kubelet says more)", h.KubeletURL, errno(err))
	case status != http.StatusOK:
		return fmt.Errorf("kubelet: it answered %d %s: %s", status, http.StatusText(status), answer)
	}
	return nil
}

// get returns an answer's status and the last line of its beginning.
func get(ctx context.Context, url string) (status int, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	return resp.StatusCode, lastLine(string(body)), nil
}

// errno is the system's reason in a network error, whose own text repeats
// addresses and differs from time to time.
func errno(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
