package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/dns"
	"github.com/nodebake/bake/bake/kubectl"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/node"
)

// dnsFlags are the flags of bake dns' commands as they are given.
type dnsFlags struct {
	kubectlFlags
	clusterIP, domain string
	replicas, nodes   int
	image, kubernetes string
	asJSON            bool
}

func newDNS(h *host) *cobra.Command {
	c := &cobra.Command{
		Use:   "dns",
		Short: "Apply the cluster's DNS add-on, and delete it",
	}
	c.AddCommand(newDNSApply(h), newDNSDelete(h), newDNSPrint(h))
	return c
}

func newDNSApply(h *host) *cobra.Command {
	var in dnsFlags
	c := &cobra.Command{
		Use:         "apply",
		Short:       "Apply CoreDNS, and wait until every replica answers",
		Annotations: map[string]string{exitCodes: "0 every replica is ready, 1 failed or --timeout, 2 wrong usage, 3 bad input"},
		Long: `Apply CoreDNS as it belongs to the nodes' Kubernetes (print shows it), out of the
image that they have, by your kubectl. Before anything changes it waits for as many
Ready nodes as there are replicas, if so many have joined or are expected, and has
the API server check everything: an address that is taken or out of range is
refused. Then it waits until every replica is ready, or says what keeps it from
that. Done again it changes nothing. Somebody else's add-on is not touched.`,
		Example: `  bake dns apply --kubeconfig admin.kubeconfig --nodes 3`,
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return in.apply(c, h) },
	}
	in.addAddonFlags(c)
	in.addTimeout(c, 10*time.Minute)
	c.Flags().IntVar(&in.nodes, "nodes", 0, "`N` nodes are expected (default: those that have joined)")
	c.Flags().BoolVar(&in.asJSON, "json", false, "print what changed, and where replicas are, as JSON")
	h.addShownFlags(c, "show no progress")
	return c
}

func newDNSPrint(h *host) *cobra.Command {
	var in dnsFlags
	c := &cobra.Command{
		Use:         "print",
		Short:       "Print the objects of the DNS add-on as YAML",
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, 2 wrong usage, 3 bad input"},
		Long: `Print what apply would apply: CoreDNS 1.8.3 with the guide's objects for nodes of
Kubernetes 1.24 and before, for newer ones 1.14.2 as Kubernetes ships it. The
cluster is asked for its nodes' version and image, unless --kubernetes tells.`,
		Example: `  bake dns print --kubeconfig admin.kubeconfig
  bake dns print --kubernetes 1.36 --image bake.invalid/coredns:v1.14.2 | kubectl apply -f -`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return in.print(c, h) },
	}
	in.addAddonFlags(c)
	return c
}

func newDNSDelete(h *host) *cobra.Command {
	var in dnsFlags
	c := &cobra.Command{
		Use:         "delete",
		Short:       "Delete the DNS add-on that bake applied, and wait until it is gone",
		Annotations: map[string]string{exitCodes: "0 done, or nothing was there, 1 failed or --timeout, 2 wrong usage, 3 bad input"},
		Long: `Delete the objects that apply made, which are known by a label. What is gone is
passed over, and what somebody else has applied under these names stays.`,
		Example: `  bake dns delete --kubeconfig admin.kubeconfig`,
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return in.delete(c, h) },
	}
	in.addFlags(c)
	in.addTimeout(c, 2*time.Minute)
	c.Flags().BoolVar(&in.asJSON, "json", false, "print what was deleted as JSON")
	h.addShownFlags(c, "show no progress")
	return c
}

func (in *dnsFlags) addAddonFlags(c *cobra.Command) {
	in.addFlags(c)
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&in.clusterIP, "cluster-ip", dns.DefaultClusterIP, "`IP` of the service, as kubelets tell pods")
	f.StringVar(&in.domain, "domain", dns.DefaultDomain, "the cluster's `DOMAIN`")
	f.IntVar(&in.replicas, "replicas", dns.DefaultReplicas, "run `N` of it")
	f.StringVar(&in.image, "image", "", "`NAME` of its image (default: what the nodes have)")
	f.StringVar(&in.kubernetes, "kubernetes", "", "`VERSION` of the nodes, such as 1.36 (default: the oldest node's)")
	inGroup(f, "Add-on", "cluster-ip", "domain", "replicas", "image", "kubernetes")
}

// addon reads the flags.
func (in *dnsFlags) addon() (dns.Addon, error) {
	a := dns.Addon{Domain: in.domain, Replicas: in.replicas, Image: in.image}
	var wrong []error
	var err error
	if a.ClusterIP, err = netip.ParseAddr(in.clusterIP); err != nil {
		return a, &usageError{fmt.Errorf("--cluster-ip %q: want an address like %s", in.clusterIP, dns.DefaultClusterIP)}
	}
	if in.kubernetes != "" {
		version, err := kubectl.ParseVersion(in.kubernetes)
		if err != nil {
			wrong = append(wrong, &usageError{fmt.Errorf("--kubernetes: %w (want one like 1.36)", err)})
		}
		a.Release = dns.For(version)
	}
	for _, m := range node.InputErrors(a.Check()) {
		wrong = append(wrong, &usageError{fmt.Errorf("--%w", m)})
	}
	if in.nodes < 0 {
		wrong = append(wrong, &usageError{fmt.Errorf("--nodes %d: want 1 or more", in.nodes)})
	}
	return a, errors.Join(wrong...)
}

func (in *dnsFlags) print(c *cobra.Command, h *host) error {
	a, err := in.addon()
	if err != nil {
		return err
	}
	if in.kubernetes != "" && a.Image == "" {
		a.Image = a.Release.Image
		h.note("no node is asked for its image with --kubernetes: %s is the registry's (--image names another)", a.Image)
	}
	if in.kubernetes == "" {
		k, err := in.open(h)
		if err != nil {
			return err
		}
		if a, err = dns.Resolve(c.Context(), k, a); err != nil {
			return err
		}
	}
	text, err := a.YAML()
	if err != nil {
		return err
	}
	_, err = io.WriteString(h.stdout, text)
	return err
}

func (in *dnsFlags) apply(c *cobra.Command, h *host) error {
	a, err := in.addon()
	if err != nil {
		return err
	}
	k, err := in.open(h)
	if err != nil {
		return err
	}
	sink, stop := h.progress(1)
	defer stop()
	result, err := dns.Apply(c.Context(), dns.Config{Kubectl: k, Addon: a, Nodes: in.nodes, Timeout: in.timeout, Progress: sink})
	stop()
	if _, ok := errors.AsType[*dns.InputError](err); ok {
		return &manifest.ArgumentError{Err: err}
	}
	if err != nil {
		return err
	}
	return in.show(h, result)
}

func (in *dnsFlags) delete(c *cobra.Command, h *host) error {
	k, err := in.open(h)
	if err != nil {
		return err
	}
	sink, stop := h.progress(1)
	defer stop()
	result, err := dns.Delete(c.Context(), dns.Config{Kubectl: k, Timeout: in.timeout, Progress: sink})
	stop()
	if err != nil {
		return err
	}
	if len(result.Changes) == 0 {
		h.note("nothing that bake applied is there")
	}
	return in.show(h, result)
}

// show prints what changed and where replicas are.
func (in *dnsFlags) show(h *host, r *dns.Result) error {
	for _, n := range r.Notes {
		h.note("%s", n)
	}
	if in.asJSON {
		return json.NewEncoder(h.stdout).Encode(r)
	}
	var l lines
	for _, change := range r.Changes {
		l.add("%s", change)
	}
	for _, replica := range r.Replicas {
		l.add("%s on %s, %s", replica.Pod, replica.Node, replica.IP)
	}
	return l.print(h.stdout)
}
