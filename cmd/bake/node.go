package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/bake/printable"
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
		Use:   "node NAME --server URL --ip IP --pod-cidr CIDR --out DIR",
		Short: "Make one worker's metadata: certificate, key, kubeconfigs",
		Long: `Make what the worker NAME needs to join the cluster: one file for each metadata
key in --out, readable by you alone. The gcloud command that makes the instance
with them is printed. Nothing is sent anywhere.

The certificate is signed by the CA in --ca-dir: ca.pem and ca-key.pem as in the
guide, or kubeadm's ca.crt and ca.key. Without --ca-dir a CA is made in DIR/ca,
for a cluster that has none yet; --new-ca makes one in --ca-dir. What is made is
checked with the code that checks it on the worker.

The certificate is valid for the node's name, --ip, --hostname, --external-ip,
every --san and, with --project (and --zone), the names in Compute Engine's DNS.

Three ways to give a worker its credentials (docs/metadata.md has their risks):
  certificates       in metadata: whoever may read the instance's metadata has them
  --secrets PROJECT  key and kubeconfigs in Secret Manager; the commands that put
                     them there are printed too
  --bootstrap-token  kubelet asks the cluster for its certificates; the API server
                     must know the token

Exit codes: 0 done, 1 failed (files exist and there is no --force), 2 wrong usage,
3 a CA, or an API server's URL, that can't be used.`,
		Example: `  bake node worker-0 --server https://10.240.0.10:6443 --ip 10.240.0.20 \
    --pod-cidr 10.200.0.0/24 --ca-dir . --image k8s-worker-v1-36-3-amd64 --out worker-0
  bake node worker-0 ... --project example --zone us-west1-c --hostname worker-0.example.com
  bake node worker-0 ... --bootstrap-token @token`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, required := range []struct{ name, value string }{
				{"server", in.server}, {"ip", in.ip}, {"pod-cidr", in.podCIDR}, {"out", in.out},
			} {
				if err := requireFlag(c, required.name, required.value); err != nil {
					return err
				}
			}
			return in.run(c, h, args[0])
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&in.server, "server", "", "`URL` of the API server as the worker reaches it: https://10.240.0.10:6443")
	f.StringVar(&in.ip, "ip", "", "the instance's internal `IP` address")
	f.StringVar(&in.podCIDR, "pod-cidr", "", "`CIDR` of the worker's pods: 10.200.0.0/24")
	f.StringVar(&in.out, "out", "", "write the files to `DIR`")
	f.StringVar(&in.caDir, "ca-dir", "", "`DIR` of the cluster's CA and its key (default: one is made in ca below --out)")
	f.BoolVar(&in.newCA, "new-ca", false, "make a CA in --ca-dir, where none must be")
	f.BoolVar(&in.force, "force", false, "replace what an earlier run wrote to --out; a CA is never replaced")
	f.BoolVar(&in.asJSON, "json", false, "print files and commands as JSON")

	f.StringVar(&in.hostname, "hostname", "", "the instance's host `NAME` if it has one of its own: worker-0.example.com.\nThe node's name is its first label")
	f.StringVar(&in.externalIP, "external-ip", "", "static external `IP` address of the instance")
	f.StringArrayVar(&in.sans, "san", nil, "further `NAME` or address that the certificate is valid for; may be repeated")
	f.StringVar(&in.keyType, "key-type", "ecdsa", "`TYPE` of keys: ecdsa (P-256) or rsa (2048 bits)")
	f.StringVar(&in.validity, "validity", "365d", "`TIME` that certificates are valid for: 365d, 8760h")
	f.StringVar(&in.bootstrapToken, "bootstrap-token", "", "`TOKEN` for TLS bootstrap, or better @FILE that holds it: arguments are\nseen by every user of this machine (ps), and kept by the shell")
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
	config, err := in.config(name, h.now())
	if err != nil {
		return err
	}
	old, err := node.Present(in.out)
	if err != nil {
		return fmt.Errorf("looking into --out: %w", err)
	}
	if len(old) > 0 && !in.force {
		return fmt.Errorf("%s: there already; --force replaces what an earlier run wrote", node.List(old))
	}
	ca, caDir, made, err := in.authority(config.Now)
	if err != nil {
		return err
	}
	config.CA = ca
	values, err := node.New(config)
	if err != nil {
		return in.explain(err)
	}
	doubts, err := node.Doubts(config, values)
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
	in.notes(h, config, made, caDir, result.NotAfter, doubts)
	if in.asJSON {
		encoder := json.NewEncoder(h.stdout)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(result)
	}
	for _, command := range result.Commands {
		if _, err := fmt.Fprintln(h.stdout, node.Quote(command)); err != nil {
			return err
		}
	}
	return nil
}

// config reads the flags. What is wrong with a value beyond its form is for
// package node to say.
func (in *nodeFlags) config(name string, now time.Time) (node.Config, error) {
	config := node.Config{
		Name:          name,
		Hostname:      in.hostname,
		Server:        in.server,
		KeyType:       node.KeyType(in.keyType),
		ClusterDomain: in.clusterDomain,
		MTU:           in.mtu,
		Now:           now,
	}
	bad := func(flag, value, want string) (node.Config, error) {
		return node.Config{}, &usageError{fmt.Errorf("--%s %q: want %s", flag, value, want)}
	}
	var err error
	if config.IP, err = netip.ParseAddr(in.ip); err != nil {
		return bad("ip", in.ip, "an address like 10.240.0.20")
	}
	if config.PodCIDR, err = netip.ParsePrefix(in.podCIDR); err != nil {
		return bad("pod-cidr", in.podCIDR, "a range like 10.200.0.0/24")
	}
	if in.clusterCIDR != "" {
		if config.ClusterCIDR, err = netip.ParsePrefix(in.clusterCIDR); err != nil {
			return bad("cluster-cidr", in.clusterCIDR, "a range like 10.200.0.0/16")
		}
	}
	if in.clusterDNS != "" {
		if config.ClusterDNS, err = netip.ParseAddr(in.clusterDNS); err != nil {
			return bad("cluster-dns", in.clusterDNS, "an address like 10.32.0.10")
		}
	}
	if config.Validity, err = parseValidity(in.validity); err != nil {
		return bad("validity", in.validity, "days or hours, like 365d or 8760h")
	}
	if in.externalIP != "" {
		ip, err := netip.ParseAddr(in.externalIP)
		if err != nil {
			return bad("external-ip", in.externalIP, "an address like 203.0.113.20")
		}
		config.IPs = append(config.IPs, ip)
	}
	for _, san := range in.sans {
		if ip, err := netip.ParseAddr(san); err == nil {
			config.IPs = append(config.IPs, ip)
		} else {
			config.Names = append(config.Names, san)
		}
	}
	config.Names = append(config.Names, node.InstanceNames(name, in.zone, in.project)...)
	config.BootstrapToken = in.bootstrapToken
	if path, ok := strings.CutPrefix(in.bootstrapToken, "@"); ok {
		content, err := os.ReadFile(path)
		if err != nil {
			return node.Config{}, &bake.InputError{Err: fmt.Errorf("reading --bootstrap-token: %w", err)}
		}
		config.BootstrapToken = strings.TrimSpace(string(content))
		if config.BootstrapToken == "" {
			return node.Config{}, &bake.InputError{Err: fmt.Errorf("reading --bootstrap-token: %s is empty", path)}
		}
	}
	return config, nil
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
		return nil, "", false, &bake.InputError{Err: err}
	case in.caDir != "" && !in.newCA:
		return nil, "", false, &bake.InputError{Err: fmt.Errorf("%w; --new-ca makes one", err)}
	}
	ca, err = node.NewCA(node.CAConfig{Now: now, KeyType: node.KeyType(in.keyType)})
	if err != nil {
		return nil, "", false, &usageError{err}
	}
	return ca, dir, true, nil
}

// explain says which flag, or else which file, a value came from.
func (in *nodeFlags) explain(err error) error {
	var wrong *node.InputError
	if !errors.As(err, &wrong) {
		return &bake.InputError{Err: err} // a CA that can't sign this
	}
	if strings.HasPrefix(wrong.Field, "kube") { // made from the CA
		return &bake.InputError{Err: fmt.Errorf("the worker would refuse what was made with this CA: %w", err)}
	}
	switch wrong.Field {
	case "name":
		return &usageError{wrong.Err}
	case "server":
		return &bake.InputError{Err: fmt.Errorf("--%w", err)}
	case "bootstrap-kubeconfig":
		return &usageError{fmt.Errorf("--bootstrap-token: %w", wrong.Err)}
	}
	return &usageError{fmt.Errorf("--%w", err)}
}

func (in *nodeFlags) result(config node.Config, values, secrets map[string][]byte) nodeResult {
	instance := node.Instance{
		Image:          in.image,
		Project:        in.project,
		Zone:           in.zone,
		MachineType:    in.machineType,
		Subnet:         in.subnet,
		Address:        in.externalIP,
		ServiceAccount: in.sender,
	}
	r := nodeResult{
		Name:     config.Name,
		Host:     config.Host(),
		Files:    map[string]string{},
		NotAfter: config.NotAfter().UTC().Truncate(time.Second),
	}
	for key := range values {
		r.Files[key] = filepath.Join(in.out, key)
	}
	if len(secrets) > 0 {
		r.Secrets = map[string]string{}
		for key := range secrets {
			r.Secrets[key] = node.SecretFile(in.out, key)
		}
		r.Commands = node.SecretCommands(config, instance, in.secrets, node.SecretsDir(in.out), secrets)
	}
	r.Commands = append(r.Commands, node.CreateCommand(config, instance, in.out, values, len(secrets) > 0))
	return r
}

// notes says on stderr what else there is to know.
func (in *nodeFlags) notes(h *host, config node.Config, made bool, caDir string, notAfter time.Time, doubts []string) {
	note := func(format string, args ...any) {
		fmt.Fprintf(h.stderr, "note: %s\n", printable.String(fmt.Sprintf(format, args...)))
	}
	for _, doubt := range doubts {
		note("%s", doubt)
	}
	if made {
		note("a new CA was made in %s: the API server must trust it (--client-ca-file) and be signed by it; for more workers give --ca-dir %s", caDir, caDir)
	}
	if config.Host() != config.Name {
		note("the node will be named %s, the first label of --hostname, and the instance %s", config.Host(), config.Name)
	}
	if wanted := config.Now.Add(config.Validity); notAfter.Before(wanted.Add(-time.Minute)) {
		note("certificates end with the CA, at %s", notAfter.Format(time.RFC3339))
	}
	if in.image == "" {
		note("IMAGE in the command stands for your image's name (--image)")
	}
	if in.secrets != "" && in.sender == "" {
		note("SERVICE_ACCOUNT_EMAIL in the commands stands for the instance's service account (--service-account)")
	}
	if config.BootstrapToken != "" {
		note("certificates that kubelet asks for to serve with must be approved: kubectl certificate approve")
	}
}
