package vm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// probeTime is how long a machine under KVM may take to the line that proves
// it. Working ones need about 3 s.
const probeTime = 20 * time.Second

// Accelerator returns KVM if the disk's kernel starts under it, else TCG.
func (t Tools) Accelerator(ctx context.Context, disk string) Accel {
	if t.ProbeKVM(ctx, disk) != nil {
		return TCG
	}
	return KVM
}

// OpenKVM opens the host's KVM, as every machine under it must.
func OpenKVM() error {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening KVM: %w", err)
	}
	return device.Close()
}

// KernelRuns matches a line that the kernel prints when it has found its memory
// and console: later than where hosts hang whose KVM is broken.
func KernelRuns() *regexp.Regexp { return regexp.MustCompile(`Run /init as init process`) }

// TimerPanic is in a kernel's last line where TCG on a busy host delivers no timer
// interrupt while the kernel probes for one. It says nothing about the image: such
// a machine is to be started again.
const TimerPanic = "IO-APIC + timer doesn't work"

// ProbeKVM starts the disk's kernel under KVM and says what is wrong with it.
// That /dev/kvm opens proves nothing: on some nested hosts it makes machines
// whose kernel hangs right after the boot loader.
func (t Tools) ProbeKVM(ctx context.Context, disk string) error {
	if err := OpenKVM(); err != nil {
		return err
	}
	dir, err := MakeTempDir()
	if err != nil {
		return fmt.Errorf("making a directory for the probe: %w", err)
	}
	defer dir.Remove()
	overlay, err := t.Overlay(ctx, filepath.Join(dir.Path, "probe.qcow2"), disk, 0)
	if err != nil {
		return err
	}
	overlay.Bus, overlay.Boot = SCSI, true
	m, err := t.Start(ctx, Config{Name: "kvm-probe", Disks: []Disk{overlay}, Accel: KVM})
	if err != nil {
		return err
	}
	defer m.Kill()
	waiting, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	_, err = m.Console.Wait(waiting, KernelRuns())
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case waiting.Err() != nil:
		return fmt.Errorf("the kernel did not start under KVM within %v", probeTime)
	}
	// The first line is the reason, what may follow is where in QEMU it was.
	reason, _, _ := strings.Cut(strings.TrimSpace(m.stderr.String()), "\n")
	return fmt.Errorf("QEMU ended under KVM: %s", reason)
}
