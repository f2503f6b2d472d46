// Package clustertest has stand-ins for the programs of a cluster, for tests of what
// starts, watches and ends them: etcd, Kubernetes' control plane, kubectl and QEMU.
// They are the test's own binary under their names, and do so little that a cluster of
// them is Ready within a second.
package clustertest

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/controlplane"
	"github.com/nodebake/bake/bake/vm"
)

// Commands are the stand-ins by their programs' names. They don't return.
func Commands() map[string]func() {
	return map[string]func(){
		"etcd":                    etcd,
		"kube-apiserver":          apiServer,
		"kube-controller-manager": wait,
		"kube-scheduler":          wait,
		"kubectl":                 kubectl,
		"qemu-system-x86_64":      qemu,
		"qemu-img":                qemuImg,
	}
}

// Main runs the stand-in that this process was started as, if it is one.
func Main() {
	if command := Commands()[filepath.Base(os.Args[0])]; command != nil {
		command()
		os.Exit(0)
	}
}

// Link makes the stand-ins in a new directory, of a test binary whose TestMain
// calls Main.
func Link(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range Commands() {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Install is Link, and returns the stand-ins as a cluster takes them.
func Install(t testing.TB) (*controlplane.Programs, vm.Tools) {
	t.Helper()
	dir := Link(t)
	for _, firmware := range []string{"OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"} {
		if err := os.WriteFile(filepath.Join(dir, firmware), []byte("firmware"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &controlplane.Programs{
			Etcd: filepath.Join(dir, "etcd"), APIServer: filepath.Join(dir, "kube-apiserver"),
			ControllerManager: filepath.Join(dir, "kube-controller-manager"), Scheduler: filepath.Join(dir, "kube-scheduler"), Kubectl: filepath.Join(dir, "kubectl"),
			Version: "v1.36.3",
		},
		vm.Tools{QEMU: filepath.Join(dir, "qemu-system-x86_64"), QEMUImg: filepath.Join(dir, "qemu-img"), Firmware: dir}
}

func wait() { time.Sleep(time.Hour) }

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// option returns the value of a program's --NAME=VALUE.
func option(name string) string {
	for _, arg := range os.Args[1:] {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value
		}
	}
	fatal(fmt.Errorf("%s was started without --%s", os.Args[0], name))
	return ""
}

// etcd is healthy.
func etcd() {
	listener, err := net.Listen("unix", strings.TrimPrefix(option("listen-client-urls"), "unix://"))
	if err != nil {
		fatal(err)
	}
	fatal(http.Serve(listener, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
}

// Hold is the name of a file that keeps the API server from being ready, in the
// directory of the control plane.
const Hold = "hold"

// NotReady is the name of a file that keeps a worker from being Ready, in the
// directory of the control plane. It holds the reason.
func NotReady(worker string) string { return "not-ready-" + worker }

// apiServer is ready, creates whatever it is given, and has every node that it is
// asked for.
func apiServer() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	mux.HandleFunc("GET /", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat(Hold); err == nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("GET /api/v1/{kind}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"kind": %q}`, r.PathValue("kind"))
	})
	mux.HandleFunc("GET /api/v1/nodes/{name}", func(w http.ResponseWriter, r *http.Request) {
		ready := map[string]string{"type": "Ready", "status": "True"}
		if reason, err := os.ReadFile(NotReady(r.PathValue("name"))); err == nil {
			ready = map[string]string{"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": string(reason)}
		}
		json.NewEncoder(w).Encode(map[string]any{
			"metadata": map[string]string{"name": r.PathValue("name")},
			"status":   map[string]any{"conditions": []any{ready}},
		})
	})
	address := net.JoinHostPort(option("bind-address"), option("secure-port"))
	fatal(http.ListenAndServeTLS(address, option("tls-cert-file"), option("tls-private-key-file"), mux))
}

// What becomes of a machine with a worker of this name; those of other names are
// well.
const (
	Dies   = "dies"   // with an error, at every start
	Off    = "off"    // by itself, cleanly
	Silent = "silent" // is never well
	Panics = "panics" // at its first start, in the way that says nothing about the image
)

// SilentVariable is of the environment. Where it is set, all machines are silent.
const SilentVariable = "CLUSTERTEST_SILENT"

func qemu() {
	if len(os.Args) > 1 && os.Args[1] == "--version" {
		fmt.Println("QEMU emulator version 10.0.0")
		return
	}
	name := ""
	for i, arg := range os.Args {
		if arg == "-name" {
			name = os.Args[i+1]
		}
	}
	if name != "" && os.Getenv(SilentVariable) != "" {
		name = Silent
	}
	switch name {
	case "": // a probe
		return
	case Dies:
		fmt.Fprintln(os.Stderr, "qemu: no memory")
		os.Exit(1)
	case Off:
		return
	case Silent:
		fmt.Println("Run /init as init process")
		fmt.Println("firstboot: failed: metadata key pod-cidr: is missing")
		wait()
	case Panics:
		if firstStart() {
			fmt.Println("Kernel panic - not syncing: " + vm.TimerPanic)
			wait()
		}
	}
	fmt.Println("Run /init as init process")
	time.Sleep(50 * time.Millisecond)
	fmt.Println(`firstboot: ready {"node":"` + name + `"}`)
	wait()
}

// firstStart reports whether this is the first start of a machine from its disk.
func firstStart() bool {
	for i, arg := range os.Args {
		if arg != "-drive" {
			continue
		}
		if _, disk, ok := strings.Cut(os.Args[i+1], "cache=unsafe,file="); ok {
			mark, err := os.OpenFile(disk+".started", os.O_CREATE|os.O_EXCL, 0o600)
			mark.Close()
			return err == nil
		}
	}
	return false
}

// qemuImg makes an empty file for a disk: "create ... PATH".
func qemuImg() {
	if err := os.WriteFile(os.Args[len(os.Args)-1], nil, 0o600); err != nil {
		fatal(err)
	}
}
