package firstboot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"time"
)

// crictl asks the runtime over its socket; the path is the guide's. A gRPC
// client of our own would double the size of this program.
const (
	crictl          = "/usr/local/bin/crictl"
	runtimeEndpoint = "unix:///run/containerd/containerd.sock"
)

// kubeletHealth is the default of kubelet's healthzBindAddress and healthzPort.
const kubeletHealth = "http://127.0.0.1:10248/healthz"

// HealthConfig says what Health looks at. Deadline and Log are required.
type HealthConfig struct {
	Deadline time.Duration // how long the node may take to become healthy
	Log      io.Writer

	Pause      time.Duration // between two looks; two seconds where 0
	KubeletURL string        // kubeletHealth where empty

	// RuntimeInfo returns what `crictl info` prints; nil runs it.
	RuntimeInfo func(context.Context) ([]byte, error)
}

// Health waits until the container runtime and its network are ready and the
// kubelet is healthy. The error says what was still missing at the deadline.
func Health(ctx context.Context, c HealthConfig) error {
	if c.Pause == 0 {
		c.Pause = 2 * time.Second
	}
	if c.KubeletURL == "" {
		c.KubeletURL = kubeletHealth
	}
	if c.RuntimeInfo == nil {
		c.RuntimeInfo = runtimeInfo
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.Deadline)
	defer cancel()
	var last error // of a look that the deadline did not cut short
	for {
		err := errors.Join(checkRuntime(ctx, c), checkKubelet(ctx, c))
		if err == nil {
			fmt.Fprintf(c.Log, "firstboot: healthy after %d ms\n", time.Since(start).Milliseconds())
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-time.After(c.Pause):
		case <-ctx.Done():
			// One line: people and tests read the serial console by lines.
			return fmt.Errorf("not healthy within %v: %s", c.Deadline, strings.ReplaceAll(last.Error(), "\n", "; "))
		}
	}
}

// checkRuntime asks for the conditions that the CRI defines, RuntimeReady and
// NetworkReady (cri-api, RuntimeStatus).
func checkRuntime(ctx context.Context, c HealthConfig) error {
	out, err := c.RuntimeInfo(ctx)
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
	out, err := exec.CommandContext(ctx, crictl, "--runtime-endpoint", runtimeEndpoint, "info").Output()
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

func checkKubelet(ctx context.Context, c HealthConfig) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.KubeletURL, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return fmt.Errorf("kubelet: it answered %s: %s", resp.Status, lastLine(string(body)))
	}
	return nil
}
