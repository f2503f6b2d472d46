package lint

func sysctlRules() []Rule {
	return []Rule{{
		ID:    "node-sysctl",
		Must:  "the kernel settings that kubelet checks, and those that keep pods and accounts from the kernel and from each other, are set at boot",
		Why:   "kubelet does not start where one of its own is another (protectKernelDefaults), and nobody notices that one of the others is missing [docs/worker.md]",
		needs: needsRoot,
		check: func(s *subject) []string {
			set, err := s.files.sysctls()
			if err != nil {
				return wrong(err)
			}
			var p problems
			for _, want := range nodeSysctls() {
				if got := set.value(want.name); got != want.value {
					p.add("sysctl %s is set to %q; want %s", want.name, got, want.value)
				}
			}
			return p
		},
	}}
}

// nodeSysctls are what a worker's kernel must be set to. The first six are those
// of setupKernelTunables in kubelet's pkg/kubelet/cm. ens4 stands for interfaces that
// are there before systemd-sysctl, which "default" does not reach.
func nodeSysctls() []assignment {
	return []assignment{
		{name: "vm.overcommit_memory", value: "1"},
		{name: "vm.panic_on_oom", value: "0"},
		{name: "kernel.panic", value: "10"},
		{name: "kernel.panic_on_oops", value: "1"},
		{name: "kernel.keys.root_maxkeys", value: "1000000"},
		{name: "kernel.keys.root_maxbytes", value: "25000000"},

		{name: "net.ipv4.conf.all.send_redirects", value: "0"},
		{name: "net.ipv4.conf.default.send_redirects", value: "0"},
		{name: "net.ipv4.conf.ens4.send_redirects", value: "0"},
		{name: "kernel.kptr_restrict", value: "1"},
		{name: "kernel.yama.ptrace_scope", value: "1"},
		{name: "net.core.bpf_jit_harden", value: "1"},
		{name: "fs.protected_fifos", value: "1"},
		{name: "fs.protected_regular", value: "2"},
	}
}
