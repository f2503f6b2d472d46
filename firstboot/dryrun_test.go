package firstboot

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/test/must"
)

func (w *worker) dryRun(change func(*DryRunConfig)) (string, error) {
	var out bytes.Buffer
	c := DryRunConfig{Root: w.root, Metadata: w.config().Metadata, Machine: w.machine(), Out: &out}
	if change != nil {
		change(&c)
	}
	err := DryRun(w.t.Context(), c)
	return out.String(), err
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	before := w.snapshot()
	out, err := w.dryRun(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"node worker-0: pods 10.200.0.0/24 of 10.200.0.0/16",
		"created      0644 /etc/hostname (9 bytes)\n    + worker-0\n",
		"created      0600 /var/lib/kubelet/worker-0-key.pem (",
		"(not shown: it holds a credential)",
		"13 of 13 files would change.",
		"enable, and start or restart kubelet.service",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the dry run does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "PRIVATE KEY") || strings.Contains(out, "client-key-data") {
		t.Errorf("the dry run shows a key:\n%s", out)
	}
	if diff := cmp.Diff(before, w.snapshot()); diff != "" || w.exists(stateDir) {
		t.Errorf("the dry run wrote (-before +after):\n%s", diff)
	}

	w.configures()
	w.metadata.SetAttribute("cluster-dns", "10.32.0.53")
	if out, err = w.dryRun(nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"rewritten    0600 /var/lib/kubelet/kubelet-config.yaml", "1 of 13 files would change.",
		"enable, and start kube-proxy.service unless it runs", "enable, and start or restart kubelet.service",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the dry run after a change does not say %q:\n%s", want, out)
		}
	}
	if strings.Count(out, "\n    - ") != 1 || strings.Count(out, "\n    + ") != 1 {
		t.Errorf("want one line that goes and one that comes:\n%s", out)
	}
}

func TestDryRunFromAFile(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	attributes := map[string]string{}
	maps.Copy(attributes, w.attributes(node.Config{}))
	encode := func() string {
		data := must.Get(json.Marshal(map[string]any{"instance": map[string]any{
			"name": "worker-0", "hostname": "worker-0.us-west1-c.c.example.internal", "attributes": attributes,
			"networkInterfaces": []any{map[string]any{"ip": "10.240.0.20", "mtu": 1460}},
		}}))
		path := filepath.Join(t.TempDir(), "metadata.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := encode()
	attributes["pod-cidr"] = "10.200.0.7/24"
	bad := encode()
	attributes["kubelet-key-secret"] = "projects/example/secrets/key/versions/1"
	attributes["pod-cidr"] = "10.200.0.0/24"
	delete(attributes, "kubelet-key")
	secret := encode()
	empty := t.TempDir()
	for _, test := range []struct {
		name   string
		change func(*DryRunConfig)
		want   string // in the error
	}{
		{"right", func(c *DryRunConfig) { c.MetadataFile = good }, ""},
		{"into an empty directory", func(c *DryRunConfig) {
			c.MetadataFile, c.Image, c.Root = good, filepath.Join(w.root, imageRecord), empty
		}, ""},
		{"a bad value", func(c *DryRunConfig) { c.MetadataFile = bad }, "metadata key pod-cidr"},
		{"a secret", func(c *DryRunConfig) { c.MetadataFile = secret }, "metadata key kubelet-key-secret"},
		{"no file", func(c *DryRunConfig) { c.MetadataFile = filepath.Join(empty, "none") }, "reading metadata"},
		{"no record", func(c *DryRunConfig) { c.MetadataFile, c.Root = good, empty }, "--image"},
	} {
		out, err := w.dryRun(test.change)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want == "" && !strings.Contains(out, "13 of 13 files would change."):
			t.Errorf("%s: the dry run says\n%s", test.name, out)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || out != ""):
			t.Errorf("%s: DryRun = %v after %q; want an error with %q and nothing before", test.name, err, out, test.want)
		}
	}
}

func TestDiffLines(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ old, now, want string }{
		{"", "", ""},
		{"a b c", "a b c", ""},
		{"", "a b", "+a +b"},
		{"a b", "", "-a -b"},
		{"a b c", "a x c", "-b +x"},
		{"a b c d", "b c d e", "-a +e"},
	} {
		var want []string
		for field := range strings.FieldsSeq(test.want) {
			want = append(want, field[:1]+" "+field[1:])
		}
		if diff := cmp.Diff(want, diffLines(strings.Fields(test.old), strings.Fields(test.now))); diff != "" {
			t.Errorf("diffLines(%q, %q) (-want +got):\n%s", test.old, test.now, diff)
		}
	}
}
