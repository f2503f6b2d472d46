//go:build system

package qemu

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/test/cluster"
)

// apartPod is a pod whose users are not the node's, with what kubelet prepares
// for such pods below /var/lib/kubelet: a volume of its group, and a part of it.
func apartPod(reference string) string {
	pod := strings.Replace(corednsPod(reference), "spec:\n  automount",
		"spec:\n  hostUsers: false\n  securityContext: {runAsUser: 1000, runAsNonRoot: true, fsGroup: 2000}\n  automount", 1)
	pod = strings.Replace(pod, "mountPath: /etc/coredns, readOnly: true}]",
		"mountPath: /etc/coredns, readOnly: true}, {name: data, mountPath: /data}, {name: data, mountPath: /part, subPath: part}]", 1)
	return pod + "  - {name: data, emptyDir: {}}\n"
}

// TestHardening asks a worker for what it keeps from pods and accounts, and
// whether a pod that needs the kubelet's directory runs nevertheless.
func TestHardening(t *testing.T) {
	host := theHost(t)
	s := newSite(t, cluster.Current)
	if err := s.Apply(t.Context(), apartPod(preloadedImage(t, recordOf(t, host), "coredns").Reference)); err != nil {
		t.Fatal(err)
	}
	w := boot(t, options{host: host, network: s.network, attributes: s.guideAttributes()})
	w.becomesReady(s)
	w.login(3 * time.Minute)
	w.expect("stat -c '%a %U' /var/lib/kubelet /var/lib/kubelet/kubelet-config.yaml /var/lib/kube-proxy/kube-proxy-config.yaml", "700 root\n600 root\n600 root")
	s.kubectl("wait", "--for=condition=Ready", "--timeout=5m", "pod/coredns")

	const pid = "$(pgrep -o -x coredns)"
	for _, check := range []struct{ what, want string }{
		{"awk '{print ($2 > 0)}' /proc/" + pid + "/uid_map", "1"}, // not the node's users
		{"awk '/^Seccomp:/ {print $2}' /proc/" + pid + "/status", "2"},
		{"awk '/^Max core file size/ {print $5, $6}' /proc/" + pid + "/limits", "0 unlimited"},
		{"cat /proc/" + pid + "/attr/current", "cri-containerd.apparmor.d (enforce)"},
		// The volume's group, as the pod knows it.
		{"echo $(($(stat -c %g /proc/" + pid + "/root/data) - $(awk '{print $2}' /proc/" + pid + "/gid_map))) $(stat -c %A /proc/" + pid + "/root/data)", "2000 drwxrwsrwx"},
		{"test -d /proc/" + pid + "/root/part && echo there", "there"},
		{"cat /sys/fs/cgroup/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod*.slice/pids.max", "4096"},
	} {
		w.expect(check.what, check.want)
	}
	config := s.kubectl("get", "--raw", "/api/v1/nodes/worker-0/proxy/configz")
	for _, want := range []string{`"seccompDefault":true`, `"protectKernelDefaults":true`, `"podPidsLimit":4096`, `"tlsMinVersion":"VersionTLS12"`} {
		if !strings.Contains(config, want) {
			t.Errorf("kubelet's configuration is %s; want %s in it", config, want)
		}
	}
	for key, want := range map[string]string{
		"net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf." + w.card(workerAddress) + ".send_redirects": "0", "net.ipv4.conf.cnio0.send_redirects": "0",
		"kernel.kptr_restrict": "1", "kernel.yama.ptrace_scope": "1", "net.core.bpf_jit_harden": "1",
		"fs.protected_fifos": "1", "fs.protected_regular": "2", "vm.overcommit_memory": "1", "kernel.panic": "10",
	} {
		w.expect("sysctl -n "+key, want)
	}

	// A profile of our own, and what it does not allow: in the journal, and not on
	// the console.
	w.run(`printf 'profile bake-test { /** rmix, capability, }\n' | apparmor_parser --add`)
	if out, err := w.try("aa-exec -p bake-test -- touch /root/denied"); err == nil {
		t.Errorf("AppArmor lets the profile write: %s", out)
	}
	w.eventually(`journalctl -k -b --no-pager | grep -q 'apparmor="DENIED".*profile="bake-test" name="/root/denied"'`, time.Minute)
	w.run("echo '<4>bake-test: a warning' >/dev/kmsg")
	w.waitFor("bake-test: a warning", time.Minute)
	if strings.Contains(w.Console.String(), `profile="bake-test"`) {
		t.Error("AppArmor's denial is on the console; want it in the journal alone")
	}

	// No unit of ours was refused what it does.
	for _, unit := range []string{"firstboot", "firstboot-health", "worker-nftables", "ssh-host-keys"} {
		if out := w.run(fmt.Sprintf("journalctl -b --no-pager -o cat -u %s", unit)); strings.Contains(out, "not permitted") || strings.Contains(out, "ermission denied") {
			t.Errorf("%s was refused something:\n%s", unit, out)
		}
		w.expect("systemctl is-failed --quiet "+unit+"; echo $?", "1")
	}
	save(t, "journal", w.run("journalctl -b --no-pager"))
	w.shutDown()
}
