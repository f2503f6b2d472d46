// Package cluster runs a real Kubernetes control plane for tests: etcd,
// kube-apiserver, kube-controller-manager and kube-scheduler as processes of
// this machine, set up as "Kubernetes the Hard Way" sets them up. Workers in
// virtual machines register with it.
//
// The API server listens on the host's loopback, and workers find it at
// 10.240.0.1, the gateway of their network (bake/vm's HostLoopback). In the other
// direction it reaches kubelets through a proxy in the test's own process, so
// that worker networks need no route from the host.
//
// It is one of each, without high availability, and keeps nothing: etcd doesn't
// sync its files, and what ends is killed. It needs no root. It runs under Linux
// only.
package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/connect"
	"github.com/nodebake/bake/bake/node"
)

// Address is where workers find the API server, at [Cluster.URL]'s port.
const Address = "10.240.0.1"

// Config describes a cluster. All but Dial is required.
type Config struct {
	Programs *Programs
	CA       *node.CA  // of the cluster
	Now      time.Time // certificates are valid from a little before
	Dir      string    // for logs and state; made if it is absent

	// Dial connects to a worker's kubelet, "10.240.0.20:10250"; vm.Network has
	// it. nil: from the host.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Cluster is a running control plane.
type Cluster struct {
	config    Config
	port      int
	processes []*process
	egress    *connect.Server
	sockets   string // the programs' working directory: a unix socket's path has at most 107 bytes
	stop      context.CancelFunc
	client    *http.Client // as the administrator
}

// startTime is how long a control plane may take to be ready. On two busy cores
// it took less than 20 s.
const startTime = 3 * time.Minute

// Start starts a control plane and returns when it is ready for workers: the API
// server serves, the controllers run, and who may do what is set. It runs until
// ctx ends or Stop is called; call Stop in both cases.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	dir, err := filepath.Abs(config.Dir)
	if err != nil {
		return nil, fmt.Errorf("starting a control plane: %w", err)
	}
	config.Dir = dir
	c := &Cluster{config: config}
	ctx, c.stop = context.WithCancel(ctx)
	if err := c.start(ctx); err != nil {
		logs := c.Logs(20)
		c.Stop()
		return nil, fmt.Errorf("starting a control plane: %w\n%s", err, logs)
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if err := os.MkdirAll(c.config.Dir, 0o700); err != nil {
		return err
	}
	var err error
	if c.sockets, err = os.MkdirTemp("", "cluster-"); err != nil {
		return err
	}
	if c.config.Dial != nil {
		if c.egress, err = connect.Listen("unix", c.egressSocket(), c.config.Dial); err != nil {
			return err
		}
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
	if _, err := c.kubectl(wait, strings.NewReader(rbac), "create", "--validate=false", "-f", "-"); err != nil {
		return err
	}
	// The controllers make this last of what every pod needs.
	return waitFor(wait, "the controllers", c.processes, func(ctx context.Context) error {
		_, err := c.get(ctx, "/api/v1/namespaces/default/configmaps/kube-root-ca.crt")
		return err
	})
}

//go:embed rbac.yaml
var rbac string

// startAPIServer starts it at a port that was free a moment ago. Where somebody
// else took it meanwhile, it takes another.
func (c *Cluster) startAPIServer(ctx, wait context.Context) error {
	for try := 1; ; try++ {
		err := c.tryAPIServer(ctx, wait)
		last := c.processes[len(c.processes)-1]
		if err == nil || last.ended() == nil || try == 3 || !strings.Contains(last.tail(100), "address already in use") {
			return err
		}
		c.processes = c.processes[:len(c.processes)-1]
	}
}

func (c *Cluster) tryAPIServer(ctx, wait context.Context) error {
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
		_, err := c.get(ctx, "/readyz")
		return err
	})
}

func (c *Cluster) run(ctx context.Context, program string, flags []string) error {
	p, err := start(ctx, c.sockets, c.config.Dir, program, flags...)
	if err != nil {
		return err
	}
	c.processes = append(c.processes, p)
	return nil
}

// Stop ends all processes, and removes what is not in Config.Dir. Workers lose
// their cluster.
func (c *Cluster) Stop() {
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
	if c.sockets != "" {
		os.RemoveAll(c.sockets)
	}
}

// URL is the API server's for workers: https://10.240.0.1:PORT.
func (c *Cluster) URL() string { return "https://" + net.JoinHostPort(Address, strconv.Itoa(c.port)) }

// AdminKubeconfig is the path of a kubeconfig for this host, with all rights.
func (c *Cluster) AdminKubeconfig() string { return c.file(admin + kubeconfigSuffix) }

// Logs returns the last lines of each program's log, for a test that fails.
func (c *Cluster) Logs(lines int) string {
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

// Err reports that a program of the control plane ended by itself.
func (c *Cluster) Err() error {
	for _, p := range c.processes {
		if err := p.ended(); err != nil {
			return err
		}
	}
	return nil
}

// makeClient returns a client of the API server with the administrator's
// rights.
func makeClient(caPEM, certPEM, keyPEM []byte) (*http.Client, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(caPEM) {
		return nil, errors.New("the CA has no certificate")
	}
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}},
		Timeout:   10 * time.Second,
	}, nil
}

// etcdIsHealthy asks etcd whether it serves.
func (c *Cluster) etcdIsHealthy(ctx context.Context) error {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(c.sockets, strings.TrimPrefix(etcdClients, "unix://")))
		},
	}}
	_, err := get(ctx, client, "http://etcd/health")
	return err
}

// get asks the API server for a path, as the administrator.
func (c *Cluster) get(ctx context.Context, path string) ([]byte, error) {
	return get(ctx, c.client, c.localURL()+path)
}

func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s: %s", url, response.Status, body)
	}
	return body, nil
}

func (c *Cluster) localURL() string { return "https://127.0.0.1:" + strconv.Itoa(c.port) }
