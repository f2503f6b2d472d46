package config

import (
	"bytes"
	"fmt"
)

// kubeletYAML is the kubelet's configuration file. The kubelet refuses fields
// that it doesn't know: see KubeletConfiguration of
// https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/ at
// the version concerned.
func (n *Node) kubeletYAML() []byte {
	var b bytes.Buffer
	// The name is in here so that the kubelet, which asks the system for it
	// when it starts, is restarted when it changed.
	fmt.Fprintf(&b, `# kubelet %s on %s. Written by firstboot at each boot; edits are lost.
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous:
    enabled: false
  webhook:
    enabled: true
  x509:
    clientCAFile: %s
authorization:
  mode: Webhook
`, n.image.Components["kubelet"], n.Name, caFile)
	if n.Credentials == TLSBootstrap {
		b.WriteString(`# The cluster signs both certificates, and new ones before they expire. Requests
# for serving certificates have to be approved by somebody.
rotateCertificates: true
serverTLSBootstrap: true
`)
	} else {
		fmt.Fprintf(&b, "tlsCertFile: %s\ntlsPrivateKeyFile: %s\n", n.certificateFile(), n.keyFile())
	}
	// /etc/resolv.conf names a stub on the loopback address, which is another
	// one inside a pod.
	fmt.Fprintf(&b, `clusterDomain: %q
clusterDNS:
- %q
podCIDR: %q
# The name servers themselves: the stub in /etc/resolv.conf is out of pods' reach.
resolvConf: /run/systemd/resolve/resolv.conf
runtimeRequestTimeout: 15m
# The same as containerd's.
cgroupDriver: %s
`, n.ClusterDomain, n.ClusterDNS, n.PodCIDR, n.image.Node.CgroupDriver)
	if n.image.Node.CgroupDriver == "cgroupfs" && !n.releases.kubelet.before(1, 31) {
		b.WriteString("# This image was made for cgroup v1, which the kubelet refuses otherwise.\nfailCgroupV1: false\n")
	}
	if n.releases.kubelet.before(1, 25) {
		// Before 1.22 there is no such field, and until 1.25 it needs a feature gate.
		b.WriteString("# This kubelet has no seccompDefault, which came with 1.25: pods that ask for no\n# seccomp profile run without one.\n")
	} else {
		b.WriteString("# Pods that ask for no seccomp profile get the runtime's, not none.\nseccompDefault: true\n")
	}
	b.WriteString(`# The kubelet changes no kernel setting: /etc/sysctl.d/90-kubernetes.conf has those
# that it wants, and it does not start where one of them is another.
protectKernelDefaults: true
# No pod takes the node's process numbers from the others.
podPidsLimit: 4096
tlsMinVersion: VersionTLS12
`)
	reserved := reserve(n.memory, n.cpus)
	fmt.Fprintf(&b, `# Swap would make memory limits meaningless; the image has none.
failSwapOn: true
# For the system, containerd and the kubelet: GKE's published shares, of %[1]d MiB of
# memory and of %[2]d processors.
# https://cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes
kubeReserved:
  cpu: %[3]dm
  memory: %[4]dMi
  ephemeral-storage: 1Gi
# The kubelet's own thresholds. All are named, because naming one drops the others.
evictionHard:
  memory.available: 100Mi
  nodefs.available: "10%%"
  nodefs.inodesFree: "5%%"
  imagefs.available: "15%%"
  imagefs.inodesFree: "5%%"
# Unused images go before pods would have to: eviction begins at 85%% in use.
imageGCHighThresholdPercent: 80
imageGCLowThresholdPercent: 70
# What a container logs is bounded at 50 MiB.
containerLogMaxSize: 10Mi
containerLogMaxFiles: 5
`, reserved.of, n.cpus, reserved.milliCPU, reserved.memory)
	return b.Bytes()
}

// reserved is what pods don't get.
type reserved struct {
	of       int64 // MiB of memory that the shares are taken of
	memory   int64 // MiB
	milliCPU int64
}

// reserve computes what GKE does: of memory 255 MiB on machines below 1 GiB,
// else 25% of the first 4 GiB, 20% of the next 4, 10% of the next 8, 6% of the
// next 112 and 2% of the rest; of processors 6% of the first, 1% of the second,
// 0.5% of the next two and 0.25% of the rest.
// https://cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes
//
// A kernel counts the memory that it left, which differs by a little from boot
// to boot. It is rounded up to 256 MiB, lest the kubelet is restarted for that.
func reserve(memory uint64, cpus int) reserved {
	const MiB, step = 1 << 20, 256 << 20
	if memory < 1<<60 {
		memory = (memory + step - 1) / step * step
	}
	r := reserved{of: int64(memory / MiB)}
	if r.of < 1024 {
		r.memory = 255
	} else {
		rest := r.of
		for _, part := range []struct{ size, percent int64 }{
			{4 << 10, 25}, {4 << 10, 20}, {8 << 10, 10}, {112 << 10, 6}, {rest, 2},
		} {
			take := min(rest, part.size)
			r.memory += take * part.percent / 100
			rest -= take
		}
	}
	// In hundredths of a thousandth: 0.25% of a processor is 2.5 of its thousandths.
	hundredths := int64(0)
	for cpu := range cpus {
		switch {
		case cpu == 0:
			hundredths += 6000
		case cpu == 1:
			hundredths += 1000
		case cpu < 4:
			hundredths += 500
		default:
			hundredths += 250
		}
	}
	r.milliCPU = (hundredths + 99) / 100
	return r
}
