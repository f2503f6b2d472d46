package firstboot

import (
	"io/fs"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func inode(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }

func TestParseSwaps(t *testing.T) {
	t.Parallel()
	const header = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	for in, want := range map[string][]string{
		"":     nil,
		header: nil,
		header + "/dev/sdb2                               partition\t1048572\t\t0\t\t-2\n/var/swap\\040file                      file\t\t524284\t\t0\t\t-3\n": {"/dev/sdb2", "/var/swap file"},
		header + `/odd\04` + " file\n": {`/odd\04`},
	} {
		if diff := cmp.Diff(want, parseSwaps(in)); diff != "" {
			t.Errorf("parseSwaps(%q) (-want +got):\n%s", in, diff)
		}
	}
}

func FuzzParseSwaps(f *testing.F) {
	f.Add("Filename Type\n/dev/sdb2 partition 1 0 -2\n")
	f.Add("h\n/a\\040b file\n\\0")
	f.Fuzz(func(t *testing.T, s string) {
		for _, path := range parseSwaps(s) {
			if path == "" {
				t.Errorf("parseSwaps(%q) has an empty path", s)
			}
		}
	})
}

func TestTheMachineAnswers(t *testing.T) {
	t.Parallel()
	m := Machine{}.withDefaults()
	if m.Uptime() <= 0 || m.CPU() <= 0 || m.Memory() < 1<<20 || m.CPUs() < 1 {
		t.Errorf("uptime %v, processor time %v, memory %d, processors %d; want all of them", m.Uptime(), m.CPU(), m.Memory(), m.CPUs())
	}
}
