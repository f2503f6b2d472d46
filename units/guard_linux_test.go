package units

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ruleset is what metadata-guard.service loads.
const ruleset = "../images/worker/files/usr/lib/bake/metadata-guard.nft"

// network builds, in namespaces of its own: a pod, the machine, and the metadata
// server behind it, which serves HTTP and answers on port 53. Then it asks from
// where pods are and from the machine, before and after the rules are loaded. A
// service's address (10.32.0.99) leads to the metadata server too.
const network = `set -e
self=$1 rules=$2
mount -t tmpfs tmpfs /run
for n in pod server; do
  ip netns add $n
  ip link add $n type veth peer name eth0 netns $n
  ip link set $n up
  ip -n $n link set lo up
  ip -n $n link set eth0 up
done
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
ip addr add 10.200.0.1/24 dev pod
ip addr add fd00:1::1/64 dev pod nodad
ip -n pod addr add 10.200.0.2/24 dev eth0
ip -n pod addr add fd00:1::2/64 dev eth0 nodad
ip -n pod route add default via 10.200.0.1
ip -n pod -6 route add default via fd00:1::1
ip addr add 169.254.169.253/30 dev server
ip addr add fd20:ce::1/64 dev server nodad
ip -n server addr add 169.254.169.254/30 dev eth0
ip -n server addr add fd20:ce::254/64 dev eth0 nodad
ip -n server route add default via 169.254.169.253
ip -n server -6 route add default via fd20:ce::1
nft 'table ip service { chain pre { type nat hook prerouting priority dstnat; ip daddr 10.32.0.99 dnat to 169.254.169.254; }; }'
GUARD=serve ip netns exec server "$self" -test.run='^TestInside$' >&2 &
server=$!
GUARD=open ip netns exec pod "$self" -test.run='^TestInside$' >&2
GUARD=ask ip netns exec pod "$self" -test.run='^TestInside$'
nft -f "$rules"
nft -f "$rules"
GUARD=ask ip netns exec pod "$self" -test.run='^TestInside$'
GUARD=ask "$self" -test.run='^TestInside$'
nft flush table ip service
nft list table inet metadata-guard | grep -c 'dport 53 accept' >&2
kill $server`

func TestMetadataGuard(t *testing.T) {
	t.Parallel()
	missing := func(why string) {
		t.Helper()
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	path := "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"
	for program, pkg := range map[string]string{"nft": "nftables", "ip": "iproute2", "unshare": "util-linux"} {
		if err := exec.CommandContext(t.Context(), "env", path, "sh", "-c", "command -v "+program).Run(); err != nil {
			missing(program + " is missing: apt-get install " + pkg)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := filepath.Abs(ruleset)
	if err != nil {
		t.Fatal(err)
	}
	unshare := []string{"--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if os.Getuid() != 0 {
		unshare = append(unshare, "--map-root-user")
	}
	if out, err := exec.CommandContext(t.Context(), "unshare", append(unshare, "true")...).CombinedOutput(); err != nil {
		missing(fmt.Sprintf("namespaces can't be made here: %v: %s", err, out))
	}
	cmd := exec.CommandContext(t.Context(), "unshare", append(unshare, "sh", "-c", network, "sh", self, rules)...)
	cmd.Env = append(cmd.Environ(), path)
	cmd.WaitDelay = 5 * time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var got [3]map[string]string
	dec := json.NewDecoder(strings.NewReader(strings.ReplaceAll(string(out), "PASS\n", "")))
	for i := range got {
		if err := dec.Decode(&got[i]); err != nil {
			t.Fatalf("%v in %q\n%s", err, out, stderr.String())
		}
	}
	everything := map[string]string{
		"HTTP 169.254.169.254": "ok", "HTTP fd20:ce::254": "ok", "HTTP 10.32.0.99": "ok",
		"UDP 123 169.254.169.254": "ok", "UDP 123 fd20:ce::254": "ok", "UDP 123 10.32.0.99": "ok",
		"UDP 53 169.254.169.254": "ok", "UDP 53 fd20:ce::254": "ok", "UDP 53 10.32.0.99": "ok",
		"TCP 53 169.254.169.254": "ok", "TCP 53 fd20:ce::254": "ok", "TCP 53 10.32.0.99": "ok",
	}
	if diff := cmp.Diff(everything, got[0]); diff != "" {
		t.Errorf("a pod without the rules (-want +got):\n%s", diff)
	}
	guarded := map[string]string{}
	for what := range everything {
		guarded[what] = "ok"
		if !strings.Contains(what, " 53 ") {
			guarded[what] = "refused"
		}
	}
	if diff := cmp.Diff(guarded, got[1]); diff != "" {
		t.Errorf("a pod with the rules (-want +got):\n%s", diff)
	}
	// The service's address leads there in prerouting only, which the machine's
	// own traffic does not pass.
	for _, what := range []string{"HTTP 169.254.169.254", "HTTP fd20:ce::254", "UDP 53 169.254.169.254"} {
		if got[2][what] != "ok" {
			t.Errorf("the machine itself: %s: %s; want ok", what, got[2][what])
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
			answers["UDP 53 "+address] = askUDP(address, "53")
			answers["TCP 53 "+address] = askTCP(address)
		}
		if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
			t.Fatal(err)
		}
	}
}

func serve(t *testing.T) {
	for _, port := range []string{"53", "123"} {
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
	tcp, err := net.Listen("tcp", ":53")
	if err != nil {
		t.Fatal(err)
	}
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
