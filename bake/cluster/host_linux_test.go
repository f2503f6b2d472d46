package cluster

import "testing"

func TestAvailableMiB(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"MemTotal:       24643516 kB\nMemFree:         1000000 kB\nMemAvailable:   20971520 kB\n": 20480,
		"MemTotal:       24643516 kB\n": 0,
		"MemAvailable: lots\n":          0,
	} {
		if got := availableMiB([]byte(text)); got != want {
			t.Errorf("availableMiB(%q) = %d; want %d", text, got, want)
		}
	}
}

// TestCanWatch asks for none, which can always be had, and for more than anybody
// may have.
func TestCanWatch(t *testing.T) {
	t.Parallel()
	if !canWatch(0) {
		t.Error("canWatch(0) = false; want true")
	}
	if h := ReadHost(); h.MemoryMiB < 64 || h.Files < 64 {
		t.Errorf("ReadHost = %+v; want some memory and files", h)
	}
}
