package firstboot

import (
	"os"
	"runtime"
	"time"

	"github.com/nodebake/bake/firstboot/report"
)

// Machine is what Run and Health ask of and do to the machine beside its files
// and units. Nil fields are the real ones.
type Machine struct {
	Now    func() time.Time
	Uptime func() time.Duration // since the kernel started
	CPU    func() time.Duration // processor time of this process
	Memory func() uint64        // bytes
	CPUs   func() int

	SetHostname func(string) error
	Swapoff     func() (off []string, err error) // turns all swap off

	Console func(line string) error // prints a line on the machine's console
}

func (m Machine) withDefaults() Machine {
	if m.Now == nil {
		m.Now = time.Now
	}
	if m.Uptime == nil {
		m.Uptime = uptime
	}
	if m.CPU == nil {
		m.CPU = cpuTime
	}
	if m.Memory == nil {
		m.Memory = memory
	}
	if m.CPUs == nil {
		m.CPUs = runtime.NumCPU
	}
	if m.SetHostname == nil {
		m.SetHostname = setHostname
	}
	if m.Swapoff == nil {
		m.Swapoff = func() ([]string, error) {
			swaps, err := os.ReadFile("/proc/swaps")
			if err != nil {
				return nil, err
			}
			return swapoffAll(swaps)
		}
	}
	if m.Console == nil {
		m.Console = report.Console("/dev/console")
	}
	return m
}
