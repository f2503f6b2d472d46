#!/usr/bin/env bash
# What the guide's "Bootstrapping the Kubernetes Worker Nodes" has a person type,
# on the file system below ROOT: guide.sh ROOT DOWNLOADS. DOWNLOADS has the
# unpacked releases below programs/ and, below node/, what the guide has a person
# copy to the worker. WORKER is the worker's name, POD_CIDR its pods' range.
set -Eeuo pipefail
shopt -s inherit_errexit
trap 'echo "$0:$LINENO: this ended with $?: $BASH_COMMAND" >&2' ERR
root=$1 downloads=$2

# Provisioning Compute Resources: the host's name.
echo "$WORKER" >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n127.0.1.1\t%s.kubernetes.local %s\n' "$WORKER" "$WORKER" >"$root/etc/hosts"
printf '::1\t\tlocalhost ip6-localhost ip6-loopback\nff02::1\t\tip6-allnodes\nff02::2\t\tip6-allrouters\n' >>"$root/etc/hosts"

# Create the installation directories. (/var/run/kubernetes is gone at boot.)
mkdir -p "$root/etc/cni/net.d" "$root/opt/cni/bin" "$root/var/lib/kubelet" "$root/var/lib/kube-proxy" "$root/var/lib/kubernetes"

# Install the worker binaries.
(
  cd "$downloads/programs"
  chmod +x crictl kubectl kube-proxy kubelet runc bin/* cni/*
  cp crictl kubectl kube-proxy kubelet runc "$root/usr/local/bin/"
  cp cni/* "$root/opt/cni/bin/"
  cp bin/* "$root/bin/"
)

# Configure CNI Networking.
cat >"$root/etc/cni/net.d/10-bridge.conf" <<EOF
{
    "cniVersion": "1.0.0",
    "name": "bridge",
    "type": "bridge",
    "bridge": "cnio0",
    "isGateway": true,
    "ipMasq": true,
    "ipam": {
        "type": "host-local",
        "ranges": [
          [{"subnet": "$POD_CIDR"}]
        ],
        "routes": [{"dst": "0.0.0.0/0"}]
    }
}
EOF
cat >"$root/etc/cni/net.d/99-loopback.conf" <<EOF
{
    "cniVersion": "1.1.0",
    "name": "lo",
    "type": "loopback"
}
EOF
echo br-netfilter >>"$root/etc/modules-load.d/modules.conf"
echo 'net.bridge.bridge-nf-call-iptables = 1' >>"$root/etc/sysctl.d/kubernetes.conf"
echo 'net.bridge.bridge-nf-call-ip6tables = 1' >>"$root/etc/sysctl.d/kubernetes.conf"

# Configure containerd.
mkdir -p "$root/etc/containerd"
cat >"$root/etc/containerd/config.toml" <<EOF
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
EOF
cat >"$root/etc/systemd/system/containerd.service" <<EOF
[Unit]
Description=containerd container runtime
Documentation=https://containerd.io
After=network.target

[Service]
ExecStartPre=/sbin/modprobe overlay
ExecStart=/bin/containerd
Restart=always
RestartSec=5
Delegate=yes
KillMode=process
OOMScoreAdjust=-999
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity

[Install]
WantedBy=multi-user.target
EOF

# Configure the Kubelet.
install -m 600 "$downloads/node/kubelet-key" "$root/var/lib/kubelet/$WORKER-key.pem"
install -m 644 "$downloads/node/kubelet-certificate" "$root/var/lib/kubelet/$WORKER.pem"
install -m 600 "$downloads/node/kubelet-kubeconfig" "$root/var/lib/kubelet/kubeconfig"
install -m 644 "$downloads/node/kubernetes-ca" "$root/var/lib/kubernetes/ca.pem"
cat >"$root/var/lib/kubelet/kubelet-config.yaml" <<EOF
kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: false
  webhook:
    enabled: true
  x509:
    clientCAFile: "/var/lib/kubernetes/ca.pem"
authorization:
  mode: Webhook
cgroupDriver: systemd
clusterDomain: "cluster.local"
clusterDNS:
  - "10.32.0.10"
containerRuntimeEndpoint: "unix:///var/run/containerd/containerd.sock"
podCIDR: "$POD_CIDR"
resolvConf: "/run/systemd/resolve/resolv.conf"
registerNode: true
runtimeRequestTimeout: "15m"
tlsCertFile: "/var/lib/kubelet/$WORKER.pem"
tlsPrivateKeyFile: "/var/lib/kubelet/$WORKER-key.pem"
EOF
cat >"$root/etc/systemd/system/kubelet.service" <<EOF
[Unit]
Description=Kubernetes Kubelet
Documentation=https://github.com/kubernetes/kubernetes
After=containerd.service
Requires=containerd.service

[Service]
ExecStart=/usr/local/bin/kubelet \\
  --config=/var/lib/kubelet/kubelet-config.yaml \\
  --kubeconfig=/var/lib/kubelet/kubeconfig \\
  --v=2
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
EOF

# Configure the Kubernetes Proxy.
install -m 600 "$downloads/node/kube-proxy-kubeconfig" "$root/var/lib/kube-proxy/kubeconfig"
cat >"$root/var/lib/kube-proxy/kube-proxy-config.yaml" <<EOF
kind: KubeProxyConfiguration
apiVersion: kubeproxy.config.k8s.io/v1alpha1
clientConnection:
  kubeconfig: "/var/lib/kube-proxy/kubeconfig"
mode: "iptables"
clusterCIDR: "10.200.0.0/16"
EOF
cat >"$root/etc/systemd/system/kube-proxy.service" <<EOF
[Unit]
Description=Kubernetes Kube Proxy
Documentation=https://github.com/kubernetes/kubernetes

[Service]
ExecStart=/usr/local/bin/kube-proxy \\
  --config=/var/lib/kube-proxy/kube-proxy-config.yaml
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
EOF

# Start the Worker Services.
chroot "$root" systemctl enable containerd kubelet kube-proxy
