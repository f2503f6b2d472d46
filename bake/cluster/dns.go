package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/nodebake/bake/bake/dns"
	"github.com/nodebake/bake/bake/kubectl"
	"github.com/nodebake/bake/firstboot/config"
)

// kubectlCacheDir is where the cluster's kubectl keeps what it learns.
const kubectlCacheDir = "kubectl"

// applyDNS applies the DNS add-on and waits until it answers. A cluster that can't
// have it, as the image has no CoreDNS, is one without DNS, and a note says so.
func (c *Cluster) applyDNS(ctx context.Context) error {
	if c.config.Programs.Kubectl == "" {
		c.note("there is no DNS: the control plane's versions file has no kubectl to apply it with")
		return nil
	}
	addon, err := addon(c.config.Metadata)
	if err != nil {
		return err
	}
	k := kubectl.Kubectl{
		Path: c.config.Programs.Kubectl, Kubeconfig: c.controlPlane.AdminKubeconfig(), CacheDir: c.dir.file(kubectlCacheDir),
		Env: []string{"HOME=" + c.dir.Path, "PATH=/usr/bin:/bin"}, // and none of a person's settings
	}
	result, err := dns.Apply(ctx, dns.Config{Kubectl: k, Addon: addon, Nodes: c.config.Workers, OnNodes: true, Timeout: c.config.ReadyTime})
	switch {
	case errors.Is(err, dns.ErrNoImage):
		c.note("there is no DNS: the image has no CoreDNS (bake dns apply --image NAME applies one from a registry)")
		return nil
	case c.controlPlane.Err() != nil:
		return c.controlPlaneFailed()
	case err != nil:
		return fmt.Errorf("applying the DNS add-on: %w", err)
	}
	c.update(func(s *Status) {
		s.DNS = &DNSStatus{IP: addon.ClusterIP, Version: result.Version, Image: result.Image, Replicas: result.Replicas}
	})
	for _, text := range result.Notes {
		c.note(text)
	}
	return nil
}

// addon is the add-on as workers are told of it by their metadata.
func addon(metadata map[string]string) (dns.Addon, error) {
	ip, err := netip.ParseAddr(cmp.Or(metadata[config.KeyClusterDNS], dns.DefaultClusterIP))
	if err != nil {
		return dns.Addon{}, fmt.Errorf("metadata key %s: %w", config.KeyClusterDNS, err)
	}
	return dns.Addon{
		ClusterIP: ip, Domain: cmp.Or(metadata[config.KeyClusterDomain], dns.DefaultDomain), Replicas: dns.DefaultReplicas,
	}, nil
}

// note keeps what a person should know of a cluster that is right.
func (c *Cluster) note(text string) {
	c.update(func(s *Status) { s.Notes = append(s.Notes, text) })
}
