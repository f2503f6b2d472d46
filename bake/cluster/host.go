package cluster

import (
	"errors"
	"fmt"
)

// Host is what this machine has for a cluster. Zero values are not known, and
// enough.
type Host struct {
	MemoryMiB    int  // that can be had without swapping
	Files        int  // that a process may have open
	NoWatches    bool // no inotify instances are left for what a control plane watches
	WatchesLimit string
}

const (
	controlPlaneMiB = 1024 // etcd and Kubernetes' three took 0.7 GiB beside three workers
	neededFiles     = 2048 // connections out of the network are two files each, and at most 1024
	neededWatches   = 8    // the API server has three of them, and asks for more while it starts
)

// Check returns what c needs and h lacks: what would fail later, and worse.
func (h Host) Check(c *Config) error {
	var errs []error
	if need := c.Workers*c.MemoryMiB + controlPlaneMiB; h.MemoryMiB != 0 && h.MemoryMiB < need {
		errs = append(errs, fmt.Errorf("%d workers with %d MiB each need %d MiB beside a control plane, and this machine has %d available (give fewer --workers, or less --memory)",
			c.Workers, c.MemoryMiB, need, h.MemoryMiB))
	}
	if h.Files != 0 && h.Files < neededFiles {
		errs = append(errs, fmt.Errorf("a process may open %d files here, and a cluster needs %d (ulimit -n %d)", h.Files, neededFiles, neededFiles))
	}
	if h.NoWatches {
		errs = append(errs, fmt.Errorf("fewer than %d of your inotify instances are left here, and a control plane needs them (raise %s)", neededWatches, h.WatchesLimit))
	}
	return errors.Join(errs...)
}
