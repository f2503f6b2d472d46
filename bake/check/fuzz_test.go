package check

import (
	"bytes"
	"debug/elf"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/check/checktest"
	"github.com/nodebake/bake/bake/image/cpio"
	"github.com/nodebake/bake/bake/image/gpt"
)

// FuzzTexts gives every text parser of this package the same text.
func FuzzTexts(f *testing.F) {
	f.Add("title x\nversion 6.12\nlinux /a/linux\ninitrd /a/initrd\ninitrd /b\noptions root=x  quiet\noptions ro\n")
	f.Add("root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:\n")
	f.Add("# c\n/dev/root / ext4 rw,x-systemd.growfs 0 0\nLABEL=a /b xfs\n")
	f.Add("en* eth*")
	f.Add("!wl* [a")
	f.Add("-net.ipv4.conf.*.rp_filter\nnet/ipv4/conf/eth0.1/rp_filter = 2\n[=1\n")
	f.Fuzz(func(t *testing.T, text string) {
		entry := parseLoaderEntry("x.conf", text)
		for _, o := range entry.Options {
			if o == "" || strings.ContainsAny(o, " \n") {
				t.Errorf("option %q of %q", o, text)
			}
		}
		if lines, err := parseFields("x", text, 7); err == nil {
			for _, fields := range lines {
				if len(fields) != 7 {
					t.Errorf("%d fields in %q", len(fields), text)
				}
			}
		}
		if mounts, err := parseFstab(parseLines(text)); err == nil {
			for _, m := range mounts {
				if m.device == "" || m.dir == "" || m.kind == "" {
					t.Errorf("mount %+v of %q", m, text)
				}
			}
		}
		var set sysctls
		for _, line := range parseLines(text) {
			if a, ok := parseSysctl(line); ok {
				if slashes(slashes(a.name)) != a.name || a.name == "" {
					t.Errorf("the name %q of %q", a.name, line)
				}
				set = append(set, a)
			}
		}
		set.value("net.ipv4.conf.ens4.rp_filter")
		globs(text, "ens4")
		if name := moduleName(text); strings.Contains(name, "-") {
			t.Errorf("moduleName(%q) = %q; want no hyphen", text, name)
		}
	})
}

func FuzzInitramfs(f *testing.F) {
	var b bytes.Buffer
	if err := cpio.Write(&b, treeOf(f, checktest.New().Initrd), 1); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("070701"))
	f.Fuzz(func(t *testing.T, data []byte) {
		k := &kernel{entry: &loaderEntry{}, initrd: map[string]bool{}}
		if err := k.readArchive(bytes.NewReader(data)); err == nil && len(k.init) > len(data) {
			t.Errorf("an init of %d bytes out of %d", len(k.init), len(data))
		}
	})
}

func FuzzPrograms(f *testing.F) {
	f.Add([]byte(checktest.ELF(elf.EM_X86_64)))
	f.Add([]byte(checktest.PE(0x8664, true)))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = checkProgram(bytes.NewReader(data), "amd64", true)
		if _, err := parsePE(data); err == nil && len(data) < 64 {
			t.Errorf("an EFI program of %d bytes", len(data))
		}
	})
}

// FuzzDisk opens damaged disks: whatever is in them, rules answer.
func FuzzDisk(f *testing.F) {
	w := checktest.New()
	w.Size, w.Parts[1].Length = 160*checktest.MiB, 90*checktest.MiB
	disk := listOf(f, w).Reader()
	f.Add(int64(512), []byte{0, 1, 2})
	f.Add(int64(checktest.MiB+11), []byte{1})
	f.Add(int64(65*checktest.MiB+1024), []byte{255, 255})
	f.Add(int64(gpt.SectorSize*2), bytes.Repeat([]byte{7}, 128))
	f.Fuzz(func(t *testing.T, at int64, with []byte) {
		m := &Image{Path: "x.raw", Format: Raw, Disk: &checktest.Patched{ReaderAt: disk, Patches: map[int64][]byte{at: with}}, Size: w.Size, sum: new([32]byte)}
		lint(&subject{m, m.openDisk()})
	})
}
