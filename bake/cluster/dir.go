package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"

	"github.com/nodebake/bake/bake/atomicfile"
	"github.com/nodebake/bake/bake/dns"
	"github.com/nodebake/bake/bake/vm"
)

// The files of a cluster's directory.
const (
	lockFile        = "lock"           // locked for as long as the cluster's process lives
	configFile      = "config.json"    // a Config
	statusFile      = "cluster.json"   // a Status
	socketFile      = "socket"         // of the process, see Client
	supervisorLog   = "supervisor.log" // of a process that nobody sees
	diskFile        = "disk.raw"       // what was unpacked of an image
	controlPlaneDir = "controlplane"   // see controlplane.Config
	disksDir        = "disks"
	consolesDir     = "consoles"
	consoleSuffix   = ".console"
)

// Dir is the directory of one cluster, held by this process.
type Dir struct {
	Name string
	Path string
	lock *flock.Flock
}

// RunningError says that another process holds the cluster.
type RunningError struct {
	Name string
	PID  int // 0 where it hasn't said it yet
}

func (e *RunningError) Error() string {
	by := ""
	if e.PID != 0 {
		by = fmt.Sprintf(", by process %d", e.PID)
	}
	return fmt.Sprintf("cluster %s runs already%s (end it: bake cluster delete --name %s; or give another --name)", e.Name, by, e.Name)
}

// Claim takes the directory of a cluster below root, removes what an earlier process
// left there, and writes that the cluster is being prepared. It is a [RunningError]
// where that process lives.
func Claim(root string, c *Config, now time.Time) (*Dir, error) {
	d, err := hold(root, c.Name)
	if err != nil {
		return nil, err
	}
	err = d.clear()
	if err == nil {
		err = writeJSON(d.file(statusFile), firstStatus(c, Preparing, now))
	}
	if err != nil {
		d.Release()
		return nil, fmt.Errorf("preparing the directory of cluster %s: %w", c.Name, err)
	}
	return d, nil
}

// Resume takes the directory of a cluster that another process has prepared and
// released: see [Dir.Handover].
func Resume(root, name string) (*Dir, Config, error) {
	d, err := hold(root, name)
	if err != nil {
		return nil, Config{}, err
	}
	var c Config
	if err := readJSON(d.file(configFile), &c); err != nil {
		return nil, Config{}, errors.Join(fmt.Errorf("cluster %s was deleted while it was prepared: %w", name, err), d.Remove())
	}
	return d, c, nil
}

// Handover writes what the cluster is to be, and releases the directory for
// another process to [Resume].
func (d *Dir) Handover(c *Config) error {
	return errors.Join(writeJSON(d.file(configFile), c), d.Release())
}

// hold makes and locks the directory.
func hold(root, name string) (*Dir, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	d := &Dir{Name: name, Path: filepath.Join(root, name)}
	for {
		if err := os.MkdirAll(d.Path, 0o700); err != nil {
			return nil, fmt.Errorf("making the directory of cluster %s: %w", name, err)
		}
		d.lock = flock.New(filepath.Join(d.Path, lockFile))
		locked, err := d.lock.TryLock()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // it was deleted meanwhile
		case err != nil:
			return nil, fmt.Errorf("locking the directory of cluster %s: %w", name, err)
		case !locked:
			d.lock.Close()
			status, _ := readStatus(d.Path)
			return nil, &RunningError{Name: name, PID: status.PID}
		}
		if d.isThere() {
			return d, nil
		}
		d.lock.Close() // of a directory that was deleted meanwhile
	}
}

// isThere reports whether the file that is locked is the one with the lock's name.
func (d *Dir) isThere() bool {
	held, err := d.lock.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(d.lock.Path())
	return err == nil && os.SameFile(held, named)
}

// clear removes all but the lock.
func (d *Dir) clear() error {
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.Name() != lockFile {
			errs = append(errs, os.RemoveAll(filepath.Join(d.Path, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Release lets others take the directory, which stays.
func (d *Dir) Release() error { return d.lock.Close() }

// Remove removes the directory with what is in it, and what machines of killed
// processes left in the directory for temporary files.
func (d *Dir) Remove() error {
	sweep, err := vm.MakeTempDir()
	if err == nil {
		err = sweep.Remove()
	}
	return errors.Join(err, os.RemoveAll(d.Path), d.lock.Close())
}

func (d *Dir) file(elements ...string) string {
	return filepath.Join(append([]string{d.Path}, elements...)...)
}

// LogFile is where a process that nobody sees writes what it has to say.
func (d *Dir) LogFile() string { return d.file(supervisorLog) }

// Names returns the names of the clusters below root, sorted.
func Names(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for clusters: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && CheckName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Exists reports whether there is a cluster called name, be it dead.
func Exists(root, name string) bool {
	if CheckName(name) != nil {
		return false
	}
	info, err := os.Stat(filepath.Join(root, name))
	return err == nil && info.IsDir()
}

// Phase is how far a cluster is.
type Phase string

// The phases of a cluster.
const (
	Preparing Phase = "preparing" // nothing of it runs
	Starting  Phase = "starting"
	Running   Phase = "running"
	Failed    Phase = "failed" // and ended; Status.Error says why
	Ended     Phase = "ended"  // its process is gone, without a word
)

// Status is what is known of a cluster.
type Status struct {
	Name       string         `json:"name"`
	Phase      Phase          `json:"phase"`
	Step       string         `json:"step,omitempty"` // of a phase: "control plane"
	Error      string         `json:"error,omitempty"`
	PID        int            `json:"pid,omitempty"`
	Since      time.Time      `json:"since"`
	Image      string         `json:"image"`
	Kubernetes string         `json:"kubernetes"`           // the API server's version
	Server     string         `json:"server,omitempty"`     // the API server's URL for this host
	CADir      string         `json:"caDir,omitempty"`      // with ca.pem and ca-key.pem
	Kubeconfig string         `json:"kubeconfig,omitempty"` // path, of the administrator's
	Kubectl    string         `json:"kubectl,omitempty"`    // path of the one that belongs to the control plane
	Proxy      string         `json:"proxy,omitempty"`      // URL of the proxy that reaches workers and pods
	DNS        *DNSStatus     `json:"dns,omitempty"`        // nil: it has none
	Notes      []string       `json:"notes,omitempty"`      // what is right and may not be meant so
	Workers    []WorkerStatus `json:"workers"`
}

// DNSStatus is what became of the DNS add-on when the cluster started.
type DNSStatus struct {
	IP       netip.Addr    `json:"ip"`
	Version  string        `json:"version"` // of CoreDNS
	Image    string        `json:"image"`
	Replicas []dns.Replica `json:"replicas"`
}

// WorkerStatus is what is known of a worker.
type WorkerStatus struct {
	Worker
	State   WorkerState `json:"state"`
	Message string      `json:"message,omitempty"`
	Console string      `json:"console"` // path of what it prints
	Starts  int         `json:"starts"`  // of its machine
}

// WorkerState is how far a worker is.
type WorkerState string

// The states of a worker.
const (
	Booting  WorkerState = "booting"
	Ready    WorkerState = "ready"
	NotReady WorkerState = "not ready" // was ready
	Off      WorkerState = "off"       // powered itself off
	Broken   WorkerState = "failed"    // its machine is not started again
)

// readStatus reads what a cluster's process has written last.
func readStatus(dir string) (s Status, err error) {
	return s, readJSON(filepath.Join(dir, statusFile), &s)
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", filepath.Base(path), err)
	}
	if err := atomicfile.Write(path, append(data, '\n')); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}
