package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/kubeconfig"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/node"
)

// kubeconfigFlags are the flags of bake kubeconfig's commands as they are given.
type kubeconfigFlags struct {
	server, caDir, ca string
	certificate, key  string
	name, user        string
	keyType, validity string
	output, file      string
	force, use        bool
	asJSON            bool
}

func newKubeconfig(h *host) *cobra.Command {
	c := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Make the administrator's kubeconfig, and put it where kubectl looks",
	}
	c.AddCommand(newKubeconfigCreate(h), newKubeconfigMerge(h), newKubeconfigRemove(h))
	return c
}

func newKubeconfigCreate(h *host) *cobra.Command {
	var in kubeconfigFlags
	c := &cobra.Command{
		Use:         "create --server URL --ca-dir DIR --output FILE",
		Short:       "Write a kubeconfig of the cluster's administrator",
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, or the file is there, 2 wrong usage, 3 bad input"},
		Long: `Write a kubeconfig with everything in it, as the guide makes one: the CA in
--ca-dir signs a certificate for admin in the group system:masters, or the one
that is given is taken. Key, chain and validity are checked, and where the server
answers also that its certificate fits the CA and the URL, and that it takes the
user's. The file is readable by you alone.`,
		Example: `  bake kubeconfig create --server https://HOST:6443 --ca-dir ca --output admin.kubeconfig`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return in.create(c, h)
		},
	}
	in.addAdminFlags(c)
	f := c.Flags()
	f.StringVar(&in.output, "output", "", "write the kubeconfig to `FILE`")
	f.BoolVar(&in.force, "force", false, "replace a kubeconfig that is there")
	f.BoolVar(&in.asJSON, "json", false, "print what it is for as JSON, without the key")
	return c
}

func newKubeconfigMerge(h *host) *cobra.Command {
	var in kubeconfigFlags
	c := &cobra.Command{
		Use:         "merge --server URL --ca-dir DIR",
		Short:       "Add the administrator to the kubeconfig that kubectl uses",
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, or a name is something else's, 2 wrong usage, 3 bad input"},
		Long: `Add what "create" would write to the file that kubectl would write: of the list in
$KUBECONFIG the first that is there, or else ~/.kube/config. Everything else in it
stays byte by byte, comments too, and so does the current context. kubectl's lock
is used and waited for, and the file appears complete or not at all. Where it is
done again, the user gets a new certificate. A name that something else has is an
error.`,
		Example: `  bake kubeconfig merge --server https://HOST:6443 --ca-dir ca --use`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return in.merge(c, h)
		},
	}
	in.addAdminFlags(c)
	in.addFileFlag(c)
	c.Flags().BoolVar(&in.use, "use", false, "make it the current context")
	c.Flags().BoolVar(&in.asJSON, "json", false, "print what changed as JSON")
	return c
}

func newKubeconfigRemove(h *host) *cobra.Command {
	var in kubeconfigFlags
	c := &cobra.Command{
		Use:         "remove --server URL --ca-dir DIR",
		Short:       "Take a cluster out of the kubeconfig that kubectl uses",
		Annotations: map[string]string{exitCodes: "0 done, also where nothing was there, 1 failed, 2 wrong usage, 3 bad input"},
		Long: `Take the cluster with this server and this CA out of the files that kubectl reads,
also after a rename, with the contexts that lead to it and the users with a
certificate by its CA that no other context needs. Everything else stays byte by
byte. Where such a context was the current one, none is afterwards.`,
		Example: `  bake kubeconfig remove --server https://HOST:6443 --ca-dir ca`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return in.remove(c, h)
		},
	}
	in.addClusterFlags(c)
	in.addFileFlag(c)
	c.Flags().BoolVar(&in.asJSON, "json", false, "print what was removed as JSON")
	return c
}

func (in *kubeconfigFlags) addClusterFlags(c *cobra.Command) {
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&in.server, "server", "", "`URL` of the API server as this machine reaches it")
	f.StringVar(&in.caDir, "ca-dir", "", "`DIR` of the cluster's CA (ca.pem, ca-key.pem, or kubeadm's)")
	f.StringVar(&in.ca, "certificate-authority", "", "`FILE` of the CA's certificate, in place of --ca-dir")
	inGroup(f, "Cluster", "server", "ca-dir", "certificate-authority")
}

func (in *kubeconfigFlags) addAdminFlags(c *cobra.Command) {
	in.addClusterFlags(c)
	f := c.Flags()
	f.StringVar(&in.name, "name", kubeconfig.DefaultName, "`NAME` of cluster and context")
	f.StringVar(&in.user, "user", kubeconfig.DefaultUser, "`NAME` of the user")
	f.StringVar(&in.certificate, "client-certificate", "", "`FILE` of the user's certificate (default: the CA signs one)")
	f.StringVar(&in.key, "client-key", "", "`FILE` of its key")
	f.StringVar(&in.keyType, "key-type", "ecdsa", "`TYPE` of its key: ecdsa or rsa (2048 bits)")
	f.StringVar(&in.validity, "validity", "365d", "`TIME` that it is valid for: 365d, 8760h")
	inGroup(f, "Cluster", "name")
	inGroup(f, "User", "user", "client-certificate", "client-key", "key-type", "validity")
}

func (in *kubeconfigFlags) addFileFlag(c *cobra.Command) {
	c.Flags().StringVar(&in.file, "kubeconfig", "", "`FILE` in place of kubectl's ($KUBECONFIG, ~/.kube/config)")
}

// kubeconfigResult is what the commands print with --json.
type kubeconfigResult struct {
	Path    string              `json:"path,omitempty"` // of a file that was made
	Context string              `json:"context,omitempty"`
	Server  string              `json:"server"`
	User    *kubeconfig.Subject `json:"user,omitempty"`
	Changes []kubeconfig.Change `json:"changes,omitempty"`
	Current string              `json:"currentContext,omitempty"` // that kubectl uses afterwards
}

func (in *kubeconfigFlags) create(c *cobra.Command, h *host) error {
	if err := requireFlag(c, "output", in.output); err != nil {
		return err
	}
	config, subject, err := in.admin(c, h)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(in.output); err == nil && !in.force {
		return fmt.Errorf("%s is there already (--force replaces it, and `bake kubeconfig merge` adds to it)", in.output)
	}
	text, err := config.Encode()
	if err != nil {
		return err
	}
	if err := kubeconfig.Write(in.output, text); err != nil {
		return fmt.Errorf("writing --output: %w", err)
	}
	return in.print(h, kubeconfigResult{Path: in.output, Context: config.Name, Server: config.Server, User: subject, Current: config.Name})
}

func (in *kubeconfigFlags) merge(c *cobra.Command, h *host) error {
	config, subject, err := in.admin(c, h)
	if err != nil {
		return err
	}
	paths, err := in.paths(h)
	if err != nil {
		return err
	}
	result, err := kubeconfig.Update(c.Context(), paths, h.waiting(), func(files []kubeconfig.File) (*kubeconfig.Result, error) {
		return kubeconfig.Merge(files, paths.Target, config, in.use)
	})
	if err != nil {
		return err
	}
	if result.Current != config.Name {
		is := "no context is the current one"
		if result.Current != "" {
			is = "the current context is " + result.Current
		}
		h.note("%s; to use this one: %s", is, manifest.Command("kubectl", "config", "use-context", config.Name))
	}
	return in.print(h, kubeconfigResult{Context: config.Name, Server: config.Server, User: subject, Changes: result.Changes, Current: result.Current})
}

func (in *kubeconfigFlags) remove(c *cobra.Command, h *host) error {
	if err := requireFlag(c, "server", in.server); err != nil {
		return err
	}
	if err := kubeconfig.CheckServer(in.server); err != nil {
		return &manifest.ArgumentError{Err: fmt.Errorf("--server: %w", err)}
	}
	ca, err := in.readCA(c)
	if err != nil {
		return err
	}
	paths, err := in.paths(h)
	if err != nil {
		return err
	}
	result, err := kubeconfig.Update(c.Context(), paths, h.waiting(), func(files []kubeconfig.File) (*kubeconfig.Result, error) {
		return kubeconfig.Remove(files, in.server, ca)
	})
	if err != nil {
		return err
	}
	if len(result.Changes) == 0 {
		h.note("no cluster with the server %s and this CA is in %s", in.server, strings.Join(paths.Files, ", "))
	}
	return in.print(h, kubeconfigResult{Server: in.server, Changes: result.Changes, Current: result.Current})
}

// print shows what was done: a line for each entry, or for the file.
func (in *kubeconfigFlags) print(h *host, r kubeconfigResult) error {
	if in.asJSON {
		return json.NewEncoder(h.stdout).Encode(r)
	}
	var l lines
	if r.Path != "" {
		l.add("%s: context %s, %s, user %s in %s, until %s", r.Path, r.Context, r.Server, r.User.Name, strings.Join(r.User.Groups, ", "), r.User.NotAfter.Format(time.RFC3339))
	}
	for _, c := range r.Changes {
		l.add("%s: %s %s %s", c.File, c.Done, c.Kind, c.Name)
	}
	return l.print(h.stdout)
}

// waiting is how long kubectl's lock is waited for.
func (h *host) waiting() kubeconfig.Waiting {
	return kubeconfig.Waiting{Now: h.now, Note: func(text string) { h.note("%s", text) }}
}

// paths are the files that kubectl uses.
func (in *kubeconfigFlags) paths(h *host) (kubeconfig.Paths, error) {
	paths := kubeconfig.FindPaths(in.file, h.getenv("KUBECONFIG"), kubeconfig.Home(runtime.GOOS, h.getenv))
	if paths.Target == "" {
		return paths, &usageError{errors.New("no home directory is known ($HOME), where kubectl's file would be; give one by --kubeconfig")}
	}
	return paths, nil
}

// admin makes what is to be written, and checks it.
func (in *kubeconfigFlags) admin(c *cobra.Command, h *host) (node.Kubeconfig, *kubeconfig.Subject, error) {
	config, err := in.config(c, h.now())
	if err != nil {
		return config, nil, err
	}
	if err := kubeconfig.Check(config, h.now()); err != nil {
		return config, nil, &manifest.ArgumentError{Err: fmt.Errorf("--%w", in.from(err))}
	}
	subject, err := kubeconfig.ReadSubject(config.Certificate)
	if err != nil {
		return config, nil, err
	}
	if err := checkProxies(h.getenv); err != nil {
		return config, nil, err
	}
	err = kubeconfig.Ask(c.Context(), config, http.ProxyFromEnvironment)
	if silent, ok := errors.AsType[*kubeconfig.SilentError](err); ok && c.Context().Err() == nil {
		h.note("%s does not answer, so its certificate was not checked: %v", config.Server, silent)
		err = nil
	}
	if err != nil {
		return config, nil, &manifest.ArgumentError{Err: fmt.Errorf("--server %s: %w", config.Server, err)}
	}
	if in.certificate != "" && !strings.Contains(strings.Join(subject.Groups, " "), kubeconfig.Group) {
		h.note("%s is not in %s, and may do what roles say", subject.Name, kubeconfig.Group)
	}
	return config, &subject, nil
}

// from says by which flag a CA was given.
func (in *kubeconfigFlags) from(err error) error {
	if wrong, ok := errors.AsType[*node.InputError](err); ok && wrong.Field == "certificate-authority" && in.caDir != "" {
		return &node.InputError{Field: "ca-dir", Err: wrong.Err}
	}
	return err
}

// config reads the flags and the files that they name.
func (in *kubeconfigFlags) config(c *cobra.Command, now time.Time) (node.Kubeconfig, error) {
	config := node.Kubeconfig{Server: in.server, User: in.user, Name: in.name}
	for _, f := range []struct{ name, value string }{{"server", in.server}, {"name", in.name}, {"user", in.user}} {
		if err := requireFlag(c, f.name, f.value); err != nil {
			return config, err
		}
	}
	if (in.certificate == "") != (in.key == "") {
		return config, &usageError{errors.New("--client-certificate and --client-key go together: want both, or none and the CA signs one")}
	}
	var err error
	if in.certificate != "" {
		if config.CA, err = in.readCA(c); err != nil {
			return config, err
		}
		if config.Certificate, err = readPEM("client-certificate", in.certificate); err != nil {
			return config, err
		}
		config.Key, err = readPEM("client-key", in.key)
		return config, err
	}
	if in.ca != "" {
		return config, &usageError{errors.New("--certificate-authority has no key to sign with: want --ca-dir, or --client-certificate and --client-key too")}
	}
	if err := requireFlag(c, "ca-dir", in.caDir); err != nil {
		return config, err
	}
	validity, err := parseValidity(in.validity)
	if err != nil {
		return config, &usageError{fmt.Errorf("--validity %q: want days or hours, like 365d or 8760h", in.validity)}
	}
	keyType := node.KeyType(in.keyType)
	if keyType != node.ECDSA && keyType != node.RSA {
		return config, &usageError{fmt.Errorf("--key-type: %q is unknown: want %s or %s", in.keyType, node.ECDSA, node.RSA)}
	}
	ca, err := node.ReadCA(in.caDir)
	if err != nil {
		return config, &manifest.ArgumentError{Err: err}
	}
	config.CA = ca.CertificatePEM()
	config.Certificate, config.Key, err = kubeconfig.Issue(ca, keyType, validity, now)
	if err != nil {
		return config, &manifest.ArgumentError{Err: err}
	}
	return config, nil
}

// readCA reads the CA's certificate, whose key is not needed.
func (in *kubeconfigFlags) readCA(c *cobra.Command) ([]byte, error) {
	switch {
	case in.ca != "" && in.caDir != "":
		return nil, &usageError{errors.New("--ca-dir and --certificate-authority are two ways to name the CA: want one of them")}
	case in.ca != "":
		return readPEM("certificate-authority", in.ca)
	}
	if err := requireFlag(c, "ca-dir", in.caDir); err != nil {
		return nil, err
	}
	ca, err := node.ReadCACertificates(in.caDir)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: err}
	}
	return ca, nil
}

func readPEM(flag, path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: fmt.Errorf("reading --%s: %w", flag, err)}
	}
	return data, nil
}
