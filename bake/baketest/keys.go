package baketest

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/nodebake/bake/test/need"
)

// NewKey makes a key to sign with, as docs/inspect.md says, in a file; it is
// encrypted where a password is given. openssl makes it: it is none of ours.
func NewKey(t testing.TB, password string) (private string, public []byte) {
	t.Helper()
	openssl := need.Program(t, "openssl", "openssl")
	private = filepath.Join(t.TempDir(), "key.pem")
	args := []string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private}
	if password != "" {
		args = append(args, "-aes-256-cbc", "-pass", "pass:"+password)
	}
	for _, args := range [][]string{args, {"pkey", "-in", private, "-passin", "pass:" + password, "-pubout"}} {
		var err error
		if public, err = exec.CommandContext(t.Context(), openssl, args...).Output(); err != nil {
			t.Fatalf("openssl %q: %v", args, err)
		}
	}
	return private, public
}
