package units

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// network builds, in namespaces of its own: a pod behind cnio0, the machine, and
// the metadata server behind it, which serves HTTP and answers on port 53. It is
// another node's pod too, 10.200.1.2, and somebody out of the cluster, 8.8.8.8. A
// service's address (10.32.0.99) leads to the metadata server. Then it asks from
// where pods are and from the machine, before and after the rules are loaded.
//
// root is a copy of what the image has below /usr/lib/bake and /etc, mounted
// there, with the rules that firstboot writes.
const network = `set -e
self=$1 root=$2
mount -t tmpfs tmpfs /run
mkdir -p /run/up /run/work
mount -t overlay -o lowerdir=$root/etc:/etc overlay /etc
mkdir /run/usr-lib
mount -t overlay -o lowerdir=$root/usr/lib:/usr/lib overlay /usr/lib
for n in pod server; do
  ip netns add $n
  ip link add link-$n type veth peer name eth0 netns $n
  ip -n $n link set lo up
  ip -n $n link set eth0 up
done
ip link set link-pod name cnio0
ip link set cnio0 up
ip link set link-server up
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
ip addr add 10.200.0.1/24 dev cnio0
ip addr add fd00:1::1/64 dev cnio0 nodad
ip -n pod addr add 10.200.0.2/24 dev eth0
ip -n pod addr add fd00:1::2/64 dev eth0 nodad
ip -n pod addr add 8.8.4.4/32 dev lo
ip -n pod addr add fd00:bad::1/128 dev lo nodad
ip -n pod route add default via 10.200.0.1
ip -n pod -6 route add default via fd00:1::1
ip addr add 169.254.169.253/30 dev link-server
ip addr add fd20:ce::1/64 dev link-server nodad
ip route add 10.200.1.0/24 via 169.254.169.254
ip route add 8.8.8.8/32 via 169.254.169.254
ip -6 route add fd00:2::/64 via fd20:ce::254
ip -n server addr add 169.254.169.254/30 dev eth0
ip -n server addr add 10.200.1.2/32 dev lo
ip -n server addr add 8.8.8.8/32 dev lo
ip -n server addr add fd20:ce::254/64 dev eth0 nodad
ip -n server addr add fd00:2::2/128 dev lo nodad
ip -n server route add default via 169.254.169.253
ip -n server -6 route add default via fd20:ce::1
nft 'table ip service { chain pre { type nat hook prerouting priority dstnat; ip daddr 10.32.0.99 dnat to 169.254.169.254; }; }'
ask() { GUARD=$1 "$self" -test.run='^TestInside$'; }
pod() { GUARD=$1 ip netns exec pod "$self" -test.run='^TestInside$'; }
GUARD=serve ip netns exec server "$self" -test.run='^TestInside$' >&2 &
server=$!
pod open >&2
pod ask
pod outside
nft -f /usr/lib/bake/metadata-guard.nft
nft -f /usr/lib/bake/metadata-guard.nft
nft -f /etc/nftables/pod-masquerade.nft
nft -f /etc/nftables/pod-masquerade.nft
pod ask
pod outside
ask ask
GUARD=ask setpriv --reuid 65534 --clear-groups "$self" -test.run='^TestInside$'
tables() { nft list tables | grep -v service; }
tables >/run/before
nft list table inet metadata-guard >>/run/before
nft list table ip pod-masquerade >>/run/before
for how in "nft -f /etc/nftables.conf" "$(sed -n 's/^ExecStop=\(..*\)/\1/p' $root/etc/systemd/system/nftables.service.d/50-bake.conf)" \
  "nft flush ruleset; $(sed -n 's/^ExecStartPost=//p' $root/etc/systemd/system/nftables.service.d/50-bake.conf)" \
  "nft flush ruleset; $(sed -n 's/^ExecReload=//p' $root/etc/systemd/system/nftables.service.d/50-bake.conf)"; do
  nft add table ip other
  sh -c "$how"
  tables >/run/after
  nft list table inet metadata-guard >>/run/after
  nft list table ip pod-masquerade >>/run/after
  cmp /run/before /run/after >&2 || { echo "after: $how" >&2; cat /run/after >&2; exit 1; }
done
pod ask
kill $server`

func TestMetadataGuard(t *testing.T) {
	t.Parallel()
	for program, pkg := range map[string]string{"nft": "nftables", "ip": "iproute2", "unshare": "util-linux", "setpriv": "util-linux"} {
		need.Program(t, program, pkg)
	}
	self := must.Get(os.Executable())
	root := t.TempDir()
	for to, from := range map[string]string{
		"usr/lib/bake": "../images/worker/files/usr/lib/bake", "etc": "../images/worker/files/etc",
		"etc/nftables": "../firstboot/config/testdata/metadata/root/etc/nftables",
	} {
		filetest.Copy(t, from, filepath.Join(root, to))
	}
	unshare := []string{"--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if os.Getuid() != 0 {
		unshare = append(unshare, "--map-root-user")
	}
	if out, err := exec.CommandContext(t.Context(), "unshare", append(unshare, "true")...).CombinedOutput(); err != nil {
		need.Missing(t, "namespaces can't be made here: %v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", append(unshare, "sh", "-c", network, "sh", self, root)...)
	cmd.Env = append(cmd.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.WaitDelay = 5 * time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var got [7]map[string]string
	dec := json.NewDecoder(strings.NewReader(strings.ReplaceAll(string(out), "PASS\n", "")))
	for i := range got {
		if err := dec.Decode(&got[i]); err != nil {
			t.Fatalf("%v in %q\n%s", err, out, stderr.String())
		}
	}
	everything := map[string]string{
		"HTTP 169.254.169.254": "ok", "HTTP fd20:ce::254": "ok", "HTTP 10.32.0.99": "ok",
		"UDP 123 169.254.169.254": "ok", "UDP 123 fd20:ce::254": "ok", "UDP 123 10.32.0.99": "ok",
		"UDP 67 169.254.169.254": "ok", "UDP 67 fd20:ce::254": "ok", "UDP 67 10.32.0.99": "ok",
		"UDP 53 169.254.169.254": "ok", "UDP 53 fd20:ce::254": "ok", "UDP 53 10.32.0.99": "ok",
		"TCP 53 169.254.169.254": "ok", "TCP 53 fd20:ce::254": "ok", "TCP 53 10.32.0.99": "ok",
	}
	guarded, nobody := map[string]string{}, map[string]string{}
	for what := range everything {
		guarded[what], nobody[what] = "ok", "ok"
		if !strings.Contains(what, " 53 ") {
			guarded[what] = "refused"
		}
		if strings.HasPrefix(what, "HTTP") {
			nobody[what] = "refused"
		}
	}
	// The service's address leads there in prerouting only, which the machine's
	// own traffic does not pass, and until its table is flushed.
	direct := func(answers map[string]string) map[string]string {
		answers = maps.Clone(answers)
		maps.DeleteFunc(answers, func(what, _ string) bool { return strings.HasSuffix(what, " 10.32.0.99") })
		return answers
	}
	for _, test := range []struct {
		name      string
		want, got map[string]string
	}{
		{"a pod without the rules", everything, got[0]},
		{"a pod without the rules, outside", map[string]string{
			"8.8.8.8": "10.200.0.2", "10.200.1.2": "10.200.0.2", "fd00:2::2": "fd00:1::2",
			"8.8.8.8 from 8.8.4.4": "8.8.4.4", "fd00:2::2 from fd00:bad::1": "fd00:bad::1",
		}, got[1]},
		{"a pod with the rules", guarded, got[2]},
		{"a pod with the rules, outside", map[string]string{
			"8.8.8.8": "169.254.169.253", "10.200.1.2": "10.200.0.2", "fd00:2::2": "fd00:1::2",
			"8.8.8.8 from 8.8.4.4": "", "fd00:2::2 from fd00:bad::1": "",
		}, got[3]},
		{"root on the machine", direct(everything), direct(got[4])},
		{"nobody on the machine", direct(nobody), direct(got[5])},
		{"a pod after nftables.service", direct(guarded), direct(got[6])},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestInside is no test: it is what runs in the namespaces.
func TestInside(t *testing.T) {
	switch os.Getenv("GUARD") {
	case "serve":
		serve(t)
	case "open":
		// Until the server listens.
		for deadline := time.Now().Add(10 * time.Second); askUDP("169.254.169.254", "53") != "ok"; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the server does not listen")
			}
		}
	case "ask":
		answers := map[string]string{}
		for _, address := range []string{"169.254.169.254", "fd20:ce::254", "10.32.0.99"} {
			answers["HTTP "+address] = askHTTP(address)
			answers["UDP 123 "+address] = askUDP(address, "123")
			answers["UDP 67 "+address] = askUDP(address, "67")
			answers["UDP 53 "+address] = askUDP(address, "53")
			answers["TCP 53 "+address] = askTCP(address)
		}
		if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
			t.Fatal(err)
		}
	case "outside":
		answers := map[string]string{
			"8.8.8.8": seenAs("", "8.8.8.8"), "10.200.1.2": seenAs("", "10.200.1.2"), "fd00:2::2": seenAs("", "fd00:2::2"),
			"8.8.8.8 from 8.8.4.4":       seenAs("8.8.4.4", "8.8.8.8"),
			"fd00:2::2 from fd00:bad::1": seenAs("fd00:bad::1", "fd00:2::2"),
		}
		if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
			t.Fatal(err)
		}
	}
}

// seen is the port that a datagram comes to whose sender the server writes down.
const seen = "9"

// seenAs sends from an address and returns the one that the other end has it
// from, "" where nothing comes.
func seenAs(from, to string) string {
	dialer := net.Dialer{}
	if from != "" {
		dialer.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
	}
	conn, err := dialer.Dial("udp", net.JoinHostPort(to, seen))
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	text := fmt.Sprintf("%s to %s at %d", from, to, time.Now().UnixNano())
	if _, err := conn.Write([]byte(text)); err != nil {
		return err.Error()
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if sender, err := os.ReadFile(filepath.Join("/run", text)); err == nil {
			return string(sender)
		}
	}
	return ""
}

func serve(t *testing.T) {
	conn, err := net.ListenPacket("udp", ":"+seen)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for buf := make([]byte, 512); ; {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			// /run is shared by all namespaces.
			name := filepath.Join("/run", string(buf[:n]))
			os.WriteFile(name+".new", []byte(from.(*net.UDPAddr).AddrPort().Addr().Unmap().String()), 0o644)
			os.Rename(name+".new", name)
		}
	}()
	for _, port := range []string{"53", "67", "123"} {
		conn, err := net.ListenPacket("udp", ":"+port)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for buf := make([]byte, 512); ; {
				n, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				conn.WriteTo(buf[:n], from)
			}
		}()
	}
	tcp := must.Get(net.Listen("tcp", ":53"))
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("answer"))
			conn.Close()
		}
	}()
	t.Fatal(http.ListenAndServe(":80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "token") })))
}

func verdict(err error) string {
	switch {
	case err == nil:
		return "ok"
	case strings.Contains(err.Error(), "refused"), strings.Contains(err.Error(), "no route to host"), strings.Contains(err.Error(), "permission denied"):
		return "refused"
	}
	return err.Error()
}

func askHTTP(address string) string {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + net.JoinHostPort(address, "80") + "/computeMetadata/v1/")
	if err == nil {
		resp.Body.Close()
	}
	return verdict(err)
}

func askTCP(address string) string {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, "53"), 5*time.Second)
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = io.ReadAll(conn)
	}
	return verdict(err)
}

func askUDP(address, port string) string {
	conn, err := net.Dial("udp", net.JoinHostPort(address, port))
	if err != nil {
		return verdict(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err = conn.Write([]byte("question")); err == nil {
		_, err = conn.Read(make([]byte, 512))
	}
	return verdict(err)
}
