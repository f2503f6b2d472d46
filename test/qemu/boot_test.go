//go:build system

package qemu

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/vm"
)

// TestNVMe boots from an NVMe disk with firmware that knows no Secure Boot.
func TestNVMe(t *testing.T) {
	w := boot(t, options{bus: vm.NVMe, plainUEFI: true})
	w.waitFor(`login: `, 6*time.Minute)
	w.login(3 * time.Minute)
	w.isHealthy("disabled")
	// udev asks the disk for its name. QEMU's has none.
	if log := w.run("udevadm test /sys/class/block/nvme0n1 2>&1"); !strings.Contains(log, "/usr/lib/bake/firstboot disk-name /dev/nvme0n1") {
		t.Errorf("udev's rules don't ask for the disk's name:\n%s", log)
	}
	w.run("/usr/lib/bake/firstboot disk-name /dev/nvme0n1")
	w.expect("ls /dev/disk/by-id | grep -c ^google- || true", "0")
	if root := w.run("findmnt -no SOURCE /"); !strings.HasPrefix(root, "/dev/nvme0n1p") {
		t.Errorf("root is on %s; want the NVMe disk", root)
	}
	w.shutDown()
}

// TestNoMetadataServer boots where nothing answers: firstboot waits, and the
// system still reaches the state "running".
func TestNoMetadataServer(t *testing.T) {
	// Nobody can log in, so a unit given by credential reports the state. firstboot
	// starts containerd meanwhile, which is a job until it answers.
	const unit = "[Unit]\nAfter=multi-user.target\n" +
		"[Service]\nStandardOutput=tty\nTTYPath=/dev/console\n" +
		"ExecStart=/bin/sh -c 'state=$(systemctl is-system-running --wait); for try in $(seq 60); do jobs=$(systemctl list-jobs --no-legend | wc -l); " +
		"[ $$jobs = 0 ] && break; sleep 1; done; echo STATE $$state JOBS $$jobs'\n"
	w := boot(t, options{noMetadata: true, smbios: []string{
		credential("systemd.extra-unit.report.service", unit),
		credential("systemd.unit-dropin.graphical.target", "[Unit]\nWants=report.service\n"),
	}})
	w.waitFor(`firstboot: waiting for the metadata server`, 6*time.Minute)
	if m := w.waitFor(`STATE (\S+) JOBS (\d+)`, 3*time.Minute); m[1] != "running" || m[2] != "0" {
		t.Errorf("the system is %s with %s jobs; want running with 0", m[1], m[2])
	}
	w.shutDown()
}

// TestTwinDisk boots with a second disk made from the same image attached
// before the one that the firmware boots. Both have the same GUIDs.
func TestTwinDisk(t *testing.T) {
	for _, bus := range []vm.Bus{vm.SCSI, vm.NVMe} {
		t.Run(string(bus), func(t *testing.T) {
			w := boot(t, options{bus: bus, plainUEFI: bus == vm.NVMe, twins: 1, diskSize: 4 << 30})
			w.waitFor(`login: `, 6*time.Minute)
			w.login(3 * time.Minute)
			w.expect("lsblk -ndo SERIAL /dev/$(lsblk -ndo PKNAME $(findmnt -no SOURCE /))", "disk1")
			w.hasGrownTo(4 << 30)
			w.isHealthy("disabled")
			w.shutDown()
		})
	}
}

// isHealthy requires what every boot of the image must show. services is what
// the node's services are: "enabled" once firstboot has configured them.
func (w *worker) isHealthy(services string) {
	w.t.Helper()
	// Before anything else: half a minute after ready units are read again, and then
	// it would be no in any case.
	w.expect("systemctl show -P NeedDaemonReload kubelet", "no")
	w.t.Logf("units were read again at %s us (0: not yet), it is %s s", w.run("systemctl show -P UnitsLoadTimestampMonotonic"), w.run("cut -d' ' -f1 /proc/uptime"))
	if state, _ := w.try("systemctl is-system-running --wait"); state != "running" {
		w.t.Errorf("systemctl is-system-running = %q; want running; failed units:\n%s", state, w.run("systemctl --failed --no-pager --no-legend; systemctl list-jobs --no-pager"))
	}
	w.expect("systemctl --failed --no-legend --no-pager", "")
	// What must have been done at bake time was not done again at boot.
	for _, unit := range []string{"systemd-hwdb-update", "ldconfig", "systemd-firstboot", "systemd-sysusers", "systemd-journal-catalog-update"} {
		state := w.run("systemctl show -P ExecMainStartTimestampMonotonic " + unit + ".service")
		if state != "0" && state != "" {
			w.t.Errorf("%s ran at boot (at %s us)", unit, state)
		}
	}
	if log := w.run("journalctl -b --no-pager -o cat"); regexp.MustCompile(`(?i)press any key|populated /etc with preset`).MatchString(log) {
		w.t.Error("the journal shows a prompt or presets at boot")
	}
	for _, service := range []string{"containerd", "kubelet", "kube-proxy"} {
		if state, _ := w.try("systemctl is-enabled " + service); state != services {
			w.t.Errorf("%s is %s; want %s", service, state, services)
		}
	}
}

// hasGrownTo requires that partition and filesystem fill a disk of size bytes.
func (w *worker) hasGrownTo(size int64) {
	w.t.Helper()
	out := w.run("df --output=size -B1 / | tail -n 1")
	got, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	// The ESP and the filesystem's own metadata take the rest.
	if want := size * 9 / 10; got < want {
		w.t.Errorf("the root filesystem has %d bytes; want at least %d of a disk of %d", got, want, size)
	}
}

func (w *worker) kernelIsReadyForPods() {
	w.t.Helper()
	for key, want := range map[string]string{
		"net.ipv4.ip_forward":                 "1",
		"net.bridge.bridge-nf-call-iptables":  "1",
		"net.bridge.bridge-nf-call-ip6tables": "1",
	} {
		w.expect("sysctl -n "+key, want)
	}
	for _, module := range []string{"br_netfilter", "overlay"} {
		if _, err := w.try("test -d /sys/module/" + module); err != nil {
			w.t.Errorf("module %s is not loaded", module)
		}
	}
}
