package lint

import (
	"fmt"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/inspect"
)

func driverRules() []Rule {
	rule := func(id, must, why string, check func(k *inspect.Kernel) error) Rule {
		return Rule{ID: id, Must: must, Why: why, needs: needsBoot, check: func(s *subject) []string {
			var p problems
			for _, k := range s.Kernels {
				p.err(check(k))
			}
			return p
		}}
	}
	return []Rule{
		rule("kernel-modules", "the root has the modules of the kernel that is booted",
			"without them there is no network, and no overlay for containers",
			func(k *inspect.Kernel) error { return k.ModulesErr }),
		rule("driver-scsi", "virtio_scsi and sd_mod are built in or in the initramfs",
			"the boot disk of most machine series is on virtio-scsi; the feature VIRTIO_SCSI_MULTIQUEUE needs the driver too "+fromConfig,
			func(k *inspect.Kernel) error { return early(k, "virtio_scsi", "sd_mod") }),
		rule("driver-nvme", "nvme is built in or in the initramfs",
			"the boot disk of newer machine series and of Confidential VMs is on NVMe [Compute Engine: Persistent Disk interfaces]",
			func(k *inspect.Kernel) error { return early(k, "nvme") }),
		rule("driver-ext4", "ext4 is built in or in the initramfs",
			"the root is ext4",
			func(k *inspect.Kernel) error { return early(k, "ext4") }),
		rule("driver-virtio-net", "virtio_net is there",
			"the network card of older machine series "+fromConfig,
			func(k *inspect.Kernel) error { return known(k, "virtio_net") }),
		rule("driver-gve", "gve is there",
			"the network card of third-generation machine series; the feature GVNIC needs it [Compute Engine: Using Google Virtual NIC]",
			func(k *inspect.Kernel) error { return known(k, "gve") }),
		rule("driver-containers", "overlay and br_netfilter are there",
			"containerd's snapshots and kube-proxy's rules for bridged pods need them [Kubernetes: Container Runtimes]",
			func(k *inspect.Kernel) error { return known(k, "overlay", "br_netfilter") }),
	}
}

// early and known leave it to the rule kernel-modules to say that nothing is
// known about a kernel, and to init that its initramfs can't be read.
func early(k *inspect.Kernel, drivers ...string) error {
	if k.ModulesErr != nil || k.InitrdErr != nil {
		return nil
	}
	for _, d := range drivers {
		if err := k.CanEarly(d); err != nil {
			return err
		}
	}
	return nil
}

func known(k *inspect.Kernel, drivers ...string) error {
	if k.ModulesErr != nil {
		return nil
	}
	for _, d := range drivers {
		if err := k.Can(d); err != nil {
			return err
		}
	}
	return nil
}

// Feature is a guest OS feature that an image may declare when it is created.
type Feature struct {
	Name    string `json:"name"`              // "GVNIC"
	Missing string `json:"missing,omitempty"` // why it may not be set; empty: it may
}

// features says which guest OS features the image may be created with: those for
// which every kernel has what they need.
func features(m *inspect.Image) []Feature {
	var out []Feature
	for _, f := range gce.Features(m.Arch) {
		feature := Feature{Name: f.Name}
		if len(m.Kernels) == 0 {
			feature.Missing = "no kernel is booted"
		}
		for _, k := range m.Kernels {
			if err := can(k, f); err != nil {
				feature.Missing = err.Error()
			}
		}
		out = append(out, feature)
	}
	return out
}

func can(k *inspect.Kernel, f gce.Feature) error {
	if f.Early != "" {
		if err := k.CanEarly(f.Early); err != nil {
			return err
		}
	}
	if f.Option != "" && !k.HasOption(f.Option, "y") {
		return fmt.Errorf("kernel %s was built without %s, or /boot/config-%s is missing", k.Version, f.Option, k.Version)
	}
	if f.Driver != "" {
		return k.Can(f.Driver)
	}
	return nil
}
