// Command guest is the init of a root filesystem that exists to be booted: it
// prints what the test wants to know and powers off.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	if f, err := os.OpenFile("/dev/console", os.O_WRONLY, 0); err == nil {
		os.Stdout = f
	}
	say("pid", os.Getpid())
	say("args", strings.Join(os.Args, " "))
	say("cmdline", read("/proc/cmdline"))
	for line := range strings.Lines(read("/proc/self/mountinfo")) {
		f := strings.Fields(line)
		if len(f) < 6 {
			continue
		}
		say("mount", f[4], f[5], line[strings.Index(line, " - ")+3:])
		if f[4] == "/" {
			dev, _ := filepath.EvalSymlinks("/sys/dev/block/" + f[2])
			say("root", dev)
			disk := filepath.Dir(dev)
			say("serial", strings.Map(printable, read(disk+"/device/vpd_pg80")), read(disk+"/device/serial"), read(disk+"/serial"))
		}
	}
	for _, dir := range []string{"/", "/sys/firmware/efi/efivars"} {
		names, _ := filepath.Glob(dir + "/*")
		say("count", dir, len(names))
	}
	if v, err := os.ReadFile("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"); err == nil && len(v) == 5 {
		say("secureboot", v[4])
	}
	uids, _ := filepath.Glob("/sys/devices/pci*/firmware_node/uid")
	for _, u := range uids {
		say("uid", u, read(u))
	}
	if err := os.WriteFile("/written", []byte("x"), 0o644); err != nil {
		say("write", err)
	}
	meminfo, _, _ := strings.Cut(read("/proc/meminfo"), "Buffers")
	say("memory", strings.Join(strings.Fields(meminfo), " "))
	say("end")
	syscall.Sync()
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}

func say(what string, values ...any) {
	fmt.Println("guest:", what, strings.TrimSpace(fmt.Sprintln(values...)))
}

func read(name string) string {
	b, _ := os.ReadFile(name)
	return strings.TrimSpace(string(b))
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return -1
	}
	return r
}
