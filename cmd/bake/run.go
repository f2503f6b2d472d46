package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/vm"
	"github.com/nodebake/bake/bake/vm/vpc"
)

// runner is what the flags of `bake run` ask for.
type runner struct {
	host  *host
	image string

	name, project, zone string
	ip                  string
	metadataDir         string
	metadataValues      []string
	guestAttributes     bool

	memory, cpus int
	diskSize     string
	diskBus      string
	diskFile     string
	noSecureBoot bool
	accel        string
	forwards     []string
	sshPort      int
	ssh          bool
	sshKey       string
	hostLoopback bool
	lan          bool
	isolated     bool
	until        string
	timeout      time.Duration
	asJSON       bool

	// What check makes of these.
	address  netip.Addr
	bus      vm.Bus
	size     int64
	ports    []forwardedPort
	pattern  *regexp.Regexp
	metadata map[string]string
	login    login
}

// forwardedPort is a port of the host's loopback that leads to one of the machine.
type forwardedPort struct{ host, guest int }

func newRun(h *host) *cobra.Command {
	r := runner{host: h}
	c := &cobra.Command{
		Use:   "run IMAGE",
		Short: "Boot an image in QEMU beside a metadata server",
		Long: `Boot an image as Compute Engine boots a Shielded VM, with a metadata server at
169.254.169.254, and print its serial console to standard output. It needs no root.
Ctrl-] presses the power button, a second one cuts the power; elsewhere Ctrl-C does.
The disk is dropped at the end unless --disk names a file (docs/run.md).`,
		Example:     `  bake run worker.tar.gz --metadata worker-0/ --until '^firstboot: ready' --timeout 10m`,
		Annotations: map[string]string{exitCodes: "0 powered off or --until matched, 1 failed or --timeout, 2 wrong usage, 3 no image"},
		Args:        exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r.image = args[0]
			if err := r.check(); err != nil {
				return err
			}
			return r.run(c.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&r.name, "name", "worker-0", "the instance's `NAME`")
	f.StringVar(&r.project, "project", "example", "the `ID` of the project that it is in")
	f.StringVar(&r.zone, "zone", "us-west1-c", "the `ZONE` that it is in")
	f.StringVar(&r.ip, "ip", "10.240.0.20", "its `ADDRESS` in 10.240.0.0/24")
	f.StringVar(&r.metadataDir, "metadata", "", "take metadata from the files in `DIR`")
	f.StringArrayVar(&r.metadataValues, "metadata-value", nil, "set `KEY=VALUE` in the metadata (may be repeated)")
	f.BoolVar(&r.guestAttributes, "guest-attributes", false, "enable guest attributes, and print them at the end")
	f.IntVar(&r.memory, "memory", 2048, "memory in `MIB`")
	f.IntVar(&r.cpus, "cpus", 2, "number of `CPUS`")
	f.StringVar(&r.diskSize, "disk-size", "", "`SIZE` of the disk, such as 10GiB (default: the image's)")
	f.StringVar(&r.diskBus, "disk-bus", "scsi", "`BUS` that the disk is at: scsi or nvme")
	f.StringVar(&r.diskFile, "disk", "", "keep the disk in `FILE`, and start from that where it is there")
	f.BoolVar(&r.noSecureBoot, "no-secure-boot", false, "use firmware without Secure Boot")
	f.StringVar(&r.accel, "accel", "auto", "`HOW` to run the code: auto, kvm or tcg")
	f.BoolVar(&r.ssh, "ssh", false, "make a key, add it to the metadata, and print how to log in with it")
	f.StringVar(&r.sshKey, "ssh-key", "", "with --ssh: keep the private key in `FILE`")
	f.IntVar(&r.sshPort, "ssh-port", 0, "short for --forward `PORT`:22")
	f.StringArrayVar(&r.forwards, "forward", nil, "connect 127.0.0.1:HOST with port GUEST: `HOST:GUEST`; may be repeated")
	f.BoolVar(&r.hostLoopback, "host-loopback", false, "let the machine reach this host's loopback at "+vm.Gateway)
	f.BoolVar(&r.lan, "lan", false, "let the machine reach private addresses and this host's networks")
	f.BoolVar(&r.isolated, "isolated", false, "refuse connections and names beyond the machine's network")
	f.StringVar(&r.until, "until", "", "end with exit code 0 once a line of the console matches `REGEX`")
	f.DurationVar(&r.timeout, "timeout", 0, "power down after this `TIME`, such as 10m")
	f.BoolVar(&r.asJSON, "json", false, "print each line of the console as JSON, with its time in milliseconds")
	h.addShownFlags(c, "say nothing but what the machine says")
	inGroup(f, "Machine", "name", "project", "zone", "ip", "metadata", "metadata-value", "guest-attributes", "cpus", "memory", "accel", "disk", "disk-bus", "disk-size", "no-secure-boot")
	inGroup(f, "Network", "forward", "ssh", "ssh-key", "ssh-port", "host-loopback", "lan", "isolated")
	inGroup(f, "Output", "until", "timeout", "progress", "quiet", "verbose")
	return c
}

// check turns flags into values. What it refuses is wrong usage, or bad input
// where a file is at fault.
func (r *runner) check() error {
	if err := r.checkUsage(); err != nil {
		return &usageError{fmt.Errorf("%w (see `bake run --help`)", err)}
	}
	return r.readMetadata()
}

func (r *runner) checkUsage() error {
	var err error
	if !gce.IsName(r.name) {
		return fmt.Errorf("--name %q is no instance's name: want a lower-case letter, then up to 62 of a-z, 0-9 and -", r.name)
	}
	if !gce.IsName(r.project) || !gce.IsName(r.zone) {
		return fmt.Errorf("--project %q or --zone %q: want a lower-case letter, then up to 62 of a-z, 0-9 and -", r.project, r.zone)
	}
	if r.address, err = netip.ParseAddr(r.ip); err != nil {
		return fmt.Errorf("--ip %s is no address, such as 10.240.0.20", r.ip)
	}
	switch r.diskBus {
	case "scsi":
		r.bus = vm.SCSI
	case "nvme":
		r.bus = vm.NVMe
	default:
		return fmt.Errorf("--disk-bus %s is unknown: want scsi or nvme", r.diskBus)
	}
	switch r.accel {
	case "auto", string(vm.KVM), string(vm.TCG):
	default:
		return fmt.Errorf("--accel %s is unknown: want auto, kvm or tcg", r.accel)
	}
	if r.memory < 256 {
		return fmt.Errorf("--memory %d: want at least 256 MiB", r.memory)
	}
	if r.cpus < 1 || r.cpus > 64 {
		return fmt.Errorf("--cpus %d: want 1 to 64", r.cpus)
	}
	if r.lan && r.isolated {
		return errors.New("--lan and --isolated contradict each other: want one of them")
	}
	if r.timeout < 0 {
		return fmt.Errorf("--timeout %v can't be negative", r.timeout)
	}
	if r.diskSize != "" {
		if r.size, err = parseSize(r.diskSize); err != nil {
			return fmt.Errorf("--disk-size %s: %w", r.diskSize, err)
		}
	}
	if r.until != "" {
		if r.pattern, err = regexp.Compile(r.until); err != nil {
			return fmt.Errorf("--until: %w", err)
		}
	}
	if r.sshKey != "" && !r.ssh {
		return errors.New("--ssh-key is for --ssh: want both")
	}
	if r.sshPort < 0 || r.sshPort > 65535 {
		return fmt.Errorf("--ssh-port %d: want a port, 1 to 65535", r.sshPort)
	}
	if r.sshPort != 0 || r.ssh {
		r.forwards = append(r.forwards, fmt.Sprintf("%d:22", r.sshPort))
	}
	for _, text := range r.forwards {
		p, err := parseForward(text)
		if err != nil {
			return fmt.Errorf("--forward %s: %w", text, err)
		}
		r.ports = append(r.ports, p)
	}
	// The network's own rules, before anything slow.
	network, err := r.newNetwork()
	if err != nil {
		return fmt.Errorf("--ip %s: %w", r.ip, err)
	}
	return network.Close()
}

func (r *runner) newNetwork() (*vm.Network, error) {
	return vm.NewNetwork(vm.NetworkConfig{
		Machines:     map[string]netip.Addr{fmt.Sprintf("%s.%s.c.%s.internal", r.name, r.zone, r.project): r.address},
		Rules:        []vpc.Rule{vpc.AllowAll()}, // it is alone, and --forward says what reaches it
		HostLoopback: r.hostLoopback,
		Isolated:     r.isolated,
		LAN:          r.lan,
	})
}

// parseSize reads "10GiB", "10G", "512MiB" or bytes. QEMU and Compute Engine
// count in powers of two.
func parseSize(text string) (int64, error) {
	problem := errors.New("want a size such as 10GiB")
	m := regexp.MustCompile(`^([0-9]{1,15})(?:([KMGT])(?:iB)?)?$`).FindStringSubmatch(text)
	if m == nil {
		return 0, problem
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, problem
	}
	shift := map[string]int{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[m[2]]
	if n == 0 || n > gce.MaxDiskSize>>shift {
		return 0, errors.New("want more than 0 and at most 64TiB")
	}
	if n <<= shift; n%512 != 0 {
		return 0, errors.New("want whole sectors of 512 bytes")
	}
	return n, nil
}

func parseForward(text string) (forwardedPort, error) {
	hostPort, guestPort, ok := strings.Cut(text, ":")
	port := func(s string, least int) int {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || int(n) < least {
			ok = false
		}
		return int(n)
	}
	p := forwardedPort{host: port(hostPort, 0), guest: port(guestPort, 1)}
	if !ok {
		return p, errors.New("want HOST:GUEST, two ports, such as 2222:22 (HOST 0: any that is free)")
	}
	return p, nil
}

// run starts the machine and waits for its end.
func (r *runner) run(ctx context.Context) error {
	s := &session{runner: r, powerDownTime: powerDownTime, graceTime: graceTime}
	defer s.close()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	return s.run(ctx)
}
