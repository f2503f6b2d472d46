// Package cluster runs a Kubernetes cluster on this machine: a control plane,
// a network that behaves like Compute Engine's, and workers that boot from one
// image and are told apart by their metadata, and DNS. `bake cluster` is its face.
//
// One process runs it all, and what it starts ends with it. It keeps a directory
// for each cluster, which says what runs and is asked over a unix socket there:
// see [Dir] and [Client]. The directory is written before anything starts, so
// that what was interrupted can be deleted.
//
// It is for trying images, and not for production: there is one of each part of
// the control plane, nothing is synced to the disk, and the end of the process is
// the end of the cluster. It runs under Linux only, and needs no root.
package cluster

import (
	"errors"
	"fmt"
	"time"

	"github.com/nodebake/bake/bake/controlplane"
	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/vm"
)

// Where the workers are instances.
const (
	project = "example"
	zone    = "us-west1-c"
)

// Config describes a cluster. Its JSON is what a supervisor is told of it.
type Config struct {
	Name  string `json:"name"`
	Image string `json:"image"` // as it was given
	Disk  string `json:"disk"`  // absolute path of its raw disk; workers have overlays of it

	Workers    int               `json:"workers"`
	CPUs       int               `json:"cpus"`      // of each
	MemoryMiB  int               `json:"memoryMiB"` // of each
	Accel      vm.Accel          `json:"accel"`
	SecureBoot bool              `json:"secureBoot"`
	Metadata   map[string]string `json:"metadata,omitempty"` // of each, beside what it joins with

	// What workers reach outside of their network: see vm.NetworkConfig.
	Isolated bool `json:"isolated"`
	LAN      bool `json:"lan"`

	Programs  controlplane.Programs `json:"programs"`
	ReadyTime time.Duration         `json:"readyTime"` // that a worker may take to be Ready, and then DNS
}

// Check returns what is wrong with c, as far as that doesn't depend on the host. The
// error begins with the name of the flag of `bake cluster`.
func (c *Config) Check() error {
	if err := CheckName(c.Name); err != nil {
		return fmt.Errorf("name %w", err)
	}
	switch {
	case c.Workers < 1 || c.Workers > maxWorkers:
		return fmt.Errorf("workers %d: want 1 to %d", c.Workers, maxWorkers)
	case c.CPUs < 1 || c.CPUs > maxCPUs:
		return fmt.Errorf("cpus %d: want 1 to %d", c.CPUs, maxCPUs)
	case c.MemoryMiB < minMemoryMiB:
		return fmt.Errorf("memory %d: want at least %d MiB, of which a worker keeps 612 for itself", c.MemoryMiB, minMemoryMiB)
	case c.Isolated && c.LAN:
		return errors.New("lan and --isolated contradict each other: want one of them")
	case c.ReadyTime <= 0:
		return fmt.Errorf("timeout %v: want more than 0", c.ReadyTime)
	}
	return nil
}

// Limits of a worker.
const (
	maxCPUs      = 64
	minMemoryMiB = 1024
)

// CheckName returns what is wrong with a cluster's name. It is a directory's, too.
func CheckName(name string) error {
	if !gce.IsName(name) {
		return fmt.Errorf("%q can't be a cluster's: want a lower-case letter, then up to 62 of a-z, 0-9 and -, no hyphen last", name)
	}
	return nil
}
