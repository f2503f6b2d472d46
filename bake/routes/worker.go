package routes

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/firstboot/config"
	"github.com/nodebake/bake/firstboot/pki"
)

// ReadWorker reads a directory of `bake node --output`: the pod range, and from the
// certificate the name and the address, which is the first of its addresses in the
// subnet.
func ReadWorker(dir string, subnet netip.Prefix) (Worker, error) {
	w := Worker{From: dir}
	var err error
	if w.PodCIDR, err = readRange(dir, config.KeyPodCIDR); err != nil {
		return w, err
	}
	if !w.PodCIDR.IsValid() {
		return w, fmt.Errorf("%s: no pod-cidr is there (want a directory of `bake node --output`)", dir)
	}
	if w.ClusterCIDR, err = readRange(dir, config.KeyClusterCIDR); err != nil {
		return w, err
	}
	path := filepath.Join(dir, config.KeyKubeletCertificate)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return w, fmt.Errorf("%s: no kubelet-certificate is there to tell the address: give --worker NAME=IP=%s in its place", dir, w.PodCIDR)
	}
	if err != nil {
		return w, fmt.Errorf("reading a worker's certificate: %w", err)
	}
	certs, err := pki.ParseCertificates(data)
	if err != nil {
		return w, fmt.Errorf("%s: %w", path, err)
	}
	w.Name = strings.TrimPrefix(certs[0].Subject.CommonName, "system:node:")
	for _, ip := range certs[0].IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok && subnet.Contains(addr.Unmap()) {
			w.IP = addr.Unmap()
			return w, nil
		}
	}
	return w, fmt.Errorf("%s: the certificate's addresses, %s, are not in the subnet %s (--subnet, or --worker %s=IP=%s in its place)", path, certs[0].IPAddresses, subnet, w.Name, w.PodCIDR)
}

// readRange reads a metadata key; one that is not there gives no range.
func readRange(dir, key string) (netip.Prefix, error) {
	path := filepath.Join(dir, key)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return netip.Prefix{}, nil
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("reading a worker's %s: %w", key, err)
	}
	prefix, err := netip.ParsePrefix(strings.TrimSpace(string(data)))
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%s: is no range like 10.200.0.0/24", path)
	}
	return prefix, nil
}

// ParseWorker reads NAME=IP=CIDR.
func ParseWorker(text string) (Worker, error) {
	part := strings.Split(text, "=")
	if len(part) != 3 || part[0] == "" {
		return Worker{}, fmt.Errorf("%q: want NAME=IP=CIDR, as in worker-0=10.240.0.20=10.200.0.0/24", text)
	}
	w := Worker{Name: part[0], From: "--worker " + part[0]}
	var err error
	if w.IP, err = netip.ParseAddr(part[1]); err != nil {
		return w, fmt.Errorf("%q: %q is no address like 10.240.0.20", text, part[1])
	}
	if w.PodCIDR, err = netip.ParsePrefix(part[2]); err != nil {
		return w, fmt.Errorf("%q: %q is no range like 10.200.0.0/24", text, part[2])
	}
	return w, nil
}
