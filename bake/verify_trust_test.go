package bake

import (
	"testing"

	"github.com/nodebake/bake/bake/manifest"
)

// TestVouch decides who vouches for what.
func TestVouch(t *testing.T) {
	image := map[string]manifest.Sum{versionsName: "sha256:a", lockName: "sha256:b", "modules/x/go.sum": "sha256:c"}
	given := func(versions, lock, sum manifest.Sum) map[string]input {
		out := map[string]input{}
		for name, sum := range map[string]manifest.Sum{versionsName: versions, lockName: lock, "modules/x/go.sum": sum} {
			if sum != "" {
				out[name] = input{"my/" + name, sum}
			}
		}
		return out
	}
	const nobody = "nothing says that they are harmless (give --key that signed them, --versions that you know, or --trust-inputs)"
	for _, test := range []struct {
		name string
		v    vouchers
		want string
	}{
		{"nobody", vouchers{}, nobody},
		{"a signature", vouchers{signed: true}, ""},
		{"the user", vouchers{trust: true}, ""},
		{"his inputs", vouchers{given: given("sha256:a", "sha256:b", "sha256:c")}, ""},
		{"his versions file alone", vouchers{given: given("sha256:a", "", "")}, ""},
		{"another versions file", vouchers{given: given("sha256:z", "sha256:z", "")}, "my/versions.yaml is sha256:z, and the image was made from sha256:a"},
		{"another lock", vouchers{given: given("sha256:a", "sha256:z", "sha256:c")}, "my/versions.lock is sha256:z, and the image was made from sha256:b"},
		{"another go.sum", vouchers{given: given("sha256:a", "sha256:b", "sha256:z")}, "my/modules/x/go.sum is sha256:z, and the image was made from sha256:c"},
		{"a signature of others than his", vouchers{signed: true, given: given("sha256:z", "", "")}, "my/versions.yaml is sha256:z, and the image was made from sha256:a"},
		{"the user, of others than his", vouchers{trust: true, given: given("sha256:z", "", "")}, "my/versions.yaml is sha256:z, and the image was made from sha256:a"},
	} {
		got := ""
		if err := test.v.vouch(image); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: vouch = %q; want %q", test.name, got, test.want)
		}
	}
}
