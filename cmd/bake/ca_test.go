package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/test/filetest"
)

// TestUnknownCA asks a mirror whose CA nobody knows, and then does what the error
// says.
func TestUnknownCA(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("SSL_CERT_FILE is for Linux")
	}
	p := newProgram(t)
	p.Remove(baketest.KubeletRelease)
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	p.Edit("versions.yaml", p.URL+"/releases/{version}/{arch}/kubelet", s.URL+"/kubelet")
	p.Lock()
	_, stderr, code := outcome(t, p.command("--quiet"))
	if want := "or name a file with its certificate in SSL_CERT_FILE)"; code != exitFailed || !strings.Contains(stderr, want) {
		t.Errorf("bake image exits with %d; want %d and %q:\n%s", code, exitFailed, want, stderr)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	filetest.Write(t, file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	cmd := p.command("--quiet")
	cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+file)
	_, stderr, code = outcome(t, cmd)
	if want := s.URL + "/kubelet: 404 Not Found"; code != exitFailed || !strings.Contains(stderr, want) {
		t.Errorf("bake image with SSL_CERT_FILE exits with %d; want %d and %q:\n%s", code, exitFailed, want, stderr)
	}
}
