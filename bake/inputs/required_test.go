package inputs

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"testing"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/firstboot/config"
	"github.com/nodebake/bake/images/worker"
	"github.com/nodebake/bake/units"
)

// TestRequired compares the names with what firstboot looks for, and with the
// programs that units start.
func TestRequired(t *testing.T) {
	d, err := manifest.ParseDefinition("", worker.FS())
	if err != nil {
		t.Fatal(err)
	}
	why := required(d)
	record := func(without string) []byte {
		text := `{"components":[`
		for _, name := range componentsOf("firstboot.service") {
			if name != without {
				text += `{"name":"` + name + `","version":"v1.30.0"},`
			}
		}
		return []byte(text + `{"name":"others","version":"1"}]}`)
	}
	if _, err = config.ParseImage(record("")); err != nil {
		t.Errorf("firstboot wants something that is not required: %v", err)
	}
	for _, name := range []string{"kubelet", "containerd", "cni-plugins"} {
		if _, err := config.ParseImage(record(name)); err == nil || !regexp.MustCompile("names no component "+name+"$").MatchString(err.Error()) {
			t.Errorf("without %s firstboot says %v; want that it looks for it", name, err)
		}
		if why[name] == "" {
			t.Errorf("firstboot looks for component %s, which is not required", name)
		}
	}
	files, err := fs.ReadDir(units.FS(), ".")
	if err != nil {
		t.Fatal(err)
	}
	start := regexp.MustCompile(`(?m)^ExecStart=(/\S+)`)
	found := 0
	for _, f := range files {
		content, err := fs.ReadFile(units.FS(), f.Name())
		if err != nil {
			t.Fatal(err)
		}
		m := start.FindSubmatch(content)
		if path.Ext(f.Name()) != ".service" || m == nil {
			continue
		}
		name := path.Base(string(m[1]))
		if path.Dir(string(m[1])) != "/bin" && path.Dir(string(m[1])) != "/usr/local/bin" || name == "sh" {
			continue // of a package, or bake's own
		}
		found++
		if !slices.Contains(componentsOf(f.Name()), name) || why[name] == "" {
			t.Errorf("%s starts %s, which is not required", f.Name(), m[1])
		}
	}
	if found != 3 {
		t.Errorf("%d units start programs of components; want 3", found)
	}
	if got := required(&manifest.Definition{}); len(got) > 0 {
		t.Errorf("a definition that enables nothing requires %v", got)
	}
}
