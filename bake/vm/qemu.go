package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/arch"
)

// minQEMU is the oldest major version that is accepted. QEMU 7.2 under TCG
// corrupts EFLAGS on recent AMD processors: guests oops at random places.
const minQEMU = 8

// Tools are the programs and firmware of the host that a machine needs.
type Tools struct {
	QEMU     string // qemu-system-x86_64
	QEMUImg  string // qemu-img
	Version  string // of QEMU
	Firmware string // directory of the OVMF images
	machine  string // QEMU's type of it

	// Sandbox is QEMU's -sandbox argument, and Unconfined the reason why there
	// is none.
	Sandbox, Unconfined string
}

// sandbox has QEMU give up, by seccomp, the system calls that it needs for
// nothing here: a machine that breaks out of its emulation can't start programs
// or change who it is. libvirt starts QEMU with the same.
const sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// MissingError says which Debian package to install.
type MissingError struct {
	What, Package string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is not there: install the package %s (QEMU %d or newer; on Debian 12 from bookworm-backports)", e.What, e.Package, minQEMU)
}

// FindTools looks up QEMU on the search path and its firmware in the given
// directories, and checks QEMU's version.
func FindTools(ctx context.Context, a arch.Arch, firmwareDirs ...string) (Tools, error) {
	qemu := a.Facts().QEMU
	if qemu.Program == "" {
		return Tools{}, fmt.Errorf("running an %s image is not supported: only %s is", a, arch.AMD64)
	}
	t := Tools{machine: qemu.Machine}
	if runtime.GOOS != "linux" {
		return t, fmt.Errorf("running an image under %s is not supported: only under Linux it is", runtime.GOOS)
	}
	var err error
	if t.QEMU, err = exec.LookPath(qemu.Program); err != nil {
		return t, &MissingError{qemu.Program, qemu.Package}
	}
	if t.QEMUImg, err = exec.LookPath("qemu-img"); err != nil {
		return t, &MissingError{"qemu-img", "qemu-utils"}
	}
	out, err := exec.CommandContext(ctx, t.QEMU, "--version").Output()
	if err != nil {
		return t, fmt.Errorf("asking QEMU's version: %w", err)
	}
	m := regexp.MustCompile(`version ((\d+)\.\S+)`).FindSubmatch(out)
	if m == nil {
		return t, fmt.Errorf("asking QEMU's version: cannot read %q", out)
	}
	t.Version = string(m[1])
	if major, _ := strconv.Atoi(string(m[2])); major < minQEMU {
		return t, fmt.Errorf("QEMU %s is too old: before %d its TCG corrupts processor flags and guests crash at random; on Debian 12 install %s from bookworm-backports", t.Version, minQEMU, qemu.Package)
	}
	if t.Unconfined = probeSandbox(ctx, t.QEMU); t.Unconfined == "" {
		t.Sandbox = sandbox
	}
	if ctx.Err() != nil {
		return t, ctx.Err()
	}
	for _, dir := range firmwareDirs {
		if _, err := os.Stat(filepath.Join(dir, codeSecure)); err == nil {
			t.Firmware = dir
			return t, nil
		}
	}
	return t, &MissingError{codeSecure, "ovmf"}
}

// probeSandbox starts QEMU without a machine and returns why it can't be
// confined: it may be built without seccomp, or the kernel may refuse it.
func probeSandbox(ctx context.Context, qemu string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-nodefaults", "-no-user-config", "-machine", "none", "-display", "none", "-monitor", "stdio", "-sandbox", sandbox)
	cmd.Stdin = strings.NewReader("quit\n")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	err := cmd.Run()
	if err == nil {
		return ""
	}
	reason, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
	if reason == "" {
		reason = err.Error()
	}
	return reason
}

// FirmwareDirs is where distributions put OVMF.
func FirmwareDirs() []string {
	return []string{"/usr/share/OVMF", "/usr/share/edk2/x64", "/usr/share/edk2/ovmf"}
}

const (
	codePlain  = "OVMF_CODE_4M.fd"
	varsPlain  = "OVMF_VARS_4M.fd"
	codeSecure = "OVMF_CODE_4M.secboot.fd"
	varsSecure = "OVMF_VARS_4M.ms.fd" // Microsoft's keys enrolled, Secure Boot on
)

// Bus is how a disk is attached.
type Bus string

// The buses that Compute Engine's machine types have.
const (
	SCSI Bus = "virtio-scsi"
	NVMe Bus = "nvme"
)

// args builds QEMU's command line.
func (m *Machine) args() ([]string, error) {
	c := m.config
	code, vars := codePlain, varsPlain
	machine := m.tools.machine
	var args []string
	if c.SecureBoot {
		code, vars = codeSecure, varsSecure
		machine += ",smm=on"
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	varsCopy := filepath.Join(m.dir, "vars.fd")
	if err := copyFile(varsCopy, filepath.Join(m.tools.Firmware, vars)); err != nil {
		return nil, err
	}
	args = append(args,
		"-name", c.Name, "-nodefaults", "-display", "none", "-no-user-config",
		"-machine", machine,
		"-smp", strconv.Itoa(c.CPUs), "-m", strconv.Itoa(c.MemoryMiB),
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+filepath.Join(m.tools.Firmware, code),
		"-drive", "if=pflash,unit=1,format=raw,file="+varsCopy,
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-qmp", "unix:"+filepath.Join(m.dir, "qmp")+",server=on,wait=off",
		"-device", "virtio-rng-pci",
	)
	threads := "multi"
	if c.CountInstructions {
		if c.Accel != TCG {
			return nil, fmt.Errorf("instructions are counted under %s only, not under %s", TCG, c.Accel)
		}
		// Instructions of several threads have no order, and so no clock.
		threads = "single"
		args = append(args, "-icount", "shift=0")
	}
	if m.tools.Sandbox != "" {
		args = append(args, "-sandbox", m.tools.Sandbox)
	}
	switch c.Accel {
	case KVM:
		args = append(args, "-accel", "kvm", "-cpu", "host")
	case TCG:
		// Five-level page tables, which "max" has, cost emulation time and give nothing here.
		args = append(args, "-accel", "tcg,thread="+threads, "-cpu", "max,la57=off")
	default:
		return nil, fmt.Errorf("BUG: accelerator %q", c.Accel)
	}
	if !c.RTC.IsZero() {
		args = append(args, "-rtc", "base="+c.RTC.UTC().Format("2006-01-02T15:04:05"))
	}
	if c.NoReboot {
		args = append(args, "-no-reboot")
	}
	disks, err := m.diskArgs()
	if err != nil {
		return nil, err
	}
	args = append(args, disks...)
	for i, nic := range c.nics() {
		args = append(args,
			"-netdev", fmt.Sprintf("stream,id=net%d,server=off,addr.type=unix,addr.path=%s", i, m.link(i)),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=net%d,mac=%s", i, MAC(nic.Address)))
	}
	for _, s := range c.SMBIOS {
		args = append(args, "-smbios", "type=11,value="+s)
	}
	return args, nil
}

func (m *Machine) diskArgs() ([]string, error) {
	var args []string
	scsi := false
	for i, d := range m.config.Disks {
		id := "disk" + strconv.Itoa(i)
		path := d.Path
		if d.File != nil {
			path = "/proc/self/fd/" + strconv.Itoa(3+len(m.files)) // the file itself, whatever has its name
			m.files = append(m.files, d.File)
		}
		args = append(args, "-drive", fmt.Sprintf("if=none,id=%s,format=%s,discard=unmap,cache=unsafe,file=%s", id, d.Format, path))
		boot := ""
		if d.Boot {
			boot = ",bootindex=0"
		}
		switch d.Bus {
		case SCSI:
			if !scsi {
				args = append(args, "-device", "virtio-scsi-pci,id=scsi")
				scsi = true
			}
			args = append(args, "-device", fmt.Sprintf("scsi-hd,bus=scsi.0,scsi-id=%d,serial=%s,drive=%s%s", i+1, id, id, boot))
		case NVMe:
			args = append(args, "-device", fmt.Sprintf("nvme,serial=%s,drive=%s%s", id, id, boot))
		default:
			return nil, fmt.Errorf("disk %s: unknown bus %q", d.Path, d.Bus)
		}
	}
	if len(args) == 0 {
		return nil, errors.New("a machine needs a disk")
	}
	return args, nil
}
