package vm

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// probeTime is how long a machine under KVM may take to the kernel's first
// line. Working ones need about 3 s.
const probeTime = 20 * time.Second

// Accelerator returns KVM if the disk's kernel starts under it, else TCG. That
// /dev/kvm opens proves nothing: on some nested hosts it makes machines whose
// kernel hangs right after the boot loader.
func (t Tools) Accelerator(ctx context.Context, disk string) Accel {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return TCG
	}
	device.Close()
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "bake-kvm-")
	if err != nil {
		return TCG
	}
	defer os.RemoveAll(dir)
	overlay, err := t.Overlay(ctx, filepath.Join(dir, "probe.qcow2"), disk, 0)
	if err != nil {
		return TCG
	}
	overlay.Bus, overlay.Boot = SCSI, true
	m, err := t.Start(ctx, Config{Name: "kvm-probe", Disks: []Disk{overlay}, Accel: KVM})
	if err != nil {
		return TCG
	}
	defer m.Kill()
	// The line comes when the kernel has found its memory and console: later
	// than where such hosts hang.
	if _, err := m.Console.Wait(ctx, regexp.MustCompile(`Run /init as init process`)); err != nil {
		return TCG
	}
	return KVM
}
