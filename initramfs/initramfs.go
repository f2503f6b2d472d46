// Package initramfs is the program that an image's kernel starts first (cmd/init
// is its main function): it loads the kernel modules that came with it, finds the
// root partition on the disk that was booted, mounts it and hands over to its
// init.
//
// Every disk that is made from an image has the same GUIDs, and a machine may
// have two of them: a broken worker's disk attached to a healthy one. So the GUID
// of the root partition is not enough. The firmware knows which disk it
// booted and says so in EFI variables: BootCurrent names a Boot#### option, which
// has the hardware path of the disk. That path is compared with sysfs. Where it
// cannot be, the partition that systemd-boot says it was started from decides,
// and at last the GUID alone; a line on the console says why.
//
// Deciding ([Decide]) is apart from doing ([Run], on Linux only), and what it
// decides from ([ScanDisks], [ReadFirmware]) is read through an [io/fs.FS], so
// that it is tested without a machine.
//
// Of the kernel's command line it understands root=PARTUUID=GUID, init=PATH,
// panic=SECONDS and MODULE.PARAMETER=VALUE for the modules that it loads. It knows
// ext4 only, no encryption, no RAID, LVM or network, no resume from hibernation, and
// runs no shell.
package initramfs

// The layout of the initramfs, agreed with the package that writes it. Paths
// have no leading slash.
const (
	ModulesDir  = "modules"       // MODULE.ko files
	ModulesList = "modules/order" // their names, one a line, in the order to load
	NewRoot     = "sysroot"       // where the root is mounted before it becomes /
)
