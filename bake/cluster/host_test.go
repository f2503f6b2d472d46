package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/vm"
)

func TestHostCheck(t *testing.T) {
	t.Parallel()
	config := &Config{Workers: 3, MemoryMiB: 2048}
	const limit = "fs.inotify.max_user_instances"
	for _, test := range []struct {
		name string
		host Host
		want string
	}{
		{"nothing is known", Host{}, ""},
		{"enough", Host{MemoryMiB: 7168, Files: 2048}, ""},
		{"too little memory", Host{MemoryMiB: 7167},
			"3 workers with 2048 MiB each need 7168 MiB beside a control plane, and this machine has 7167 available (give fewer --workers, or less --memory)"},
		{"too few files", Host{Files: 1024}, "a process may open 1024 files here, and a cluster needs 2048 (ulimit -n 2048)"},
		{"no watches", Host{NoWatches: true, WatchesLimit: limit}, "fewer than 8 of your inotify instances are left here, and a control plane needs them (raise " + limit + ")"},
		{"all at once", Host{MemoryMiB: 1, Files: 1, NoWatches: true, WatchesLimit: limit}, "MiB each need 7168"},
	} {
		err := test.host.Check(config)
		if got := errorText(err); got != test.want && !(test.name == "all at once" && strings.Count(got, "\n") == 2) {
			t.Errorf("%s: Check = %q; want %q", test.name, got, test.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	good := Config{Name: "one", Workers: 3, CPUs: 1, MemoryMiB: 2048, Accel: vm.TCG, ReadyTime: time.Minute}
	for _, test := range []struct {
		change func(*Config)
		want   string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Name = "One" }, `name "One" can't be a cluster's: want`},
		{func(c *Config) { c.Name = ".." }, `name ".." can't be a cluster's: want`},
		{func(c *Config) { c.Workers = 0 }, "workers 0: want 1 to 100"},
		{func(c *Config) { c.Workers = 101 }, "workers 101: want 1 to 100"},
		{func(c *Config) { c.CPUs = 0 }, "cpus 0: want 1 to 64"},
		{func(c *Config) { c.MemoryMiB = 1023 }, "memory 1023: want at least 1024 MiB"},
		{func(c *Config) { c.ReadyTime = 0 }, "timeout 0s: want more than 0"},
		{func(c *Config) { c.LAN, c.Isolated = true, true }, "lan and --isolated contradict each other"},
	} {
		c := good
		test.change(&c)
		if got := errorText(c.Check()); !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
			t.Errorf("Check of %+v = %q; want %q", c, got, test.want)
		}
	}
}
