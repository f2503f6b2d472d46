package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/kubeconfig"
	"github.com/nodebake/bake/bake/kubectl"
	"github.com/nodebake/bake/bake/manifest"
)

// kubectlFlags are the flags of commands that talk to a cluster by kubectl.
type kubectlFlags struct {
	kubeconfig, kubectl string
	timeout             time.Duration
}

func (in *kubectlFlags) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&in.kubeconfig, "kubeconfig", "", "`FILE` in place of kubectl's ($KUBECONFIG, ~/.kube/config)")
	f.StringVar(&in.kubectl, "kubectl", "kubectl", "the kubectl to run, a `FILE` or what is in PATH")
	inGroup(f, "Cluster", "kubeconfig", "kubectl")
}

func (in *kubectlFlags) addTimeout(c *cobra.Command, of time.Duration) {
	c.Flags().DurationVar(&in.timeout, "timeout", of, "give up after this `TIME`")
	inGroup(c.Flags(), "Cluster", "timeout")
}

// open returns the kubectl to use, and wants a kubeconfig for it: without one it
// would look for a server on this host. In a pod it finds the pod's.
func (in *kubectlFlags) open(h *host) (kubectl.Kubectl, error) {
	k := kubectl.Kubectl{Kubeconfig: in.kubeconfig, Env: h.env}
	var err error
	if k.Path, err = exec.LookPath(in.kubectl); err != nil {
		return k, &manifest.ArgumentError{Err: fmt.Errorf("there is no program %s (install kubectl, or name it by --kubectl)", in.kubectl)}
	}
	paths := kubeconfig.FindPaths(in.kubeconfig, h.getenv("KUBECONFIG"), kubeconfig.Home(runtime.GOOS, h.getenv))
	there := slices.ContainsFunc(paths.Files, func(path string) bool { _, err := os.Stat(path); return err == nil })
	if !there && (in.kubeconfig != "" || h.getenv("KUBERNETES_SERVICE_HOST") == "") {
		return k, &manifest.ArgumentError{Err: fmt.Errorf("there is no kubeconfig %s (`bake kubeconfig create` makes one, --kubeconfig names it)", strings.Join(paths.Files, ", "))}
	}
	return k, nil
}
