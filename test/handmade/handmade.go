// Package handmade makes the worker that bake's is measured against: a Debian
// cloud machine on which a person followed "Kubernetes the Hard Way".
//
// The machine is Debian 13 as Debian's own builder makes it for Compute Engine
// (debian-cloud-images: release trixie, vendor gce), installed by mmdebstrap
// because the builder's FAI is made for whole hosts: the packages of its classes
// (see packages), its settings (debian.sh), its disk layout and boot chain of
// shim, GRUB, kernel and initramfs-tools (disk.sh). On it, guide.sh does what the
// guide says for a worker. The guide's last edition for Compute Engine is for
// Kubernetes 1.21; files and names are that edition's. Where Kubernetes 1.36 or
// containerd 2 no longer take what it says (flags of kubelet, the runtime's
// configuration, the cgroup driver, the CNI version), the guide's present
// edition for 1.32 is followed. Kubernetes, containerd, runc, the CNI plugins
// and crictl are the files of the image under test, byte for byte.
//
// Nothing is tuned, in either direction. The first start of the disk does what a
// first start of Debian's image does (SSH host keys, AppArmor's cache, systemd's
// updates after an installation), but for growing: the root fills the disk. A
// second start has all that behind it, as a machine has on which a person has
// worked.
package handmade

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nodebake/bake/bake/source/debian"
)

//go:embed *.sh
var scripts embed.FS

// suite is Debian's.
const suite = "trixie"

// Size of the disk in bytes: that of Debian's image.
const Size = 10 << 30

// packages are what Debian's builder installs, without recommended packages, in
// an image for Compute Engine: package_config/CLASS for each of its classes, on
// the root that debootstrap's minbase makes.
func packages() map[string][]string {
	return map[string][]string{
		"SYSTEM_BOOT": {
			"sudo", "e2fsprogs", "libpam-systemd", "systemd-resolved", "libnss-resolve", "libnss-myhostname", "netplan.io",
			"polkitd", "unattended-upgrades", "apparmor", "zstd", "apt-utils", "init", "iptables", "iputils-ping",
			"linux-sysctl-defaults", "less", "nano", "netbase", "vim-tiny", "whiptail",
		},
		"TIME_SYSTEMD":              {"systemd-timesyncd"},
		"CLOUD":                     {"openssh-server", "ssh-import-id", "cloud-initramfs-growroot"},
		"GCE":                       {"google-compute-engine-oslogin", "google-guest-agent"},
		"AMD64+LINUX_VARIANT_CLOUD": {"linux-image-cloud-amd64", "grub-cloud-amd64", "dosfstools"},
		"EXTRAS": {
			"apt-listchanges", "bash-completion", "bind9-host", "less", "man-db", "manpages", "socat", "pciutils", "reportbug",
			"traceroute", "vim", "psmisc", "tcpdump", "ca-certificates", "curl", "ethtool", "uuid-runtime", "screen", "xz-utils",
		},
	}
}

// identity of the disk. There is one such disk on a machine.
func identity() []string {
	return []string{
		"ROOT_PARTUUID=6f1c3f0e-2f0b-4f0e-9d53-0a5b7d0c1e01",
		"ROOT_UUID=6f1c3f0e-2f0b-4f0e-9d53-0a5b7d0c1e02",
		"ESP_PARTUUID=6f1c3f0e-2f0b-4f0e-9d53-0a5b7d0c1e03",
	}
}

// Config says what to make. All fields but Log are required.
type Config struct {
	Dir     string            // where the disk goes; also scratch
	Cache   string            // where the Debian root is kept, "~/.cache/bake-handmade"
	Image   string            // disk.raw of the image whose programs are installed
	Name    string            // the worker's, "worker-0"
	PodCIDR string            // "10.200.0.0/24"
	Node    map[string]string // content by metadata key: kubernetes-ca, kubelet-certificate, kubelet-key, kubelet-kubeconfig, kube-proxy-kubeconfig
	Log     io.Writer         // what mmdebstrap and the scripts print; may be nil
}

// nodeKeys names the files that the guide has a person copy to the worker.
func nodeKeys() []string {
	return []string{"kubernetes-ca", "kubelet-certificate", "kubelet-key", "kubelet-kubeconfig", "kube-proxy-kubeconfig"}
}

// Build makes the worker's disk, raw and sparse, and returns its path. The first
// time it takes minutes, for Debian's packages; then some 20 s. As root it works
// as it is; for others mmdebstrap makes a user namespace. Where a program is
// missing the error is an exec.ErrNotFound.
func Build(ctx context.Context, c Config) (string, error) {
	for _, key := range nodeKeys() {
		if c.Node[key] == "" {
			return "", fmt.Errorf("making a worker by hand: no %s", key)
		}
	}
	if err := findPrograms(); err != nil {
		return "", fmt.Errorf("making a worker by hand: %w", err)
	}
	tar, err := debianRoot(ctx, c)
	if err != nil {
		return "", fmt.Errorf("making a Debian root: %w", err)
	}
	work, err := os.MkdirTemp(c.Dir, "handmade-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := writeScripts(work); err != nil {
		return "", err
	}
	if err := takePrograms(c.Image, filepath.Join(work, "programs")); err != nil {
		return "", fmt.Errorf("taking programs out of %s: %w", c.Image, err)
	}
	if err := os.Mkdir(filepath.Join(work, "node"), 0o755); err != nil {
		return "", err
	}
	for _, key := range nodeKeys() {
		if err := os.WriteFile(filepath.Join(work, "node", key), []byte(c.Node[key]), 0o644); err != nil {
			return "", err
		}
	}
	disk := filepath.Join(c.Dir, c.Name+"-handmade.raw")
	env := append(identity(), "WORKER="+c.Name, "POD_CIDR="+c.PodCIDR, "SIZE="+strconv.Itoa(Size))
	if err := run(ctx, c.Log, env, asRoot(filepath.Join(work, "disk.sh"), tar, work, disk)...); err != nil {
		return "", fmt.Errorf("making the disk: %w", err)
	}
	return disk, nil
}

// Recipe returns one line for each choice of packages, for reports.
func Recipe() string {
	var b strings.Builder
	all := packages()
	for _, class := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s: %s\n", class, strings.Join(all[class], " "))
	}
	return b.String()
}

// debianRoot returns the tar of Debian's root filesystem, rebuilt when the
// recipe or the archive has changed.
func debianRoot(ctx context.Context, c Config) (string, error) {
	mirrors, err := debian.Mirrors(nil, os.DirFS("/"))
	if err != nil {
		return "", err
	}
	var sources []string
	key := sha256.New()
	for _, s := range []struct{ archive, suite string }{{"debian", suite}, {"debian", suite + "-updates"}, {"debian-security", suite + "-security"}} {
		urls, err := mirrors.URLs(s.archive, "dists/"+s.suite+"/InRelease")
		if err != nil {
			return "", err
		}
		release, err := get(ctx, urls[0])
		if err != nil {
			return "", err
		}
		key.Write(release)
		base := strings.TrimSuffix(urls[0], "/dists/"+s.suite+"/InRelease")
		sources = append(sources, fmt.Sprintf("deb %s %s main", base, s.suite))
	}
	recipe, err := fs.ReadFile(scripts, "debian.sh")
	if err != nil {
		return "", err
	}
	key.Write(recipe)
	io.WriteString(key, Recipe()+strings.Join(identity(), "\n"))
	tar := filepath.Join(c.Cache, hex.EncodeToString(key.Sum(nil))[:16]+".tar")
	if _, err := os.Stat(tar); err == nil {
		return tar, nil
	}
	if err := os.MkdirAll(c.Cache, 0o755); err != nil {
		return "", err
	}
	// One is enough: each is half a gigabyte.
	old, _ := filepath.Glob(filepath.Join(c.Cache, "*.tar"))
	for _, o := range old {
		os.Remove(o)
	}
	work, err := os.MkdirTemp(c.Dir, "debian-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := writeScripts(work); err != nil {
		return "", err
	}
	var include []string
	all := packages()
	for _, class := range slices.Sorted(maps.Keys(all)) {
		include = append(include, all[class]...)
	}
	mode := "root"
	if os.Geteuid() != 0 {
		mode = "unshare"
	}
	hook := filepath.Join(work, "debian.sh")
	partial := tar + ".partial"
	defer os.Remove(partial)
	args := []string{
		"mmdebstrap", "--mode=" + mode, "--variant=minbase", "--architectures=amd64", "--format=tar",
		"--aptopt=APT::Install-Recommends \"false\"", "--include=" + strings.Join(include, ","),
		"--essential-hook=" + hook + " before \"$1\"", "--customize-hook=" + hook + " after \"$1\"",
		suite, partial,
	}
	env := append(identity(), "TMPDIR="+work, "DEBIAN_FRONTEND=noninteractive")
	if err := run(ctx, c.Log, env, append(args, sources...)...); err != nil {
		return "", err
	}
	return tar, os.Rename(partial, tar)
}

func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, 1<<20))
}

func writeScripts(dir string) error {
	entries, err := scripts.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		content, err := scripts.ReadFile(e.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), content, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// asRoot returns the command that runs args with the right to make files of
// other owners: as they are, or in a user namespace as mmdebstrap makes one.
func asRoot(args ...string) []string {
	if os.Geteuid() == 0 {
		return args
	}
	return append([]string{"mmdebstrap", "--unshare-helper"}, args...)
}

// searchPath is the process's, and where Debian has programs for root.
func searchPath() string { return os.Getenv("PATH") + ":/usr/sbin:/sbin" }

// findPrograms looks for what the scripts call.
func findPrograms() error {
	for _, name := range []string{"mmdebstrap", "tar", "sgdisk", "mkfs.vfat", "mmd", "mcopy", "mke2fs"} {
		found := slices.ContainsFunc(filepath.SplitList(searchPath()), func(dir string) bool {
			_, err := os.Stat(filepath.Join(dir, name))
			return err == nil
		})
		if !found {
			return fmt.Errorf("%s: %w: run scripts/install-tools test", name, exec.ErrNotFound)
		}
	}
	return nil
}

// run runs a command; an error carries the last of what it printed.
func run(ctx context.Context, log io.Writer, env []string, args ...string) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(env, "PATH="+searchPath(), "LC_ALL=C.UTF-8", "HOME="+os.Getenv("HOME"))
	cmd.Stdout = &out
	if log != nil {
		cmd.Stdout = io.MultiWriter(&out, log)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Run(); err != nil {
		lines := bytes.SplitAfter(out.Bytes(), []byte("\n"))
		return fmt.Errorf("%s: %w\n%s", filepath.Base(args[0]), errors.Join(err, ctx.Err()), bytes.Join(lines[max(0, len(lines)-30):], nil))
	}
	return nil
}
