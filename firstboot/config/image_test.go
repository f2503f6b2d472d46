package config_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/firstboot/config"
)

const record = `{"schema":1,"name":"k8s-worker","inputs":{"lock":"sha256:2f2f"},
 "components":[{"name":"kubelet","version":"v1.36.3","origin":"release","files":[]},{"name":"containerd","version":"2.3.4"},
 {"name":"cni-plugins","version":"v1.9.1"}],"node":{"runtimeType":"io.containerd.runc.v2","cgroupDriver":"systemd","sandboxImage":"registry.k8s.io/pause:3.10.2"}}`

func TestParseImage(t *testing.T) {
	t.Parallel()
	want := config.Image{
		Components: map[string]string{"kubelet": "v1.36.3", "containerd": "2.3.4", "cni-plugins": "v1.9.1"},
		Node:       config.NodeDefaults{RuntimeType: "io.containerd.runc.v2", CgroupDriver: "systemd", SandboxImage: "registry.k8s.io/pause:3.10.2"},
		Lock:       "sha256:2f2f",
	}
	// An older record says nothing of the node.
	for i, r := range []string{record, strings.Replace(record, `"node"`, `"other"`, 1)} {
		if i == 1 {
			want.Node.SandboxImage = ""
		}
		got, err := config.ParseImage([]byte(r))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParseImage (-want +got):\n%s", diff)
		}
	}
	for _, test := range []struct{ old, new, want string }{
		{`{"schema"`, `["schema"`, "parsing the image's record: "},
		{`"kubelet"`, `"kubelets"`, "it names no component kubelet"},
		{`"kubelet"`, `""`, "a component has no name"},
		{`"kubelet"`, `"containerd"`, "component containerd is there twice"},
		{`v1.36.3`, `latest`, `component kubelet: "latest" is no version such as v1.36.3`},
		{`v1.36.3`, `v1.20.15`, "component kubelet: v1.20.15 is not supported; 1.21 and later are"},
		{`2.3.4`, `1.2.14`, "component containerd: 1.2.14 is not supported; versions 1.3 to 2 are"},
		{`2.3.4`, `3.0.0`, "component containerd: 3.0.0 is not supported"},
		{`io.containerd.runc.v2`, `io.containerd.runtime.v1.linux`, "node.runtimeType: containerd 2.3.4 has no io.containerd.runtime.v1.linux"},
		{`io.containerd.runc.v2`, `io.containerd.x\"\n[plugins]`, "is no runtime type of containerd"},
		{`"systemd"`, `"systemd2"`, `node.cgroupDriver: "systemd2" is neither systemd nor cgroupfs`},
		{`registry.k8s.io/pause:3.10.2`, `pause`, `node.sandboxImage: "pause" is no image's name, such as registry.k8s.io/pause:3.10.2`},
		{`registry.k8s.io/pause:3.10.2`, `/pause:3.10.2`, "node.sandboxImage: "},
		{`registry.k8s.io/pause:3.10.2`, `--a/pause:3.10.2`, "node.sandboxImage: "},
		{`registry.k8s.io/pause:3.10.2`, `registry.k8s.io/pause`, "node.sandboxImage: "},
		{`registry.k8s.io/pause:3.10.2`, `registry.k8s.io/pause:3.10.2 --v=9`, "node.sandboxImage: "},
		{`registry.k8s.io/pause:3.10.2`, `registry.k8s.io/pause:3.10.2\"`, "node.sandboxImage: "},
		{`registry.k8s.io/pause:3.10.2`, `registry.k8s.io/pause:3.10.2\nx`, "node.sandboxImage: "},
		{`registry.k8s.io/pause:3.10.2`, `registry.k8s.io/$HOME:3.10.2`, "node.sandboxImage: "},
		{`registry.k8s.io/pause:3.10.2`, `registry.k8s.io/` + strings.Repeat("a", 400) + ":1", "node.sandboxImage: "},
	} {
		_, err := config.ParseImage([]byte(strings.Replace(record, test.old, test.new, 1)))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("with %s for %s: ParseImage = %v; want %q in it", test.new, test.old, err, test.want)
		}
	}
}

func TestVersionsDecide(t *testing.T) {
	t.Parallel()
	made := credentials(t)
	for _, test := range []struct {
		component, version string
		file, want         string
		has                bool
	}{
		{"kubelet", "v1.23.17", "/etc/default/kubelet", "--container-runtime=remote --network-plugin=cni", true},
		{"kubelet", "v1.24.0", "/etc/default/kubelet", "--container-runtime", false},
		{"kubelet", "v1.24.0", "/etc/default/kubelet", "--network-plugin", false},
		{"containerd", "1:1.7.24~ds1-6", "/etc/containerd/config.toml", "version = 2\n", true},
		{"containerd", "2.0.0", "/etc/containerd/config.toml", "version = 3\n", true},
		{"containerd", "v1.4.4", "/etc/cni/net.d/10-bridge.conflist", `"cniVersion": "0.4.0"`, true},
		{"containerd", "1.6.0", "/etc/cni/net.d/10-bridge.conflist", `"cniVersion": "1.0.0"`, true},
		{"cni-plugins", "v0.9.1", "/etc/cni/net.d/99-loopback.conf", `"cniVersion": "0.4.0"`, true},
		{"containerd", "1.7.2", "/etc/containerd/config.toml", "\n[plugins.\"io.containerd.grpc.v1.cri\"]\n# It is in the image.\nsandbox_image = \"example.com/pause:1\"\n", true},
		{"containerd", "2.0.0", "/etc/containerd/config.toml", "\n[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = \"example.com/pause:1\"\n", true},
		{"containerd", "2.0.0", "/etc/containerd/config.toml", "sandbox_image", false},
		{"kubelet", "v1.34.0", "/etc/default/kubelet", "--pod-infra-container-image", false}, // containerd 2 says it
	} {
		in := input(attributes(made, nil))
		in.Image.Components = maps.Clone(in.Image.Components)
		in.Image.Components[test.component] = test.version
		in.Image.Node.SandboxImage = "example.com/pause:1"
		n, err := config.New(in)
		if err != nil {
			t.Fatal(err)
		}
		if content := string(find(n.Files(), test.file).Content); strings.Contains(content, test.want) != test.has {
			t.Errorf("%s %s: %s in %s is not %t:\n%s", test.component, test.version, test.want, test.file, test.has, content)
		}
	}
}

// TestSandboxImageIsKept wants the kubelet told by a flag where containerd may
// not tell it, as long as kubelets have that flag.
func TestSandboxImageIsKept(t *testing.T) {
	t.Parallel()
	made := credentials(t)
	for _, test := range []struct {
		kubelet, containerd, image string
		has                        bool
	}{
		{"v1.21.0", "1.4.13", "k8s.gcr.io/pause:3.2", true},
		{"v1.34.9", "1.7.28", "k8s.gcr.io/pause:3.2", true},
		{"v1.35.0", "1.7.28", "k8s.gcr.io/pause:3.2", false},
		{"v1.34.9", "2.0.0", "k8s.gcr.io/pause:3.2", false},
		{"v1.21.0", "1.4.13", "", false},
	} {
		in := input(attributes(made, nil))
		in.Image.Components = maps.Clone(in.Image.Components)
		in.Image.Components["kubelet"], in.Image.Components["containerd"] = test.kubelet, test.containerd
		in.Image.Node.SandboxImage = test.image
		n, err := config.New(in)
		if err != nil {
			t.Fatal(err)
		}
		content := string(find(n.Files(), "/etc/default/kubelet").Content)
		if has := strings.Contains(content, "--pod-infra-container-image="+test.image); has != test.has {
			t.Errorf("kubelet %s, containerd %s, image %q: the flag is there: %t; want %t:\n%s", test.kubelet, test.containerd, test.image, has, test.has, content)
		}
	}
}

// TestReserved compares with GKE's own examples and with sums made by hand.
func TestReserved(t *testing.T) {
	t.Parallel()
	made := credentials(t)
	const MiB = 1 << 20
	for _, test := range []struct {
		memory uint64
		cpus   int
		want   string
	}{
		{600 * MiB, 1, "  cpu: 60m\n  memory: 255Mi\n"},
		{970 * MiB, 2, "  cpu: 70m\n  memory: 256Mi\n"},      // e2-micro: 1 GiB
		{4000 * MiB, 2, "  cpu: 70m\n  memory: 1024Mi\n"},    // e2-medium: 4 GiB
		{7952 * MiB, 2, "  cpu: 70m\n  memory: 1843Mi\n"},    // e2-standard-2: 1 GiB + 0.8 GiB
		{8000 * MiB, 3, "  cpu: 75m\n  memory: 1843Mi\n"},    // another boot's count of the same
		{16000 * MiB, 4, "  cpu: 80m\n  memory: 2636Mi\n"},   // + 10% of 7.75 GiB
		{128 << 30, 32, "  cpu: 150m\n  memory: 9543Mi\n"},   // + 6.72 GiB
		{1 << 40, 128, "  cpu: 390m\n  memory: 27893Mi\n"},   // + 17.92 GiB
		{1 << 63, 1, "  cpu: 60m\n  memory: 175921"},         // no machine's, and no overflow
		{1<<64 - 1, 5, "  cpu: 83m\n  memory: 351843727809"}, // 82.5m
	} {
		in := input(attributes(made, nil))
		in.Memory, in.CPUs = test.memory, test.cpus
		n, err := config.New(in)
		if err != nil {
			t.Fatal(err)
		}
		content := string(find(n.Files(), "/var/lib/kubelet/kubelet-config.yaml").Content)
		_, got, _ := strings.Cut(content, "kubeReserved:\n")
		if !strings.HasPrefix(got, test.want) {
			t.Errorf("%d bytes, %d processors: reserved\n%.60s\nwant\n%s", test.memory, test.cpus, got, test.want)
		}
	}
}

// TestHardening has each kubelet be given what it knows: a field that it doesn't
// know, or that needs a feature gate, would keep it from starting.
func TestHardening(t *testing.T) {
	t.Parallel()
	made := credentials(t)
	for version, want := range map[string][]string{
		"v1.21.0":  {"protectKernelDefaults: true", "podPidsLimit: 4096", "tlsMinVersion: VersionTLS12"},
		"v1.24.17": {"protectKernelDefaults: true", "podPidsLimit: 4096", "tlsMinVersion: VersionTLS12"},
		"v1.25.0":  {"seccompDefault: true", "protectKernelDefaults: true", "podPidsLimit: 4096", "tlsMinVersion: VersionTLS12"},
		"v1.36.3":  {"seccompDefault: true", "protectKernelDefaults: true", "podPidsLimit: 4096", "tlsMinVersion: VersionTLS12"},
	} {
		in := input(attributes(made, nil))
		in.Image.Components = maps.Clone(in.Image.Components)
		in.Image.Components["kubelet"] = version
		n, err := config.New(in)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(string(find(n.Files(), "/var/lib/kubelet/kubelet-config.yaml").Content)) {
			switch key, _, _ := strings.Cut(line, ":"); key {
			case "seccompDefault", "protectKernelDefaults", "podPidsLimit", "tlsMinVersion":
				got = append(got, strings.TrimSpace(line))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("kubelet %s (-want +got):\n%s", version, diff)
		}
	}
}

func FuzzParseImage(f *testing.F) {
	f.Add([]byte(record))
	f.Add([]byte(strings.Replace(record, "2.3.4", "1:1.4.13~ds1-1~deb11u4", 1)))
	f.Add([]byte(strings.Replace(record, "runc.v2", "x\\\"", 1)))
	f.Add([]byte(strings.Replace(record, "pause:3.10.2", "pause:3.10.2\\\"\\n", 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := config.ParseImage(data)
		if err != nil {
			return
		}
		early, err := config.Early(img)
		if err != nil || len(early) != 1 {
			t.Fatalf("Early = %v, %v", early, err)
		}
	})
}
