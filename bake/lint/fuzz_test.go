package lint

import (
	"bytes"
	"debug/elf"
	"testing"

	"github.com/nodebake/bake/bake/image/gpt"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/inspect/inspecttest"
)

// FuzzTexts gives every text parser of this package the same text.
func FuzzTexts(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:\n")
	f.Add("# c\n/dev/root / ext4 rw,x-systemd.growfs 0 0\nLABEL=a /b xfs\n")
	f.Add("en* eth*")
	f.Add("!wl* [a")
	f.Add("-net.ipv4.conf.*.rp_filter\nnet/ipv4/conf/eth0.1/rp_filter = 2\n[=1\n")
	f.Fuzz(func(t *testing.T, text string) {
		if lines, err := parseFields("x", text, 7); err == nil {
			for _, fields := range lines {
				if len(fields) != 7 {
					t.Errorf("%d fields in %q", len(fields), text)
				}
			}
		}
		if mounts, err := parseFstab(inspect.ParseLines(text)); err == nil {
			for _, m := range mounts {
				if m.device == "" || m.dir == "" || m.kind == "" {
					t.Errorf("mount %+v of %q", m, text)
				}
			}
		}
		var set sysctls
		for _, line := range inspect.ParseLines(text) {
			if a, ok := parseSysctl(line); ok {
				if slashes(slashes(a.name)) != a.name || a.name == "" {
					t.Errorf("the name %q of %q", a.name, line)
				}
				set = append(set, a)
			}
		}
		set.value("net.ipv4.conf.ens4.rp_filter")
		globs(text, "ens4")
	})
}

func FuzzPrograms(f *testing.F) {
	f.Add([]byte(inspecttest.ELF(elf.EM_X86_64)))
	f.Add([]byte(inspecttest.PE(0x8664, true)))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = checkProgram(bytes.NewReader(data), "amd64", true)
		if _, err := parsePE(data); err == nil && len(data) < 64 {
			t.Errorf("an EFI program of %d bytes", len(data))
		}
	})
}

// FuzzDisk opens damaged disks: whatever is in them, rules answer.
func FuzzDisk(f *testing.F) {
	w := inspecttest.New()
	w.Size, w.Parts[1].Length = 160*inspecttest.MiB, 90*inspecttest.MiB
	disk := w.MustList(f).Reader()
	f.Add(int64(512), []byte{0, 1, 2})
	f.Add(int64(inspecttest.MiB+11), []byte{1})
	f.Add(int64(65*inspecttest.MiB+1024), []byte{255, 255})
	f.Add(int64(gpt.SectorSize*2), bytes.Repeat([]byte{7}, 128))
	f.Fuzz(func(t *testing.T, at int64, with []byte) {
		m := &inspect.Image{Path: "x.raw", Format: inspect.Raw, Disk: &inspecttest.Patched{ReaderAt: disk, Patches: map[int64][]byte{at: with}}, Size: w.Size}
		lint(newSubject(m, m.OpenDisk()))
	})
}
