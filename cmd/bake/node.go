package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/node"
)

// nodeFlags are the flags of bake node as they are given.
type nodeFlags struct {
	server, ip, podCIDR, caDir, out string
	newCA, force, asJSON            bool

	hostname, externalIP        string
	sans                        []string
	keyType, validity           string
	bootstrapToken              string
	clusterCIDR, clusterDNS     string
	clusterDomain               string
	mtu                         int
	secrets                     string
	image, project, zone        string
	machineType, subnet, sender string
}

func newNode(h *host) *cobra.Command {
	var in nodeFlags
	c := &cobra.Command{
		Use:   "node NAME --server URL --ip IP --pod-cidr CIDR --output DIR",
		Short: "Make one worker's metadata: certificate, key, kubeconfigs",
		Long: `One file for each metadata key goes to --output, readable by you alone, and the
gcloud command that makes the instance is printed. Nothing is sent anywhere. The
certificate is signed by the CA in --ca-dir (ca.pem, ca-key.pem, or kubeadm's),
or by one that is made. Credentials: docs/metadata.md.`,
		Example:     `  bake node worker-0 --server URL --ip 10.240.0.20 --pod-cidr 10.200.0.0/24 --output w0`,
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, or files are there, 2 wrong usage, 3 bad input"},
		Args:        exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return in.run(c, h, args[0])
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&in.server, "server", "", "`URL` of the API server as the worker reaches it")
	f.StringVar(&in.ip, "ip", "", "the instance's internal `IP` address")
	f.StringVar(&in.podCIDR, "pod-cidr", "", "`CIDR` of the worker's pods: 10.200.0.0/24")
	f.StringVar(&in.out, "output", "", "write the files to `DIR`")
	f.StringVar(&in.caDir, "ca-dir", "", "`DIR` of the CA and its key (default: made in ca below --output)")
	f.BoolVar(&in.newCA, "new-ca", false, "make a CA in --ca-dir, where none must be")
	f.BoolVar(&in.force, "force", false, "replace what an earlier run wrote to --output; a CA is never replaced")
	f.BoolVar(&in.asJSON, "json", false, "print files and commands as JSON")

	f.StringVar(&in.hostname, "hostname", "", "the instance's host `NAME`, if it has its own: worker-0.example.com")
	f.StringVar(&in.externalIP, "external-ip", "", "static external `IP` address of the instance")
	f.StringArrayVar(&in.sans, "san", nil, "further `NAME` or address that the certificate is valid for; may be repeated")
	f.StringVar(&in.keyType, "key-type", "ecdsa", "`TYPE` of keys: ecdsa (P-256) or rsa (2048 bits)")
	f.StringVar(&in.validity, "validity", "365d", "`TIME` that certificates are valid for: 365d, 8760h")
	f.StringVar(&in.bootstrapToken, "bootstrap-token", "", "`TOKEN` for TLS bootstrap, or @FILE that holds it (ps shows arguments)")
	f.StringVar(&in.secrets, "secrets", "", "keep key and kubeconfigs in Secret Manager of `PROJECT`")

	f.StringVar(&in.clusterCIDR, "cluster-cidr", "", "`CIDR` of all pods (default on the worker: 10.200.0.0/16)")
	f.StringVar(&in.clusterDNS, "cluster-dns", "", "`IP` of the cluster's DNS service (default on the worker: 10.32.0.10)")
	f.StringVar(&in.clusterDomain, "cluster-domain", "", "the cluster's `DOMAIN` (default on the worker: cluster.local)")
	f.IntVar(&in.mtu, "mtu", 0, "MTU of pods in `BYTES` (default on the worker: its network's)")

	f.StringVar(&in.image, "image", "", "image `NAME` for the gcloud command (default: a placeholder)")
	f.StringVar(&in.project, "project", "", "the instance's `PROJECT`")
	f.StringVar(&in.zone, "zone", "", "the instance's `ZONE`")
	f.StringVar(&in.machineType, "machine-type", "", "the instance's machine `TYPE`")
	f.StringVar(&in.subnet, "subnet", "", "the instance's `SUBNET`")
	f.StringVar(&in.sender, "service-account", "", "`EMAIL` of the service account of the instance, for --secrets")
	inGroup(f, "Worker", "server", "ip", "pod-cidr", "hostname", "external-ip", "san")
	inGroup(f, "Credentials", "ca-dir", "new-ca", "key-type", "validity", "bootstrap-token", "secrets")
	inGroup(f, "Cluster", "cluster-cidr", "cluster-dns", "cluster-domain", "mtu")
	inGroup(f, "Printed gcloud command", "image", "project", "zone", "machine-type", "subnet", "service-account")
	return c
}

// nodeResult is what bake node prints with --json.
type nodeResult struct {
	Name     string            `json:"name"`
	Host     string            `json:"host"`
	Files    map[string]string `json:"files"`             // by metadata key
	Secrets  map[string]string `json:"secrets,omitempty"` // by the key that they are the value of
	CA       string            `json:"ca,omitempty"`      // directory of a CA that was made
	NotAfter time.Time         `json:"notAfter"`          // of the certificates
	Commands [][]string        `json:"commands"`          // in the order to run them in
}

func (in *nodeFlags) run(c *cobra.Command, h *host, name string) error {
	config, wrong := in.config(c, name, h.now())
	var errs []error
	for _, m := range wrong {
		errs = append(errs, m.err)
	}
	for _, err := range unjoin(config.Check()) {
		if m, ok := errors.AsType[*node.InputError](err); !ok || !wrong.at(m.Field) {
			errs = append(errs, in.explain(err))
		}
	}
	old, err := node.Present(in.out)
	switch {
	case in.out == "":
	case err != nil:
		errs = append(errs, fmt.Errorf("looking into --output: %w", err))
	case len(old) > 0 && !in.force:
		errs = append(errs, fmt.Errorf("%s: there already; --force replaces what an earlier run wrote", node.List(old)))
	}
	var ca *node.CA
	var caDir string
	var made bool
	if in.caDir != "" || in.out != "" && err == nil { // or else there is no place for one
		if ca, caDir, made, err = in.authority(config.Now); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	config.CA = ca
	values, err := node.New(config)
	if err != nil {
		return in.explain(err)
	}
	warnings, err := node.Warnings(config, values)
	if err != nil {
		return err
	}
	var secrets map[string][]byte
	if in.secrets != "" {
		values, secrets = node.UseSecrets(values, name, in.secrets)
	}
	files := node.MetadataFiles(values, secrets, in.out)
	if made {
		files = append(files, node.CAFiles(ca, caDir)...)
	}
	if err := node.Write(c.Context(), files, old); err != nil {
		return err
	}
	result := in.result(config, values, secrets)
	if made {
		result.CA = caDir
	}
	in.notes(h, config, made, caDir, result.NotAfter, warnings)
	if in.asJSON {
		encoder := json.NewEncoder(h.stdout)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(result)
	}
	for _, command := range result.Commands {
		if _, err := fmt.Fprintln(h.stdout, manifest.Command(command...)); err != nil {
			return err
		}
	}
	return nil
}

// mistakes are flags whose values can't be read.
type mistakes []mistake

type mistake struct {
	flag string
	err  error
}

// at says whether one is at the flag.
func (m mistakes) at(flag string) bool {
	return slices.ContainsFunc(m, func(m mistake) bool { return m.flag == flag })
}

// config reads the flags, and returns those that can't be read. What is wrong
// with a value beyond its form is for package node to say.
func (in *nodeFlags) config(c *cobra.Command, name string, now time.Time) (node.Config, mistakes) {
	config := node.Config{
		Name:          name,
		Hostname:      in.hostname,
		Server:        in.server,
		KeyType:       node.KeyType(in.keyType),
		ClusterDomain: in.clusterDomain,
		MTU:           in.mtu,
		Now:           now,
	}
	var wrong mistakes
	for _, required := range []struct{ name, value string }{
		{"server", in.server}, {"ip", in.ip}, {"pod-cidr", in.podCIDR}, {"output", in.out},
	} {
		if err := requireFlag(c, required.name, required.value); err != nil {
			wrong = append(wrong, mistake{required.name, err})
		}
	}
	bad := func(flag, value, want string) {
		wrong = append(wrong, mistake{flag, &usageError{fmt.Errorf("--%s %q: want %s", flag, value, want)}})
	}
	address := func(flag, value, like string) (ip netip.Addr) {
		ip, err := netip.ParseAddr(value)
		if value != "" && err != nil {
			bad(flag, value, "an address like "+like)
		}
		return ip
	}
	network := func(flag, value, like string) (p netip.Prefix) {
		p, err := netip.ParsePrefix(value)
		if value != "" && err != nil {
			bad(flag, value, "a range like "+like)
		}
		return p
	}
	config.IP = address("ip", in.ip, "10.240.0.20")
	config.PodCIDR = network("pod-cidr", in.podCIDR, "10.200.0.0/24")
	config.ClusterCIDR = network("cluster-cidr", in.clusterCIDR, "10.200.0.0/16")
	config.ClusterDNS = address("cluster-dns", in.clusterDNS, "10.32.0.10")
	var err error
	if config.Validity, err = parseValidity(in.validity); err != nil {
		bad("validity", in.validity, "days or hours, like 365d or 8760h")
	}
	if ip := address("external-ip", in.externalIP, "203.0.113.20"); ip.IsValid() {
		config.IPs = append(config.IPs, ip)
	}
	for _, san := range in.sans {
		if ip, err := netip.ParseAddr(san); err == nil {
			config.IPs = append(config.IPs, ip)
		} else {
			config.Names = append(config.Names, san)
		}
	}
	if gce.IsName(name) { // or else it is what is wrong with them
		config.Names = append(config.Names, gce.InstanceNames(name, in.zone, in.project)...)
	}
	if in.image != "" && !strings.Contains(in.image, "/") { // of another project: projects/PROJECT/global/images/NAME
		if err := gce.CheckImageName(in.image); err != nil {
			wrong = append(wrong, mistake{"image", &usageError{fmt.Errorf("--image: %w", err)}})
		}
	}
	if config.BootstrapToken, err = readToken(in.bootstrapToken); err != nil {
		wrong = append(wrong, mistake{"bootstrap-token", err})
	}
	return config, wrong
}

// readToken returns a token, or the one in the file that it names.
func readToken(token string) (string, error) {
	path, ok := strings.CutPrefix(token, "@")
	if !ok {
		return token, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", &manifest.ArgumentError{Err: fmt.Errorf("reading --bootstrap-token: %w", err)}
	}
	if token = strings.TrimSpace(string(content)); token == "" {
		return "", &manifest.ArgumentError{Err: fmt.Errorf("reading --bootstrap-token: %s is empty", path)}
	}
	return token, nil
}

// unjoin returns the errors that err joins.
func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// parseValidity reads a duration, of days too.
func parseValidity(text string) (time.Duration, error) {
	var d time.Duration
	var err error
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		if n > 365*100 {
			return 0, errors.New("too long")
		}
		d = time.Duration(n) * 24 * time.Hour
	} else {
		d, err = time.ParseDuration(text)
	}
	if err == nil && d <= 0 {
		err = errors.New("not positive")
	}
	return d, err
}

// authority loads the CA, or makes one that is yet to be written to dir. A
// --ca-dir without a CA is an error, because a slip in its name would otherwise
// give a worker that no cluster knows.
func (in *nodeFlags) authority(now time.Time) (ca *node.CA, dir string, made bool, err error) {
	dir = in.caDir
	if dir == "" {
		dir = filepath.Join(in.out, "ca")
	}
	ca, err = node.ReadCA(dir)
	switch {
	case err == nil && in.newCA:
		return nil, "", false, fmt.Errorf("--new-ca: %s holds a CA, which is never replaced", dir)
	case err == nil:
		return ca, dir, false, nil
	case !errors.Is(err, node.ErrNoCA):
		return nil, "", false, &manifest.ArgumentError{Err: err}
	case in.caDir != "" && !in.newCA:
		return nil, "", false, &manifest.ArgumentError{Err: fmt.Errorf("%w; --new-ca makes one", err)}
	}
	keyType := node.KeyType(in.keyType)
	if keyType != node.RSA {
		keyType = node.ECDSA // another is said to be unknown elsewhere
	}
	ca, err = node.NewCA(node.CAConfig{Now: now, KeyType: keyType})
	if err != nil {
		return nil, "", false, &usageError{err}
	}
	return ca, dir, true, nil
}

// explain says which flag, or else which file, a value came from.
func (in *nodeFlags) explain(err error) error {
	wrong, ok := errors.AsType[*node.InputError](err)
	if !ok {
		return &manifest.ArgumentError{Err: err} // a CA that can't sign this
	}
	if strings.HasPrefix(wrong.Field, "kube") { // made from the CA
		return &manifest.ArgumentError{Err: fmt.Errorf("the worker would refuse what was made with this CA: %w", err)}
	}
	switch wrong.Field {
	case "name":
		return &usageError{wrong.Err}
	case "server":
		return &manifest.ArgumentError{Err: fmt.Errorf("--%w", err)}
	case "bootstrap-kubeconfig":
		return &usageError{fmt.Errorf("--bootstrap-token: %w", wrong.Err)}
	}
	return &usageError{fmt.Errorf("--%w", err)}
}

func (in *nodeFlags) result(config node.Config, values, secrets map[string][]byte) nodeResult {
	instance := gce.Instance{
		Name:           config.Name,
		IP:             config.IP.String(),
		Hostname:       strings.TrimSuffix(config.Hostname, "."),
		Image:          in.image,
		Project:        in.project,
		Zone:           in.zone,
		MachineType:    in.machineType,
		Subnet:         in.subnet,
		Address:        in.externalIP,
		ServiceAccount: in.sender,
		Secrets:        len(secrets) > 0,
	}
	r := nodeResult{
		Name:     config.Name,
		Host:     config.Host(),
		Files:    map[string]string{},
		NotAfter: config.NotAfter().UTC().Truncate(time.Second),
	}
	for _, key := range node.Keys(values) {
		r.Files[key] = filepath.Join(in.out, key)
		instance.Metadata = append(instance.Metadata, key+"="+r.Files[key])
	}
	if len(secrets) > 0 {
		r.Secrets = map[string]string{}
		for _, key := range node.Keys(secrets) {
			r.Secrets[key] = node.SecretFile(in.out, key)
			r.Commands = append(r.Commands, instance.SecretCommands(in.secrets, node.SecretName(config.Name, key), r.Secrets[key])...)
		}
	}
	r.Commands = append(r.Commands, instance.CreateCommand())
	return r
}

// notes says on stderr what else there is to know.
func (in *nodeFlags) notes(h *host, config node.Config, made bool, caDir string, notAfter time.Time, warnings []string) {
	for _, warning := range warnings {
		h.note("%s", warning)
	}
	if made {
		h.note("a new CA was made in %s: the API server must trust it (--client-ca-file) and be signed by it; for more workers give --ca-dir %s", caDir, caDir)
	}
	if config.Host() != config.Name {
		h.note("the node will be named %s, the first label of --hostname, and the instance %s", config.Host(), config.Name)
	}
	if wanted := config.Now.Add(config.Validity); notAfter.Before(wanted.Add(-time.Minute)) {
		h.note("certificates end with the CA, at %s", notAfter.Format(time.RFC3339))
	}
	if in.image == "" {
		h.note("IMAGE in the command stands for your image's name (--image)")
	}
	if in.secrets != "" && in.sender == "" {
		h.note("SERVICE_ACCOUNT_EMAIL in the commands stands for the instance's service account (--service-account)")
	}
	if config.BootstrapToken != "" {
		h.note("certificates that kubelet asks for to serve with must be approved: kubectl certificate approve")
	}
}
