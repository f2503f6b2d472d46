// Package controlplane runs a real Kubernetes control plane: etcd,
// kube-apiserver, kube-controller-manager and kube-scheduler as processes of
// this machine, set up as "Kubernetes the Hard Way" sets them up. Workers in
// virtual machines register with it. `bake cluster` and tests use it.
//
// The API server listens on the host's loopback, and workers find it at
// 10.240.0.1, the gateway of their network (bake/vm's HostLoopback, or
// ServeHostPort). In the other direction it reaches kubelets and pods through a
// proxy in the caller's own process, so that worker networks need no route from
// the host.
//
// It is one of each, without high availability, and keeps nothing: etcd doesn't
// sync its files, and what ends is killed. It needs no root. It runs under Linux
// only.
package controlplane

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/connect"
	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/bake/unixsocket"
)

// Address is where workers find the API server, at [ControlPlane.URL]'s port.
const Address = "10.240.0.1"

// Config describes a control plane. All but Dial is required.
type Config struct {
	Programs *Programs
	CA       *node.CA  // of the cluster
	Now      time.Time // certificates are valid from a little before
	Dir      string    // for certificates, keys, logs, sockets and what etcd keeps; made if it is absent

	// Dial connects to a worker's kubelet or to a pod, "10.240.0.20:10250";
	// vm.Network has it. nil: from the host.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// ControlPlane is a running control plane.
type ControlPlane struct {
	config    Config
	port      int
	processes []*process
	egress    *connect.Server
	stop      context.CancelFunc
	client    *http.Client // as the administrator
}

// startTime is how long a control plane may take to be ready. On two busy cores
// it took less than 20 s.
const startTime = 3 * time.Minute

// Start starts a control plane and returns when it is ready for workers: the API
// server serves, the controllers run, and who may do what is set. It runs until
// ctx ends or Stop is called; call Stop in both cases.
func Start(ctx context.Context, config Config) (*ControlPlane, error) {
	dir, err := filepath.Abs(config.Dir)
	if err != nil {
		return nil, fmt.Errorf("starting a control plane: %w", err)
	}
	config.Dir = dir
	c := &ControlPlane{config: config}
	ctx, c.stop = context.WithCancel(ctx)
	if err := c.start(ctx); err != nil {
		logs := c.Logs(20)
		c.Stop()
		return nil, fmt.Errorf("starting a control plane: %w\n%s", err, logs)
	}
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context) error {
	if err := os.MkdirAll(c.config.Dir, 0o700); err != nil {
		return err
	}
	if err := c.serveEgress(); err != nil {
		return err
	}
	if err := c.writeFiles(); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := c.run(ctx, c.config.Programs.Etcd, c.etcdFlags()); err != nil {
		return err
	}
	// An API server that finds no etcd tries again after a second or more.
	if err := waitFor(wait, "etcd", c.processes, c.etcdIsHealthy); err != nil {
		return err
	}
	if err := c.startAPIServer(ctx, wait); err != nil {
		return err
	}
	// The others give up where the API server is not there in a few seconds.
	if err := c.run(ctx, c.config.Programs.ControllerManager, c.controllerManagerFlags()); err != nil {
		return err
	}
	if err := c.run(ctx, c.config.Programs.Scheduler, c.schedulerFlags()); err != nil {
		return err
	}
	if err := c.grant(wait); err != nil {
		return err
	}
	// The controllers make this last of what every pod needs.
	return waitFor(wait, "the controllers", c.processes, func(ctx context.Context) error {
		_, err := c.Get(ctx, "/api/v1/namespaces/default/configmaps/kube-root-ca.crt")
		return err
	})
}

// serveEgress starts the proxy by which the API server reaches kubelets and pods.
func (c *ControlPlane) serveEgress() error {
	if c.config.Dial == nil {
		return nil
	}
	listener, err := unixsocket.Listen(c.config.Dir, egressSocket)
	if err != nil {
		return fmt.Errorf("serving a proxy to workers: %w", err)
	}
	c.egress = connect.Serve(listener, c.config.Dial)
	return nil
}

//go:embed rbac.yaml
var rbac string

// grant creates the roles and bindings of rbac.yaml.
func (c *ControlPlane) grant(ctx context.Context) error {
	for object := range strings.SplitSeq(rbac, "\n---\n") {
		resource := "clusterroles"
		if strings.Contains(object, "\nroleRef:\n") {
			resource = "clusterrolebindings"
		}
		if err := c.create(ctx, "/apis/rbac.authorization.k8s.io/v1/"+resource, object); err != nil {
			return fmt.Errorf("granting rights: %w", err)
		}
	}
	return nil
}

// startAPIServer starts it at a port that was free a moment ago. Where somebody
// else took it meanwhile, it takes another.
func (c *ControlPlane) startAPIServer(ctx, wait context.Context) error {
	for try := 1; ; try++ {
		err := c.tryAPIServer(ctx, wait)
		last := c.processes[len(c.processes)-1]
		if err == nil || last.ended() == nil || try == 3 || !strings.Contains(last.tail(100), "address already in use") {
			return err
		}
		c.processes = c.processes[:len(c.processes)-1]
	}
}

func (c *ControlPlane) tryAPIServer(ctx, wait context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c.port = listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	if err := c.writeKubeconfigs(); err != nil {
		return err
	}
	if err := c.run(ctx, c.config.Programs.APIServer, c.apiServerFlags()); err != nil {
		return err
	}
	return waitFor(wait, "the API server", c.processes, func(ctx context.Context) error {
		_, err := c.Get(ctx, "/readyz")
		return err
	})
}

func (c *ControlPlane) run(ctx context.Context, program string, flags []string) error {
	p, err := start(ctx, c.config.Dir, program, flags...)
	if err != nil {
		return err
	}
	c.processes = append(c.processes, p)
	return nil
}

// Stop ends all processes. Workers lose their cluster.
func (c *ControlPlane) Stop() {
	c.stop()
	for _, p := range c.processes {
		<-p.done
	}
	// What serves them ends after them.
	if c.egress != nil {
		c.egress.Close()
	}
	if c.client != nil {
		c.client.CloseIdleConnections()
	}
}

// Port is the API server's, on the host's loopback.
func (c *ControlPlane) Port() int { return c.port }

// URL is the API server's for workers: https://10.240.0.1:PORT.
func (c *ControlPlane) URL() string {
	return "https://" + net.JoinHostPort(Address, strconv.Itoa(c.port))
}

// LocalURL is the API server's for this host: https://127.0.0.1:PORT.
func (c *ControlPlane) LocalURL() string {
	return "https://127.0.0.1:" + strconv.Itoa(c.port)
}

// AdminKubeconfig is the path of a kubeconfig for this host, with all rights.
func (c *ControlPlane) AdminKubeconfig() string { return c.file(admin + kubeconfigSuffix) }

// Logs returns the last lines of each program's log.
func (c *ControlPlane) Logs(lines int) string {
	var out strings.Builder
	for _, p := range c.processes {
		state := ""
		if err := p.ended(); err != nil {
			state = " (" + err.Error() + ")"
		}
		fmt.Fprintf(&out, "--- %s%s, the end of %s:\n%s\n", p.name, state, p.log, p.tail(lines))
	}
	return out.String()
}

// LogFiles returns the paths of the logs that are in dir, the Dir of a Config.
func LogFiles(dir string) ([]string, error) { return filepath.Glob(filepath.Join(dir, "*"+logSuffix)) }

// Err reports that a program of the control plane ended by itself.
func (c *ControlPlane) Err() error {
	for _, p := range c.processes {
		if err := p.ended(); err != nil {
			return err
		}
	}
	return nil
}
