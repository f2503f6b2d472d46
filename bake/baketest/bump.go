package baketest

// NextKubelet is where the release of kubelet v1.30.1 is.
const NextKubelet = "/releases/v1.30.1/amd64/kubelet"

// Bump moves kubelet to v1.30.1 and leaves its digest, which is an error.
func (w *World) Bump() {
	w.t.Helper()
	w.Edit("versions.yaml", "  kubelet:\n    version: v1.30.0\n", "  kubelet:\n    version: v1.30.1\n")
	w.Edit("versions.yaml", "      path: example.com/kubelet\n", "      path: example.com/kubelet\n      version: v1.30.0\n")
	w.Lock()
}

// BumpError is the error of what Bump leaves, where the new release is as why
// says.
func (w *World) BumpError(why string) string {
	return w.Versions + ":14:9: components.kubelet.release.sha256.amd64: it is the digest of kubelet v1.30.0 amd64 from " + w.URL + KubeletRelease +
		", and " + w.URL + NextKubelet + " " + why + " (replace it by the digest that the project published for v1.30.1)"
}
