package bake_test

import (
	"debug/elf"
	"testing"

	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/inspect/inspecttest"
)

// TestProgramsThatAreNone pins what is no program of the image.
func TestProgramsThatAreNone(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	c := w.Config()
	for _, test := range []struct{ name, kubelet, want string }{
		{"empty", "", "it is empty"},
		{"a page", "<!DOCTYPE html>\n", `it is neither an ELF program nor a script: it begins with "<!DOCTYPE html>\n"`},
		{"other architecture", inspecttest.ELF(elf.EM_AARCH64), "it is for EM_AARCH64, the image for EM_X86_64"},
		{"script", "#!/bin/bash\n", "/bin/bash is needed to start it and is no program of the image (add the package that has it to the image definition)"},
		{"script that can run", "#!/bin/sh\n", ""},
	} {
		w.Kubelet = []byte(test.kubelet)
		w.WriteVersions()
		w.Lock()
		_, err := baketest.Image(t.Context(), c)
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: Image() = %v", test.name, err)
			}
			continue
		}
		want := w.Versions + ":9:3: component kubelet: /usr/local/bin/kubelet from " + w.URL + baketest.KubeletRelease + ": " + test.want
		if err == nil || err.Error() != want {
			t.Errorf("%s: Image() = %v; want %s", test.name, err, want)
		}
		baketest.WantNothing(t, c)
	}
}
