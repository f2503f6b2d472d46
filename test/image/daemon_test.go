//go:build system

package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/image/containerd"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// daemon is a containerd of the image under test, with a root, a state and an
// address of its own below dir.
type daemon struct {
	t       *testing.T
	dir     string
	path    string // PATH with the image's programs first
	process *exec.Cmd
	log     *os.File
}

// newDaemon takes the programs out of the image.
func newDaemon(t *testing.T, s *subject, sandbox string) *daemon {
	t.Helper()
	need.Root(t, "mount a filesystem or change its root")
	dir, err := os.MkdirTemp("", "ctd") // a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &daemon{t: t, dir: dir, path: s.programs(t) + ":" + os.Getenv("PATH")}
	if d.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	// Version 2 is what both containerds read. Lowering an OOM score is refused in
	// some sandboxes; plugins that work outside of dir are off.
	config := fmt.Sprintf(`version = 2
root = "%[1]s/var/lib/containerd"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
address = "%[1]s/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %[2]q
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "%[1]s/net.d"
bin_dir = "%[1]s/cni"
`, dir, sandbox)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(d.log.Name())
			lines := strings.Split(string(text), "\n")
			t.Logf("the end of containerd's log:\n%s", strings.Join(lines[max(0, len(lines)-30):], "\n"))
		}
		d.log.Close()
	})
	return d
}

// programs returns a directory with the programs of the image that have to do
// with containers, taken out of it once.
func (s *subject) programs(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(s.dir, "programs")
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range s.record.Files {
		switch name := filepath.Base(f.Path); name {
		case "containerd", "containerd-shim-runc-v2", "ctr", "crictl", "runc":
			if strings.HasSuffix(filepath.Dir(f.Path), "/bin") {
				run(t, "debugfs", "-R", "dump -p "+f.Path+" "+filepath.Join(dir, name), s.root)
			}
		}
	}
	return dir
}

func (d *daemon) command(name string, args ...string) *exec.Cmd {
	path := filepath.Join(strings.SplitN(d.path, ":", 2)[0], name)
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = d.dir, []string{"PATH=" + d.path, "HOME=" + d.dir, "TMPDIR=" + d.dir}
	return cmd
}

// start starts containerd and waits until it serves and the CRI plugin has
// looked through the images.
func (d *daemon) start() {
	d.t.Helper()
	started, err := d.log.Seek(0, io.SeekEnd)
	if err != nil {
		d.t.Fatal(err)
	}
	d.process = d.command("containerd", "--config", filepath.Join(d.dir, "config.toml"), "--log-level", "debug")
	d.process.Stdout, d.process.Stderr = d.log, d.log
	if err := d.process.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(d.stop)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		text := filetest.Read(d.t, d.log.Name())
		// 1.4 looks through the images after it has booted.
		if text := string(text[started:]); strings.Contains(text, "successfully booted") && strings.Contains(text, "Start event monitor") && strings.Contains(text, "Start streaming server") {
			return
		}
	}
	d.t.Fatal("containerd is not up within a minute")
}

// stop ends what runs in pods, and containerd.
func (d *daemon) stop() {
	if d.process == nil {
		return
	}
	if d.hasCRI() {
		// On a busy host removing what ends at that moment can fail; that is not
		// what is tested here.
		out, err := d.crictl("rmp", "--all", "--force")
		for try := 1; err != nil && try < 3; try++ {
			d.t.Logf("removing pods, try %d: %v: %s", try, err, out)
			time.Sleep(time.Second)
			out, err = d.crictl("rmp", "--all", "--force")
		}
		if err != nil {
			d.t.Errorf("removing pods: %v: %s", err, out)
		}
	}
	d.process.Process.Signal(os.Interrupt)
	timer := time.AfterFunc(20*time.Second, func() { d.process.Process.Kill() })
	if err := d.process.Wait(); err != nil {
		d.t.Errorf("containerd ended with %v", err)
	}
	timer.Stop()
	d.process = nil
}

func (d *daemon) tryCtr(args ...string) (string, error) {
	cmd := d.command("ctr", append([]string{"--address", d.dir + "/c.sock", "--namespace", "k8s.io"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), err
}

func (d *daemon) ctr(args ...string) string {
	d.t.Helper()
	out, err := d.tryCtr(args...)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// hasCRI reports whether the image has a crictl; the guide's has none.
func (d *daemon) hasCRI() bool {
	_, err := os.Stat(d.command("crictl").Path)
	return err == nil
}

func (d *daemon) crictl(args ...string) (string, error) {
	cmd := d.command("crictl", append([]string{"--timeout", "1m", "--runtime-endpoint", "unix://" + d.dir + "/c.sock"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("crictl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), err
}

// content returns the digests of all content that containerd knows of, sorted.
func (d *daemon) content() []string {
	d.t.Helper()
	out := strings.Fields(d.ctr("content", "ls", "--quiet"))
	slices.Sort(out)
	return out
}

// readsContent has containerd read all its content.
func (d *daemon) readsContent() {
	d.t.Helper()
	for _, digest := range d.content() {
		if got := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(d.ctr("content", "get", digest)))); got != digest {
			d.t.Errorf("content %s reads as %s", digest, got)
		}
	}
}

// checkLine returns what `ctr images check` says of an image. It goes by the
// database and does not look at files.
func (d *daemon) checkLine(reference string) string {
	d.t.Helper()
	for line := range strings.Lines(d.ctr("images", "check")) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == reference {
			return line
		}
	}
	d.t.Fatalf("containerd has no image %s", reference)
	return ""
}

func (d *daemon) isComplete(reference string) {
	d.t.Helper()
	if line := d.checkLine(reference); !strings.Contains(line, " complete (") {
		d.t.Errorf("ctr images check says %q; want complete", line)
	}
}

// remove removes an image under all its names and waits for the garbage
// collection.
func (d *daemon) remove(image containerd.ContainerImage) {
	d.t.Helper()
	locator := image.Reference[:strings.LastIndexByte(image.Reference, ':')]
	d.ctr("images", "rm", "--sync", image.Reference, locator+"@"+string(image.Target.Digest), string(image.Config.Digest))
}

// alter changes the file of a blob; nil removes it.
func (d *daemon) alter(digest string, change func([]byte) []byte) {
	d.t.Helper()
	path := filepath.Join(d.dir, "var/lib/containerd/io.containerd.content.v1.content/blobs/sha256", digest)
	data := filetest.Read(d.t, path)
	if err := os.Remove(path); err != nil {
		d.t.Fatal(err)
	}
	if data = change(data); data != nil {
		if err := os.WriteFile(path, data, 0o444); err != nil {
			d.t.Fatal(err)
		}
	}
}

// run runs a container, unpacking its image where that was not done.
func (d *daemon) run(reference string) (string, error) {
	return d.tryCtr("run", "--rm", "--snapshotter", "native", reference, "test")
}

func (d *daemon) runs(reference string) {
	d.t.Helper()
	if out, err := d.run(reference); err != nil || strings.TrimSpace(out) != greeting {
		d.t.Errorf("running %s: %q, %v; want %q", reference, out, err, greeting)
	}
}

// criImage is an image as crictl shows it.
type criImage struct {
	ID          string
	RepoTags    []string
	RepoDigests []string
	Pinned      bool
}

func criImages(images ...containerd.ContainerImage) (out []criImage) {
	for _, image := range images {
		locator := image.Reference[:strings.LastIndexByte(image.Reference, ':')]
		out = append(out, criImage{
			ID: string(image.Config.Digest), RepoTags: []string{image.Reference},
			RepoDigests: []string{locator + "@" + string(image.Target.Digest)}, Pinned: image.Pinned,
		})
	}
	return out
}

// criLists compares what the CRI plugin lists. Where there is no crictl, its log
// says at least what it took.
func (d *daemon) criLists(want []criImage) {
	d.t.Helper()
	if !d.hasCRI() {
		log := filetest.Read(d.t, d.log.Name())
		for _, image := range want {
			for _, name := range slices.Concat([]string{image.ID}, image.RepoTags, image.RepoDigests) {
				if !strings.Contains(string(log), `Loaded image \"`+name+`\"`) {
					d.t.Errorf("the CRI plugin didn't load %s", name)
				}
			}
		}
		return
	}
	out, err := d.crictl("images", "--output", "json")
	if err != nil {
		d.t.Fatal(err)
	}
	var list struct{ Images []criImage }
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		d.t.Fatalf("decoding %q: %v", out, err)
	}
	byID := func(a, b criImage) int { return strings.Compare(a.ID, b.ID) }
	slices.SortFunc(list.Images, byID)
	slices.SortFunc(want, byID)
	if diff := cmp.Diff(want, list.Images); diff != "" {
		d.t.Errorf("crictl images (-want +got):\n%s", diff)
	}
}

// runsPod runs a pod in the host's network as the kubelet would: the CRI plugin
// takes the sandbox's image, and the container's where reference names one, out
// of the store and unpacks them.
func (d *daemon) runsPod(reference string) {
	d.t.Helper()
	if !d.hasCRI() {
		return
	}
	write := func(name string, v any) string {
		data := must.Get(json.Marshal(v))
		path := filepath.Join(d.dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			d.t.Fatal(err)
		}
		return path
	}
	do := func(args ...string) string {
		d.t.Helper()
		out, err := d.crictl(args...)
		if err != nil {
			d.t.Fatal(err)
		}
		return out
	}
	type object = map[string]any
	pod := write("pod.json", object{
		"metadata":      object{"name": "pod", "namespace": "default", "uid": "1"},
		"log_directory": d.dir,
		"linux":         object{"security_context": object{"namespace_options": object{"network": 2}}}, // the node's
	})
	sandbox := do("runp", pod)
	if reference != "" {
		container := do("create", "--no-pull", sandbox, write("container.json", object{
			"metadata": object{"name": "container"}, "image": object{"image": reference}, "log_path": "container.log",
		}), pod)
		do("start", container)
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			out, err := d.crictl("logs", container)
			if err == nil && out == greeting {
				break
			}
			if time.Now().After(deadline) {
				d.t.Errorf("the container's log: %q, %v; want %q", out, err, greeting)
				break
			}
		}
	}
	if out := do("pods", "--quiet", "--no-trunc", "--state", "ready"); out != sandbox {
		d.t.Errorf("pods that are ready: %q; want %q", out, sandbox)
	}
}
