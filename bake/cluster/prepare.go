package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/controlplane"
	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/vm"
)

// Preparation is what comes before a cluster starts: checks, and what is to be
// fetched, built and unpacked.
type Preparation struct {
	Host     Host
	Firmware []string // directories of the firmware, see vm.FindTools
	Find     controlplane.Find
	Progress progress.Sink
}

// Prepare fills in what a Config has of this host: Disk, Programs and Accel, where
// that is empty. What can be known at once is said before anything slow.
func (p Preparation) Prepare(ctx context.Context, d *Dir, c *Config) (vm.Tools, error) {
	image, err := inspect.OpenFile(c.Image)
	if err != nil {
		return vm.Tools{}, &manifest.ArgumentError{Err: err}
	}
	image.Close()
	apiServer, err := controlplane.Version(p.Find.Versions)
	if err != nil {
		return vm.Tools{}, err
	}
	if err := p.Host.Check(c); err != nil {
		return vm.Tools{}, err
	}
	tools, err := FindTools(ctx, c.Image, p.Firmware)
	if err != nil {
		return tools, err
	}
	if c.Disk, err = openDisk(ctx, c.Image, d.file(diskFile), p.Progress); err != nil {
		return tools, err
	}
	rec, err := readRecord(ctx, c.Image, c.Disk)
	if err != nil {
		return tools, err
	}
	if err := checkSkew(component(rec, "kubelet"), apiServer); err != nil {
		return tools, &manifest.ArgumentError{Err: fmt.Errorf("%s: %w", c.Image, err)}
	}
	progress.Phase(p.Progress, "programs")
	programs, err := p.Find.Programs(ctx)
	if err != nil {
		return tools, err
	}
	c.Programs = *programs
	progress.Phase(p.Progress, "")
	return tools, p.chooseAccel(ctx, tools, c)
}

// FindTools looks for QEMU that runs an image.
func FindTools(ctx context.Context, image string, firmware []string) (vm.Tools, error) {
	a := inspect.ArchOf(image)
	if a == "" {
		a = arch.Default // whoever reads the whole image says what is wrong
	}
	tools, err := vm.FindTools(ctx, a, firmware...)
	if err != nil {
		err = fmt.Errorf("looking for QEMU: %w", err)
	}
	return tools, err
}

// chooseAccel decides between KVM and TCG where nobody has, and says why.
func (p Preparation) chooseAccel(ctx context.Context, tools vm.Tools, c *Config) error {
	if tools.Unconfined != "" {
		p.Progress.Note("QEMU runs without its sandbox (%s)", tools.Unconfined)
	}
	if c.Accel != "" {
		return nil
	}
	c.Accel = vm.KVM
	if err := tools.ProbeKVM(ctx, c.Disk); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.Accel = vm.TCG
		p.Progress.Note("workers run without KVM, which takes about ten times as long (%v)", err)
	}
	return nil
}

// openDisk returns the path of the raw disk of an image: the image itself or, for
// a tar.gz, the file to, which it makes.
func openDisk(ctx context.Context, image, to string, sink progress.Sink) (string, error) {
	m, err := inspect.OpenFile(image)
	if err != nil {
		return "", &manifest.ArgumentError{Err: err}
	}
	defer m.Close()
	if m.Format == inspect.Raw {
		path, err := filepath.Abs(image)
		if err != nil {
			return "", fmt.Errorf("finding %s: %w", image, err)
		}
		return path, nil
	}
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("making the disk: %w", err)
	}
	err = archive.UnpackFile(ctx, m.Source, out, sink)
	if err := errors.Join(err, out.Close()); err != nil {
		err = fmt.Errorf("unpacking %s: %w", image, err)
		if _, ok := errors.AsType[*os.PathError](err); ctx.Err() != nil || ok {
			return "", err
		}
		return "", &manifest.ArgumentError{Err: err}
	}
	return to, nil
}

// readRecord reads what the worker image on a raw disk says of itself. What is no
// worker image is an ArgumentError.
func readRecord(ctx context.Context, image, disk string) (*record.Record, error) {
	rec, err := readAnyRecord(ctx, disk)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: fmt.Errorf("%s is no worker image of bake's: %w", image, err)}
	}
	for _, name := range []string{"kubelet", "containerd"} {
		if component(rec, name) == "" {
			return nil, &manifest.ArgumentError{Err: fmt.Errorf("%s is no worker image: it has no %s, as /%s in it says", image, name, record.Path)}
		}
	}
	return rec, nil
}

func readAnyRecord(ctx context.Context, disk string) (*record.Record, error) {
	m, err := inspect.OpenFile(disk)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if err := m.Unpack(ctx, ""); err != nil { // which it is
		return nil, err
	}
	text, err := m.Fragment(record.Path)
	if err != nil {
		return nil, fmt.Errorf("reading /%s in it: %w", record.Path, err)
	}
	return record.Read("/"+record.Path+" in it", bytes.NewReader(text))
}

// component returns the version of a component in an image, "" where it has none.
func component(rec *record.Record, name string) string {
	i := slices.IndexFunc(rec.Components, func(c record.Component) bool { return c.Name == name })
	if i < 0 {
		return ""
	}
	return rec.Components[i].Version
}

// olderKubelets is how many minor versions a kubelet may be behind its API server
// (kubernetes.io/releases/version-skew-policy).
const olderKubelets = 3

// checkSkew returns why a kubelet can't join an API server of another version.
func checkSkew(kubelet, apiServer string) error {
	node, ok := minor(kubelet)
	server, okServer := minor(apiServer)
	switch {
	case !ok || !okServer:
		return nil // they may be of somebody who counts otherwise
	case node > server:
		return fmt.Errorf("its kubelet %s is newer than the API server %s, and no API server takes that (give a control plane of its version by --versions)", kubelet, apiServer)
	case node < server-olderKubelets:
		return fmt.Errorf("its kubelet %s is more than %d minor versions older than the API server %s (give an older control plane by --versions)", kubelet, olderKubelets, apiServer)
	}
	return nil
}

// minor returns the second number of "v1.36.3".
func minor(version string) (int, bool) {
	m := regexp.MustCompile(`^v1\.([0-9]{1,4})\.`).FindStringSubmatch(version)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return n, err == nil
}
