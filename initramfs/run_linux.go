package initramfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/bake/image/gpt"
)

// Config is what the process was started with.
type Config struct {
	PID  int
	Args []string // os.Args: passed on to the root's init, but for the first
	Env  []string // os.Environ
}

// Run does the work of PID 1. It returns only where it must not run at all;
// otherwise it becomes the root's init, or says what is wrong and restarts the
// machine.
func Run(ctx context.Context, c Config) error {
	if c.PID != 1 {
		return fmt.Errorf("this program starts a machine: it is process 1 of an initramfs, not %d", c.PID)
	}
	m := &machine{Config: c, began: time.Now(), console: os.Stderr, line: CommandLine{Panic: defaultPanic}}
	m.end(ctx, m.start(ctx))
	return errors.New("BUG: the machine did not restart")
}

// machine is the one that is being started.
type machine struct {
	Config
	began   time.Time
	console io.Writer // /dev/kmsg once it can be opened
	kmsg    bool
	line    CommandLine
	text    string // of the command line
}

// start returns only with an error.
func (m *machine) start(ctx context.Context) (err error) {
	// A panic of process 1 is one of the kernel, which stays there for ever.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("BUG: %v\n%s", r, debug.Stack())
		}
	}()
	if err := m.mountKernel(); err != nil {
		return err
	}
	data, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("reading the kernel's command line: %w", err)
	}
	m.text = strings.TrimSpace(string(data))
	if m.line, err = ParseCommandLine(m.text); err != nil {
		return err
	}
	if err := m.loadModules(); err != nil {
		return err
	}
	device, err := m.findRoot(ctx)
	if err != nil {
		return err
	}
	if err := m.mountRoot(device); err != nil {
		return err
	}
	return m.switchRoot()
}

// mountKernel mounts what the kernel gives, and opens its log.
func (m *machine) mountKernel() error {
	const flags = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV
	for _, mount := range []struct {
		fstype, target string
		flags          uintptr
		options        string
	}{
		{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=0755"},
		{"proc", "/proc", flags, ""},
		{"sysfs", "/sys", flags, ""},
	} {
		// EBUSY: the kernel mounted it itself (CONFIG_DEVTMPFS_MOUNT).
		if err := unix.Mount(mount.fstype, mount.target, mount.fstype, mount.flags, mount.options); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mounting %s: %w", mount.target, err)
		}
	}
	// The kernel drops lines of a chatty writer unless told otherwise. Not being
	// told is no reason to stop.
	_ = os.WriteFile("/proc/sys/kernel/printk_devkmsg", []byte("on\n"), 0)
	if f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		m.console, m.kmsg = f, true
	}
	return nil
}

// Levels of the kernel's log.
const (
	levelCritical = 2 // shown also with "quiet"
	levelInfo     = 6
)

// say writes lines to the kernel's log, which shows them on every console and
// keeps them for the journal.
func (m *machine) say(level int, text string) {
	for line := range strings.Lines(text) {
		line = "initramfs: " + strings.TrimRight(line, "\n") + "\n"
		if m.kmsg {
			line = fmt.Sprintf("<%d>%s", level, line)
		}
		// There is nobody to tell that this fails.
		_, _ = io.WriteString(m.console, line)
	}
}

// loadModules loads what the initramfs lists.
func (m *machine) loadModules() error {
	list, err := os.ReadFile("/" + ModulesList)
	if err != nil {
		return fmt.Errorf("reading the list of kernel modules: %w", err)
	}
	for file := range strings.FieldsSeq(string(list)) {
		name := strings.TrimSuffix(file, ".ko")
		if err := loadModule("/"+ModulesDir+"/"+file, m.line.ModuleParameters(name)); err != nil {
			// The disk may be there without it. If not, the search says so.
			m.say(levelCritical, fmt.Sprintf("kernel module %s was not loaded: %v", name, err))
		}
	}
	return nil
}

func loadModule(file, parameters string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	// EEXIST: it is loaded, or built in.
	if err := unix.FinitModule(int(f.Fd()), parameters, 0); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}

const efivars = "/sys/firmware/efi/efivars"

// readFirmware asks the firmware which disk it booted.
func (m *machine) readFirmware() Firmware {
	if _, err := os.Stat(efivars); err != nil {
		err := errors.New("the machine was not booted by EFI")
		return Firmware{HardwareErr: err, LoaderErr: err}
	}
	// It stays mounted: systemd wants it at the same place.
	err := unix.Mount("efivarfs", efivars, "efivarfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, "")
	if err != nil && err != unix.EBUSY {
		err := fmt.Errorf("mounting efivarfs: %w", err)
		return Firmware{HardwareErr: err, LoaderErr: err}
	}
	return ReadFirmware(os.DirFS(efivars))
}

// findRoot waits for the root partition and returns its device.
func (m *machine) findRoot(ctx context.Context) (string, error) {
	rootType, ok := gpt.RootType(runtime.GOARCH)
	if !ok {
		return "", fmt.Errorf("BUG: no type of root partition is known for %s", runtime.GOARCH)
	}
	s := Search{Want: Want{GUID: m.line.Root, Type: rootType}, Firmware: m.readFirmware()}
	tables := tableReader{}
	began, newest, known := time.Now(), time.Now(), map[string]bool{}
	for {
		var err error
		if s.Disks, err = ScanDisks(os.DirFS("/sys")); err != nil {
			return "", err
		}
		for i := range s.Disks {
			tables.read(&s.Disks[i])
			if !known[s.Disks[i].Path] {
				known[s.Disks[i].Path] = true
				newest = time.Now()
			}
		}
		s.Elapsed, s.Quiet = time.Since(began), time.Since(newest)
		choice, err := Decide(s)
		if err != nil {
			return "", err
		}
		if choice != nil {
			for _, note := range choice.Notes {
				m.say(levelInfo, note)
			}
			m.say(levelInfo, fmt.Sprintf("root is /dev/%s, found %d ms after the kernel started this program", choice.Device, time.Since(m.began).Milliseconds()))
			return "/dev/" + choice.Device, nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// tableReader reads each disk's partition table once it can be read.
type tableReader map[string]*gpt.Table

func (t tableReader) read(d *Disk) {
	key := fmt.Sprint(d.Path, " ", d.Size)
	if d.Table = t[key]; d.Table != nil {
		return
	}
	f, err := os.Open("/dev/" + d.Name)
	if err != nil {
		d.TableErr = err
		return
	}
	defer f.Close()
	if d.Table, d.TableErr = gpt.ReadAny(f, d.Size); d.TableErr == nil {
		t[key] = d.Table
	}
}

// mountRoot mounts the root read-write; the kernel replays its journal.
func (m *machine) mountRoot(device string) error {
	if err := unix.Mount(device, "/"+NewRoot, "ext4", 0, ""); err != nil {
		hint := "the kernel's messages above say more"
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) {
			hint = "the disk is read-only: attach it read-write"
		}
		return fmt.Errorf("mounting %s as ext4, read-write: %w\n%s", device, err, hint)
	}
	return nil
}

// switchRoot makes the mounted root / and starts its init.
func (m *machine) switchRoot() error {
	// While errors can still be told from here: is there something to start?
	program, err := m.findInit()
	if err != nil {
		return err
	}
	for _, dir := range []string{"dev", "proc", "sys"} {
		if err := unix.Mount("/"+dir, "/"+NewRoot+"/"+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving the mount of /%s to the root filesystem: %w", dir, err)
		}
	}
	// The initramfs is memory: give it back.
	if err := removeAll("/"); err != nil {
		m.say(levelInfo, fmt.Sprintf("some of the initramfs stays in memory: %v", err))
	}
	if err := unix.Chdir("/" + NewRoot); err != nil {
		return fmt.Errorf("switching to the root filesystem: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the root filesystem to /: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("switching to the root filesystem: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("switching to the root filesystem: %w", err)
	}
	args := append([]string{program}, m.Args[min(1, len(m.Args)):]...)
	return fmt.Errorf("starting %s: %w", program, unix.Exec(program, args, m.Env))
}

// findInit returns the root's init: that of the command line, or the first of
// the usual places that can be started. Links are followed inside the root.
func (m *machine) findInit() (string, error) {
	candidates := []string{"/sbin/init", "/lib/systemd/systemd"}
	if m.line.Init != "" {
		candidates = []string{path.Join("/", m.line.Init)}
	}
	root, err := unix.Open("/"+NewRoot, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("opening the root filesystem: %w", err)
	}
	defer unix.Close(root)
	var why []string
	for _, c := range candidates {
		if err := executable(root, c); err != nil {
			why = append(why, fmt.Sprintf("%s: %v", c, err))
			continue
		}
		return c, nil
	}
	return "", fmt.Errorf("the root filesystem has no init to start\n%s", strings.Join(why, "\n"))
}

func executable(root int, name string) error {
	fd, err := unix.Openat2(root, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		return fmt.Errorf("it is not an executable file (mode %#o)", st.Mode)
	}
	return nil
}

// removeAll removes what is below dir on dir's own filesystem, if that is
// memory: on anything else it would be somebody's files.
func removeAll(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	if int64(fs.Type) != unix.RAMFS_MAGIC && int64(fs.Type) != unix.TMPFS_MAGIC {
		return fmt.Errorf("%s is not in memory", dir)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	return removeBelow(dir, st.Dev)
}

func removeBelow(dir string, dev uint64) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil || st.Dev != dev {
			continue // gone, or something is mounted there
		}
		if e.IsDir() {
			if err := removeBelow(name, dev); err != nil {
				errs = append(errs, err)
			}
		}
		// The root filesystem is mounted on one of the directories, which stays.
		if err := os.Remove(name); err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// end says what is wrong, waits and restarts the machine.
func (m *machine) end(ctx context.Context, err error) {
	m.say(levelCritical, fmt.Sprintf("THIS MACHINE CANNOT START: %v", err))
	if m.text != "" {
		m.say(levelCritical, "kernel command line: "+m.text)
	}
	m.say(levelCritical, "repair: attach the disk to another machine, or make a new one from the image")
	if m.line.Forever {
		m.say(levelCritical, "it stays like this, because the kernel argument panic=0 says so")
		select {}
	}
	m.say(levelCritical, fmt.Sprintf("it restarts in %d s (the kernel argument panic=0 makes it stay)", int(m.line.Panic.Seconds())))
	select {
	case <-ctx.Done():
	case <-time.After(m.line.Panic):
	}
	unix.Sync()
	// Where that fails too there is nothing left but to let the kernel panic.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}
