package handmade

import (
	"context"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/vm"
	"github.com/nodebake/bake/firstboot/metadata/metadatatest"
)

// DiskVariable names the disk.raw of an image of bake's for TestBoot.
const DiskVariable = "BAKE_HANDMADE_IMAGE_DISK"

func TestProgramPath(t *testing.T) {
	for path, want := range map[string]string{
		"usr/bin/containerd":              "bin/containerd",
		"usr/bin/containerd-shim-runc-v2": "bin/containerd-shim-runc-v2",
		"usr/bin/ctr":                     "bin/ctr",
		"usr/local/bin/kubelet":           "kubelet",
		"opt/cni/bin/bridge":              "cni/bridge",
		"usr/bin/cat":                     "",
	} {
		if got, _ := programPath(path); got != want {
			t.Errorf("programPath(%s) = %q; want %q", path, got, want)
		}
	}
}

func TestBuildNamesWhatIsMissing(t *testing.T) {
	node := map[string]string{}
	for _, key := range nodeKeys() {
		node[key] = "x"
	}
	for _, key := range nodeKeys() {
		without := maps.Clone(node)
		delete(without, key)
		_, err := Build(t.Context(), Config{Node: without})
		if want := "making a worker by hand: no " + key; err == nil || err.Error() != want {
			t.Errorf("Build without %s = %v; want %q", key, err, want)
		}
	}
}

// TestBoot boots a worker with credentials of no cluster: it gets as far as
// kubelet asking an API server that is not there. It is for whoever changes the
// recipe, and runs only where DiskVariable names an image's disk.
func TestBoot(t *testing.T) {
	image := os.Getenv(DiskVariable)
	if image == "" {
		t.Skipf("%s names no disk.raw of an image", DiskVariable)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	disk, err := Build(ctx, Config{
		Dir: t.TempDir(), Cache: filepath.Join(cache, "bake-handmade"), Image: image, Name: "worker-0", PodCIDR: "10.200.0.0/24",
		Node: testNode(t), Log: os.Stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	tools, err := vm.FindTools(ctx, manifest.AMD64, vm.FirmwareDirs()...)
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddr("10.240.0.20")
	network, err := vm.NewNetwork(vm.NetworkConfig{
		Machines: map[string]netip.Addr{"worker-0.us-west1-c.c.example.internal": address}, HostLoopback: true, Isolated: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer network.Close()
	network.ServeMetadata(address, metadatatest.NewServer(metadatatest.Instance{
		Name: "worker-0", Project: "example", Zone: "us-west1-c", IP: address.String(),
	}))
	m, err := tools.Start(ctx, vm.Config{
		Name: "worker-0", Disks: []vm.Disk{{Path: disk, Format: "raw", Bus: vm.SCSI, Boot: true}},
		Accel: tools.Accelerator(ctx, image), Network: network, Address: address, NoReboot: true,
		SMBIOS: Report(), Console: os.Stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	for _, pattern := range []string{`Linux version \S+`, `worker-0 login: `, `HANDMADE kubelet (.*)`, `HANDMADE analyze (.*)`} {
		line, err := m.Console.Wait(ctx, regexp.MustCompile(pattern))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%6.1f s  %s", time.Since(m.Started).Seconds(), line[0])
	}
	// GRUB waits ten seconds for a key after an error.
	if strings.Contains(m.Console.String(), "Press any key") {
		t.Error("GRUB found an error in its configuration")
	}
	if err := m.PowerDown(ctx); err != nil {
		t.Error(err)
	}
}
