package firstboot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nodebake/bake/firstboot/pki"
	"github.com/nodebake/bake/firstboot/report"
)

const (
	// proxyHealth is the default of kube-proxy's healthzBindAddress, as seen from
	// the machine.
	proxyHealth     = "http://127.0.0.1:10256"
	proxyKubeconfig = "/var/lib/kube-proxy/kubeconfig"
)

// errRefused is why a node will not become healthy by waiting.
var errRefused = errors.New("refused")

// checkProxy asks kube-proxy for its health: /livez from 1.28 on, /healthz
// before. It serves both once an API server has told it of its node. Until then
// the kubeconfig is tried: where no API server can be reached kube-proxy waits,
// which is no fault of the node's.
func (h *health) checkProxy(ctx context.Context) error {
	if h.proxySince.IsZero() {
		h.proxySince = time.Now()
	}
	status, answer, err := get(ctx, h.ProxyURL+"/livez")
	if err == nil && status == http.StatusNotFound {
		status, answer, err = get(ctx, h.ProxyURL+"/healthz")
	}
	switch {
	case err == nil && status == http.StatusOK:
		h.proxy = "ready"
		return nil
	case err == nil:
		return fmt.Errorf("kube-proxy: it answered %d %s: %s", status, http.StatusText(status), answer)
	}
	silent := fmt.Errorf("kube-proxy: nothing answers at %s: %w (systemctl status kube-proxy says more)", h.ProxyURL, errno(err))
	if time.Since(h.proxySince) < h.Settled {
		return silent
	}
	h.proxySince = time.Now()
	switch err := h.ProxyMayList(ctx); {
	case err == nil:
		return silent
	case errors.Is(err, errRefused):
		return fmt.Errorf("kube-proxy: %w (see metadata key kube-proxy-kubeconfig)", err)
	default:
		// Nothing else tells whoever looks at the console why there is no node.
		why := report.OneLine(err.Error())
		isNew, err := h.reporter.First("waiting for the API server: " + why)
		if isNew {
			fmt.Fprintf(h.Log, "firstboot: waiting for the API server: %s\n", why)
		}
		h.logReport(err)
	}
	h.proxy = "waiting"
	return nil
}

// proxyMayList asks the API server of kube-proxy's kubeconfig below root. The
// error is errRefused where it answers that it takes the credentials for nothing,
// or is not the one that the kubeconfig's CA vouches for.
func proxyMayList(ctx context.Context, root string) error {
	kubeconfig, err := os.ReadFile(filepath.Join(root, proxyKubeconfig))
	if err != nil {
		return err
	}
	access, err := pki.ReadAccess(kubeconfig)
	if err != nil {
		return err
	}
	if access.CAFile != "" {
		if access.CA, err = os.ReadFile(filepath.Join(root, access.CAFile)); err != nil {
			return err
		}
	}
	allowed, err := review(ctx, access, `{"group":"discovery.k8s.io","resource":"endpointslices","verb":"list"}`)
	var verification *tls.CertificateVerificationError
	var alert tls.AlertError
	switch {
	case errors.Is(err, errUnauthorized):
		return fmt.Errorf("the API server %s does not take the credentials (401): %w", access.Server, errRefused)
	case errors.As(err, &verification), errors.As(err, &alert):
		return fmt.Errorf("%w: %w", err, errRefused)
	case errors.As(err, new(syscall.Errno)):
		return fmt.Errorf("%s: %w", access.Server, errno(err))
	case err != nil:
		return err
	case !allowed:
		return fmt.Errorf("the API server %s knows the user, who may not list endpoints there: %w", access.Server, errRefused)
	}
	return nil
}
