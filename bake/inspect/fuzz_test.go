package inspect

import (
	"bytes"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/image/cpio"
	"github.com/nodebake/bake/bake/inspect/inspecttest"
)

// FuzzTexts gives the text parsers of this package the same text.
func FuzzTexts(f *testing.F) {
	f.Add("title x\nversion 6.12\nlinux /a/linux\ninitrd /a/initrd\ninitrd /b\noptions root=x  quiet\noptions ro\n")
	f.Add("kernel/drivers/net/sev-guest.ko.xz")
	f.Fuzz(func(t *testing.T, text string) {
		entry := parseLoaderEntry("x.conf", text)
		for _, o := range entry.Options {
			if o == "" || strings.ContainsAny(o, " \n") {
				t.Errorf("option %q of %q", o, text)
			}
		}
		if name := moduleName(text); strings.Contains(name, "-") {
			t.Errorf("moduleName(%q) = %q; want no hyphen", text, name)
		}
	})
}

func FuzzInitramfs(f *testing.F) {
	var b bytes.Buffer
	if err := cpio.Write(&b, inspecttest.MustTree(f, inspecttest.New().Initrd), 1); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("070701"))
	f.Fuzz(func(t *testing.T, data []byte) {
		k := &Kernel{Entry: &LoaderEntry{}, initrd: map[string]bool{}}
		if err := k.readArchive(bytes.NewReader(data)); err == nil && len(k.Init) > len(data) {
			t.Errorf("an init of %d bytes out of %d", len(k.Init), len(data))
		}
	})
}
