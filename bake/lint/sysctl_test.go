package lint

import (
	"io/fs"
	"testing"

	"github.com/nodebake/bake/bake/inspect/inspecttest"
	"github.com/nodebake/bake/images/worker"
)

// TestSysctls holds what is read to what systemd-sysctl does (sysctl.d(5)).
func TestSysctls(t *testing.T) {
	t.Parallel()
	w := inspecttest.New()
	delete(w.Root, "etc/sysctl.d/80-node.conf")
	delete(w.Root, "etc/sysctl.d/90-kubernetes.conf")
	w.Text("usr/lib/sysctl.d/50-default.conf", "net.ipv4.conf.default.rp_filter = 2\nnet.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\n")
	w.Text("usr/lib/sysctl.d/60-hidden.conf", "kernel.panic = 1\n")
	w.Text("etc/sysctl.d/60-hidden.conf", "# nothing\n")
	w.Text("usr/lib/sysctl.d/70-first.conf", "kernel.sysrq = 1\n; kernel.sysrq = 2\nfs.suid_dumpable 1\n-vm.swappiness = 10\n")
	w.Text("etc/sysctl.d/71-second.conf", "kernel/sysrq=0\nnet/ipv4/conf/eth0.1/rp_filter = 0\nnet.ipv4.conf.cni*.rp_filter=1\n")
	w.Text("etc/sysctl.d/72-no", "kernel.sysrq = 3\n")
	set, err := subjectOf(t, w).files.sysctls()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"kernel.sysrq": "0", "kernel.panic": "", "fs.suid_dumpable": "", "vm.swappiness": "10",
		"net.ipv4.conf.default.rp_filter": "2", "net.ipv4.conf.all.rp_filter": "", "net.ipv4.conf.ens4.rp_filter": "2",
		"net.ipv4.conf.cnio0.rp_filter": "1", "net.ipv4.conf.eth0/1.rp_filter": "0", "net.ipv4.conf.ens4.x.rp_filter": "",
	} {
		if got := set.value(name); got != want {
			t.Errorf("value(%s) = %q; want %q", name, got, want)
		}
	}
}

// TestWorkersSysctls holds the worker's own file to the rule.
func TestWorkersSysctls(t *testing.T) {
	t.Parallel()
	const name = "etc/sysctl.d/90-kubernetes.conf"
	ours, err := fs.ReadFile(worker.FS(), "files/"+name)
	if err != nil {
		t.Fatal(err)
	}
	w := inspecttest.New()
	delete(w.Root, "etc/sysctl.d/80-node.conf")
	w.Text(name, string(ours))
	for _, v := range lint(subjectOf(t, w)).Violations {
		t.Errorf("with the worker's settings: %s", v)
	}
}
