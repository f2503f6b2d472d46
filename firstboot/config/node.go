package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/firstboot/files"
)

// Paths on the node, the guide's.
const (
	containerdConfig    = "/etc/containerd/config.toml"
	bridgeConf          = "/etc/cni/net.d/10-bridge.conflist"
	loopbackConf        = "/etc/cni/net.d/99-loopback.conf"
	masqueradeRules     = "/etc/nftables/pod-masquerade.nft"
	kubeletDefaults     = "/etc/default/kubelet"
	kubeletConfig       = "/var/lib/kubelet/kubelet-config.yaml"
	kubeletKubeconfig   = "/var/lib/kubelet/kubeconfig"
	bootstrapKubeconfig = "/var/lib/kubelet/bootstrap-kubeconfig"
	caFile              = "/var/lib/kubernetes/ca.pem"
	proxyConfig         = "/var/lib/kube-proxy/kube-proxy-config.yaml"
	proxyKubeconfig     = "/var/lib/kube-proxy/kubeconfig"
)

const (
	public  fs.FileMode = 0o644
	private fs.FileMode = 0o600

	// kubeletDir keeps others out of what kubelet keeps for pods. Kubelet itself
	// makes the directory with 0750 (setupDataDirs in pkg/kubelet) and takes it as
	// it is; it needs no more for pods with users of their own.
	kubeletDir fs.FileMode = 0o700
)

// Early returns the files that need no metadata, with which containerd can
// start while the metadata server is awaited.
//
// CNI's files are not among them: containerd takes its network for ready as
// soon as there is one of them, even if it is the loopback's.
func Early(img Image) ([]files.File, error) {
	r, err := img.releases()
	if err != nil {
		return nil, fmt.Errorf("reading the image's record: %w", err)
	}
	return []files.File{{Path: containerdConfig, Content: containerdTOML(img, r), Mode: public}}, nil
}

// Files returns every file of the node's configuration by path, those of Early
// too. Files that hold keys, and what says how kubelet and kube-proxy are guarded,
// are for root only.
func (n *Node) Files() []files.File {
	all := []files.File{
		{Path: containerdConfig, Content: containerdTOML(n.image, n.releases), Mode: public},
		{Path: bridgeConf, Content: n.bridge(), Mode: public},
		{Path: loopbackConf, Content: n.loopback(), Mode: public},
		{Path: masqueradeRules, Content: n.masquerade(), Mode: public},
		{Path: kubeletDefaults, Content: n.kubeletArgs(), Mode: public},
		{Path: kubeletConfig, Content: n.kubeletYAML(), Mode: private},
		{Path: caFile, Content: n.files.CA, Mode: public},
		{Path: proxyConfig, Content: n.proxyYAML(), Mode: private},
		{Path: proxyKubeconfig, Content: n.files.ProxyKubeconfig, Mode: private, Secret: true},
	}
	if n.Credentials == TLSBootstrap {
		// The kubelet writes its kubeconfig, certificates and keys itself.
		all = append(all, files.File{Path: bootstrapKubeconfig, Content: n.files.BootstrapKubeconfig, Mode: private, Secret: true})
	} else {
		all = append(all,
			files.File{Path: kubeletKubeconfig, Content: n.files.KubeletKubeconfig, Mode: private, Secret: true},
			files.File{Path: n.certificateFile(), Content: n.files.Certificate, Mode: public},
			files.File{Path: n.keyFile(), Content: n.files.Key, Mode: private, Secret: true})
	}
	for i := range all {
		if path.Dir(all[i].Path) == path.Dir(kubeletConfig) {
			all[i].DirMode = kubeletDir
		}
	}
	slices.SortFunc(all, func(a, b files.File) int { return cmp.Compare(a.Path, b.Path) })
	return all
}

func (n *Node) certificateFile() string { return "/var/lib/kubelet/" + n.Name + ".pem" }
func (n *Node) keyFile() string         { return "/var/lib/kubelet/" + n.Name + "-key.pem" }

// Units returns the node's services in the order in which they start. A unit
// has to be restarted when a file that it uses changed; CNI's files are none of
// them, since containerd watches their directory.
func (n *Node) Units() []Unit {
	kubelet := []string{kubeletDefaults, kubeletConfig, caFile, masqueradeRules}
	if n.Credentials == TLSBootstrap {
		kubelet = append(kubelet, bootstrapKubeconfig, kubeletKubeconfig, kubeletClient)
	} else {
		kubelet = append(kubelet, kubeletKubeconfig, n.certificateFile(), n.keyFile())
	}
	return []Unit{
		{Name: "containerd.service", Uses: []string{containerdConfig}},
		{Name: "kubelet.service", Uses: kubelet},
		{Name: "kube-proxy.service", Uses: []string{proxyConfig, proxyKubeconfig}},
	}
}

// cniVersion is the newest that the plugins and containerd's CNI library have
// in common: 1.0.0 came with plugins 1.0 and containerd 1.6.
func (n *Node) cniVersion() string {
	if n.releases.plugins.before(1, 0) || n.releases.containerd.before(1, 6) {
		return "0.4.0"
	}
	return "1.0.0"
}

// bridge is the guide's bridge in a list, since a file with one plugin can't
// chain portmap, without which hostPort does nothing. mtu is the network's: the
// plugin's default would be the kernel's 1500, and on a narrower network large
// packets of pods would vanish. With forceAddress the bridge takes its new
// address when pod-cidr changed, where the plugin would otherwise refuse. With
// hairpinMode a pod reaches itself through its Service. The guide's ipMasq hides
// pods behind their nodes also from each other: see masquerade.
func (n *Node) bridge() []byte {
	type (
		route struct {
			Dst string `json:"dst"`
		}
		ranges struct {
			Subnet string `json:"subnet"`
		}
		ipam struct {
			Type   string     `json:"type"`
			Ranges [][]ranges `json:"ranges"`
			Routes []route    `json:"routes"`
		}
		bridge struct {
			Type         string `json:"type"`
			Bridge       string `json:"bridge"`
			IsGateway    bool   `json:"isGateway"`
			ForceAddress bool   `json:"forceAddress"`
			HairpinMode  bool   `json:"hairpinMode"`
			MTU          int    `json:"mtu"`
			IPAM         ipam   `json:"ipam"`
		}
		portmap struct {
			Type         string          `json:"type"`
			Capabilities map[string]bool `json:"capabilities"`
		}
	)
	return encode(struct {
		CNIVersion string `json:"cniVersion"`
		Name       string `json:"name"`
		Plugins    []any  `json:"plugins"`
	}{
		CNIVersion: n.cniVersion(), Name: "bridge",
		Plugins: []any{
			bridge{
				Type: "bridge", Bridge: "cnio0", IsGateway: true, ForceAddress: true, HairpinMode: true, MTU: n.MTU,
				IPAM: ipam{
					Type:   "host-local",
					Ranges: [][]ranges{{{n.PodCIDR.String()}}},
					Routes: []route{{"0.0.0.0/0"}},
				},
			},
			portmap{Type: "portmap", Capabilities: map[string]bool{"portMappings": true}},
		},
	})
}

// masquerade gives what this node's pods send out of the cluster the node's
// address. Pods see each other's own addresses. The table is replaced as a whole.
func (n *Node) masquerade() []byte {
	return fmt.Appendf(nil, `# Written by firstboot at each boot; edits are lost.
# What pods send out of the cluster, but for multicast, leaves with the node's
# address. Within the cluster their own stays.
table ip pod-masquerade
delete table ip pod-masquerade
table ip pod-masquerade {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %s ip daddr != { %s, 224.0.0.0/4 } masquerade
	}
}
`, n.PodCIDR, n.ClusterCIDR)
}

func (n *Node) loopback() []byte {
	return encode(struct {
		CNIVersion string `json:"cniVersion"`
		Name       string `json:"name"`
		Type       string `json:"type"`
	}{n.cniVersion(), "lo", "loopback"})
}

func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "    ")
	if err := enc.Encode(v); err != nil {
		panic("BUG: encoding a CNI configuration: " + err.Error())
	}
	return b.Bytes()
}

// containerdTOML configures containerd for CRI with runc, and leaves what is
// not said here at containerd's defaults.
func containerdTOML(img Image, r releases) []byte {
	var b bytes.Buffer
	systemd := img.Node.CgroupDriver == "systemd"
	if r.containerd.before(2, 0) {
		const cri = `plugins."io.containerd.grpc.v1.cri"`
		fmt.Fprintf(&b, `# containerd %s. Written by firstboot at each boot; edits are lost.
version = 2

`, img.Components["containerd"])
		var own []string // settings of the plugin itself
		if image := img.Node.SandboxImage; image != "" {
			own = append(own, fmt.Sprintf("# It is in the image.\nsandbox_image = %q\n", image))
		}
		if img.Node.RuntimeType == linuxV1 {
			own = append(own, fmt.Sprintf("# The cgroup driver is the kubelet's.\nsystemd_cgroup = %t\n", systemd))
		}
		if len(own) > 0 {
			fmt.Fprintf(&b, "[%s]\n%s\n", cri, strings.Join(own, ""))
		}
		fmt.Fprintf(&b, `[%[1]s.cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"

[%[1]s.containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

# runc is found in PATH.
[%[1]s.containerd.runtimes.runc]
runtime_type = %[2]q
`, cri, img.Node.RuntimeType)
		if img.Node.RuntimeType == "io.containerd.runc.v1" || img.Node.RuntimeType == "io.containerd.runc.v2" {
			fmt.Fprintf(&b, "\n# The cgroup driver is the kubelet's.\n[%s.containerd.runtimes.runc.options]\nSystemdCgroup = %t\n", cri, systemd)
		}
		return b.Bytes()
	}

	pinned := ""
	if image := img.Node.SandboxImage; image != "" {
		pinned = fmt.Sprintf(`
# Every pod's sandbox is of it. It is in the image, and the kubelet is told to
# keep it.
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = %q
`, image)
	}
	fmt.Fprintf(&b, `# containerd %[1]s. Written by firstboot at each boot; edits are lost.
# What an image adds of its own goes into files of imports.
version = 3
imports = ["/etc/containerd/conf.d/*.toml"]
# Snapshotters that nothing here uses: they look for kernel modules and tools
# when containerd starts, and log that they found none.
disabled_plugins = [
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs",
]

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
%[4]s
# Mirrors of registries, if an image has any: DIR/HOST/hosts.toml.
[plugins."io.containerd.cri.v1.images".registry]
config_path = "/etc/containerd/certs.d"

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/opt/cni/bin"]
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"

# runc is found in PATH.
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = %[2]q

# The cgroup driver is the kubelet's.
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = %[3]t
`, img.Components["containerd"], img.Node.RuntimeType, systemd, pinned)
	return b.Bytes()
}

// kubeletArgs are flags that have no field in the kubelet's configuration file.
func (n *Node) kubeletArgs() []byte {
	var args []string
	if n.releases.kubelet.before(1, 24) {
		// Docker was the default until 1.24, which dropped it with these flags.
		args = append(args, "--container-runtime=remote", "--network-plugin=cni", "--image-pull-progress-deadline=2m")
	}
	// containerd says over CRI from 1.7.3 on that the image is to be kept. For an
	// older one the kubelet's collector of unused images wants this flag, also
	// where a kubelet warns that it ignores it (pkg/kubelet/images of 1.21). 1.35
	// has it no more.
	if image := n.image.Node.SandboxImage; image != "" && n.releases.containerd.before(2, 0) && n.releases.kubelet.before(1, 35) {
		args = append(args, "--pod-infra-container-image="+image)
	}
	if n.Credentials == TLSBootstrap {
		args = append(args, "--bootstrap-kubeconfig="+bootstrapKubeconfig)
	}
	return fmt.Appendf(nil, "# Flags for kubelet %s. Written by firstboot at each boot; edits are lost.\nKUBELET_ARGS=\"%s\"\n",
		n.image.Components["kubelet"], strings.Join(args, " "))
}

func (n *Node) proxyYAML() []byte {
	return fmt.Appendf(nil, `# kube-proxy %s. Written by firstboot at each boot; edits are lost.
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection:
  kubeconfig: %s
mode: iptables
# The range of all pods: what comes from elsewhere to a service is masqueraded.
clusterCIDR: %s
hostnameOverride: %q
`, n.image.Components["kube-proxy"], proxyKubeconfig, n.ClusterCIDR, n.Name)
}
