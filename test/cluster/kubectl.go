package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// Kubectl runs the pinned kubectl with the administrator's rights and returns
// what it prints.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.kubectl(ctx, nil, args...)
}

// Apply applies manifests.
func (c *Cluster) Apply(ctx context.Context, yaml string) error {
	_, err := c.kubectl(ctx, strings.NewReader(yaml), "apply", "-f", "-")
	return err
}

func (c *Cluster) kubectl(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.config.Programs.Kubectl, append([]string{"--kubeconfig", c.AdminKubeconfig()}, args...)...)
	cmd.Dir = c.config.Dir
	cmd.Env = []string{"HOME=" + c.config.Dir, "PATH=/usr/bin:/bin"} // nobody's proxy, nobody's settings
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ended := c.Err(); ended != nil {
			err = ended
		}
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// BootstrapToken makes a token with which a kubelet may ask for its client
// certificate, "abcdef.0123456789abcdef"
// (kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens).
func (c *Cluster) BootstrapToken(ctx context.Context) (string, error) {
	text := strings.ToLower(rand.Text())
	id, secret := text[:6], text[6:22]
	_, err := c.Kubectl(ctx, "--namespace", "kube-system", "create", "secret", "generic", "bootstrap-token-"+id,
		"--type=bootstrap.kubernetes.io/token",
		"--from-literal=token-id="+id, "--from-literal=token-secret="+secret,
		"--from-literal=usage-bootstrap-authentication=true")
	if err != nil {
		return "", fmt.Errorf("making a bootstrap token: %w", err)
	}
	return id + "." + secret, nil
}

// ApproveServing approves what a node's kubelet asks for to serve with, and
// returns how many requests that were. Nothing in a cluster does so by itself:
// an operator compares the names with what is known of the node.
func (c *Cluster) ApproveServing(ctx context.Context, node string) (int, error) {
	data, err := c.Get(ctx, "/apis/certificates.k8s.io/v1/certificatesigningrequests")
	if err != nil {
		return 0, err
	}
	names, err := pendingServing(data, node)
	if err != nil || len(names) == 0 {
		return 0, err
	}
	_, err = c.Kubectl(ctx, append([]string{"certificate", "approve"}, names...)...)
	return len(names), err
}

// pendingServing returns the names of a node's requests for certificates to
// serve with that nobody has decided on.
func pendingServing(list []byte, node string) ([]string, error) {
	var got struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct {
				SignerName, Username string
				Groups               []string
			}
			Status struct{ Conditions []struct{ Type string } }
		}
	}
	if err := json.Unmarshal(list, &got); err != nil {
		return nil, fmt.Errorf("reading certificate signing requests: %w", err)
	}
	var names []string
	for _, csr := range got.Items {
		if csr.Spec.SignerName == "kubernetes.io/kubelet-serving" && csr.Spec.Username == "system:node:"+node &&
			slices.Contains(csr.Spec.Groups, "system:nodes") && len(csr.Status.Conditions) == 0 {
			names = append(names, csr.Metadata.Name)
		}
	}
	return names, nil
}
