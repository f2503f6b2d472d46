package vm

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestArgs(t *testing.T) {
	t.Parallel()
	firmware := t.TempDir()
	for _, name := range []string{varsPlain, varsSecure} {
		if err := os.WriteFile(filepath.Join(firmware, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := func(c Config) (string, error) {
		m := &Machine{config: c, dir: t.TempDir(), tools: Tools{machine: "q35", Firmware: firmware}}
		list, err := m.args()
		return strings.Join(list, " "), err
	}
	disk := []Disk{{Path: "d.raw", Format: "raw", Bus: SCSI, Boot: true}}
	zone := time.FixedZone("", 3600)
	got, err := args(Config{Name: "w", Disks: disk, Accel: TCG, RTC: time.Date(2031, 2, 3, 5, 5, 6, 0, zone), NoReboot: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{" -rtc base=2031-02-03T04:05:06", " -no-reboot", " -accel tcg,thread=multi ", "serial=disk0,drive=disk0,bootindex=0"} {
		if !strings.Contains(got, want) {
			t.Errorf("QEMU's arguments are %s; want %q", got, want)
		}
	}
	if got, err = args(Config{Name: "w", Disks: disk, Accel: TCG, CPUs: 2, CountInstructions: true}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{" -icount shift=0 ", " -accel tcg,thread=single ", " -smp 2 "} {
		if !strings.Contains(got, want) {
			t.Errorf("QEMU's arguments are %s; want %q", got, want)
		}
	}
	if got, err = args(Config{Name: "w", Disks: disk, Accel: KVM, SecureBoot: true}); err != nil {
		t.Fatal(err)
	}
	for _, unwanted := range []string{"-rtc", "-no-reboot", "-netdev", "-icount", "-sandbox"} {
		if strings.Contains(got, unwanted) {
			t.Errorf("QEMU's arguments are %s; want no %q", got, unwanted)
		}
	}
	if !strings.Contains(got, "q35,smm=on") || !strings.Contains(got, codeSecure) {
		t.Errorf("QEMU's arguments are %s; want Secure Boot", got)
	}
	for _, c := range []Config{
		{Disks: nil, Accel: TCG},
		{Disks: disk, Accel: "hvf"},
		{Disks: disk, Accel: KVM, CountInstructions: true},
		{Disks: []Disk{{Path: "d", Bus: "ide"}}, Accel: TCG},
	} {
		if got, err := args(c); err == nil {
			t.Errorf("%+v gives the arguments %s; want an error", c, got)
		}
	}
}

func TestArgsOfAConfinedMachine(t *testing.T) {
	t.Parallel()
	firmware := t.TempDir()
	if err := os.WriteFile(filepath.Join(firmware, varsPlain), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(firmware, varsPlain))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	m := &Machine{
		config: Config{Name: "w", Accel: TCG, Disks: []Disk{{Path: "a", Format: "qcow2", Bus: NVMe}, {Path: "b", File: file, Format: "raw", Bus: SCSI}}},
		dir:    t.TempDir(), tools: Tools{machine: "q35", Firmware: firmware, Sandbox: sandbox},
	}
	list, err := m.args()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(list, " ")
	for _, want := range []string{" -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", ",file=a ", ",file=/proc/self/fd/3 "} {
		if !strings.Contains(got, want) {
			t.Errorf("QEMU's arguments are %s; want %q", got, want)
		}
	}
	if len(m.files) != 1 || m.files[0] != file {
		t.Errorf("QEMU inherits %v; want the second disk's file", m.files)
	}
}

// TestReset answers as QEMU does.
func TestReset(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, "qmp"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	asked := make(chan []string, 2)
	go func() {
		for _, refuse := range []string{"", "system_reset"} {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(conn, `{"QMP": {"version": {}, "capabilities": []}}`)
			var commands []string
			for decoder := json.NewDecoder(conn); ; {
				var c struct{ Execute string }
				if decoder.Decode(&c) != nil {
					break
				}
				commands = append(commands, c.Execute)
				if c.Execute == refuse {
					fmt.Fprintln(conn, `{"error": {"class": "GenericError", "desc": "no"}}`)
					continue
				}
				fmt.Fprintln(conn, `{"event": "RESET", "timestamp": {}}`)
				fmt.Fprintln(conn, `{"return": {}}`)
			}
			conn.Close()
			asked <- commands
		}
	}()
	m := &Machine{config: Config{Name: "w"}, dir: dir}
	if err := m.Reset(); err != nil {
		t.Error(err)
	}
	if got, want := <-asked, []string{"qmp_capabilities", "system_reset"}; !slices.Equal(got, want) {
		t.Errorf("QEMU was asked %q; want %q", got, want)
	}
	if err := m.Reset(); err == nil || err.Error() != "resetting machine w: system_reset: no" {
		t.Errorf("Reset = %v; want QEMU's reason", err)
	}
}
