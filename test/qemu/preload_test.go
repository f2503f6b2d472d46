//go:build system

package qemu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/test/cluster"
)

// TestPreloaded runs a pod of an image that is in the worker's image, on a disk
// that was never booted, where no registry can be asked.
func TestPreloaded(t *testing.T) {
	host := theHost(t)
	firstPod(t, newSite(t, cluster.Current), options{host: host}, false)
}

// TestPreloadedGuides is TestPreloaded with the guide's set: containerd 1.4.
func TestPreloadedGuides(t *testing.T) {
	host := guidesHost(t)
	firstPod(t, newSite(t, cluster.Old), options{host: host}, false)
}

// recordOf returns the record beside a host's image.
func recordOf(t *testing.T, h *host) *record.Record {
	t.Helper()
	f, err := os.Open(strings.TrimSuffix(h.image, ".tar.gz") + ".json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rec, err := record.Read(f.Name(), f)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// preloadedImage returns what the record says of one image.
func preloadedImage(t *testing.T, rec *record.Record, name string) record.ContainerImage {
	t.Helper()
	i := slices.IndexFunc(rec.Images, func(c record.ContainerImage) bool { return c.Name == name })
	if i < 0 || rec.Node.SandboxImage == "" {
		unavailable(t, fmt.Errorf("image %s holds %d container images, no %s or none for sandboxes: bake it anew", rec.Name, len(rec.Images), name))
	}
	return rec.Images[i]
}

// corednsPod is CoreDNS that answers for its health. It needs no right to a low
// port, which is up to who made its image.
func corednsPod(reference string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: ConfigMap
metadata: {name: corefile, namespace: default}
data:
  Corefile: |
    .:1053 {
      errors
      health :8080
      whoami
    }
---
apiVersion: v1
kind: Pod
metadata: {name: coredns, namespace: default}
spec:
  automountServiceAccountToken: false
  dnsPolicy: Default
  containers:
  - name: coredns
    image: %q
    imagePullPolicy: IfNotPresent
    args: ["-conf", "/etc/coredns/Corefile"]
    volumeMounts: [{name: corefile, mountPath: /etc/coredns, readOnly: true}]
    readinessProbe:
      httpGet: {path: /health, port: 8080}
      periodSeconds: 1
  volumes:
  - name: corefile
    configMap: {name: corefile}
`, reference)
}

// podMilestones are those of the first pod, in their order, after those of the
// worker.
func podMilestones() []string {
	return []string{"sandbox wanted", "sandbox runs", "container wanted", "container made", "container runs", "pod Ready"}
}

// firstPod asks for a pod, boots a worker and waits until the pod is Ready. It
// checks that the pod is of the image's bytes, and logs when it got where.
// imported says that the images were imported, which doesn't tell containerd
// their repositories' digests.
func firstPod(t *testing.T, s *site, o options, imported bool) milestones {
	t.Helper()
	rec := recordOf(t, o.host)
	coredns := preloadedImage(t, rec, "coredns")
	// The pod waits for the node: nobody's reaction is in the figures.
	if err := s.Apply(t.Context(), corednsPod(coredns.Reference)); err != nil {
		t.Fatal(err)
	}
	o.network, o.attributes = s.network, s.guideAttributes()
	listener, err := s.network.Listen(knownName, 443)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	w := boot(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), w.patience(11*time.Minute))
	defer cancel()
	if _, err := s.Kubectl(ctx, "wait", "--for=condition=Ready", "--timeout="+w.patience(10*time.Minute).String(), "pod/coredns"); err != nil {
		t.Errorf("the pod is not Ready: %v\n%s", err, s.kubectl("describe", "pod", "coredns"))
		if node, err := s.Kubectl(ctx, "describe", "node", "worker-0"); err == nil {
			t.Log(node)
		}
		w.login(3 * time.Minute)
		save(t, "journal", w.run("journalctl -b -o short-monotonic --no-pager"))
		t.FailNow()
	}
	id := coredns.Reference[:strings.LastIndexByte(coredns.Reference, ':')] + "@" + string(coredns.Digest)
	if imported {
		id = string(coredns.Config)
	}
	s.hasImage(id)
	s.nodeLists(rec.Node.SandboxImage)
	w.login(3 * time.Minute)
	w.asksNoRegistry()
	m := w.milestones()
	w.addPod(m)
	text := m.describe(slices.Concat(milestoneNames(), podMilestones()))
	t.Logf("the guest's seconds since its kernel began to count, image %s from %s:\n%s", coredns.Reference, coredns.Origin, text)
	save(t, "txt", text)
	save(t, "journal", w.run("journalctl -b -o short-monotonic --no-pager"))
	w.shutDown()
	return m
}

// hasImage checks through the API that the pod is of the image with an ID, which
// has the digest of its bytes, and that the kubelet found it there.
func (s *site) hasImage(id string) {
	s.t.Helper()
	status := s.kubectl("get", "pod", "coredns", "-o", "jsonpath={.status.phase} {.status.containerStatuses[0].ready} {.status.containerStatuses[0].imageID}")
	fields := strings.Fields(status)
	if len(fields) != 3 || fields[0] != "Running" || fields[1] != "true" {
		s.t.Fatalf("the pod's status is %q; want Running, true and the image's ID", status)
	}
	if fields[2] != id {
		s.t.Errorf("the pod's imageID is %s; want %s", fields[2], id)
	}
	events := s.kubectl("get", "events", "--field-selector", "involvedObject.name=coredns", "-o", "jsonpath={range .items[*]}{.reason}: {.message}{'\\n'}{end}")
	if !strings.Contains(events, "already present on machine") || strings.Contains(events, "Pulling: ") {
		s.t.Errorf("the pod's events are:\n%s\nwant that its image was there", events)
	}
}

// nodeLists waits until the node says that it has an image. The kubelet says so
// with a later report than the one that makes the node Ready.
func (s *site) nodeLists(reference string) {
	s.t.Helper()
	var names string
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(3 * time.Second) {
		names = s.kubectl("get", "node", "worker-0", "-o", "jsonpath={.status.images[*].names[*]}")
		if slices.Contains(strings.Fields(names), reference) {
			return
		}
	}
	s.t.Errorf("the node's images are %s; want %s among them", names, reference)
}

// knownName is all that the network's name server knows beside machines.
const knownName = "known.example.com"

// asksNoRegistry checks that the machine could ask no registry, and didn't try.
func (w *worker) asksNoRegistry() {
	w.t.Helper()
	if out, err := w.try("getent ahosts " + knownName); err != nil {
		w.t.Errorf("getent ahosts %s: %v: %s; want an address: else it proves nothing that others have none", knownName, err, out)
	}
	for _, registry := range []string{"registry.k8s.io", "k8s.gcr.io", "docker.io", "registry-1.docker.io", "bake.invalid"} {
		if out, err := w.try("getent ahosts " + registry); err == nil {
			w.t.Errorf("%s resolves here to %s; want no address", registry, out)
		}
	}
	if out, err := w.try(`journalctl -b -u containerd -o cat --no-pager | grep -F 'PullImage'`); err == nil {
		w.t.Errorf("containerd was told to pull:\n%s", out)
	}
}

// addPod adds what containerd logged of the first pod, and when kubelet found it
// ready.
func (w *worker) addPod(m milestones) {
	w.t.Helper()
	for _, wanted := range []struct{ name, unit, message string }{
		{"sandbox wanted", "containerd", `RunPod[Ss]andbox for .*coredns`},
		{"sandbox runs", "containerd", `RunPodSandbox for .*coredns.*returns sandbox id`},
		{"container wanted", "containerd", `CreateContainer within sandbox .*coredns`},
		{"container made", "containerd", `CreateContainer within sandbox .*coredns.*returns container id`},
		{"container runs", "containerd", `StartContainer for .*returns successfully`},
		{"pod Ready", "kubelet", `SyncLoop [(]probe[)].*readiness.*"ready.*coredns`},
	} {
		entries := w.logged(wanted.unit, wanted.message)
		if len(entries) == 0 {
			w.t.Errorf("%s logged nothing like %q", wanted.unit, wanted.message)
			continue
		}
		m[wanted.name] = m["kernel"] + entries[0].at.Seconds()
	}
}

// describe shows those milestones that were reached, a line each: when, and how
// long after the one before.
func (m milestones) describe(names []string) string {
	var b strings.Builder
	before := 0.0
	for _, name := range names {
		if at, ok := m[name]; ok {
			fmt.Fprintf(&b, "%-20s %7.1f (%+6.1f)\n", name, at, at-before)
			before = at
		}
	}
	return b.String()
}

// TestFirstPod compares two ways in which containerd can come by images that
// are on the disk, by when the first pod is Ready after a disk's first start: the
// prepared store that the image has, and an import of the same images when
// containerd has started.
func TestFirstPod(t *testing.T) {
	h := theHost(t)
	columns := map[string]milestones{}
	ways := map[string]options{
		"prepared": {host: h},
		"imported": {host: importingHost(t, h), smbios: []string{credential("systemd.unit-dropin.containerd.service",
			"[Service]\nExecStartPost=/bin/ctr --namespace k8s.io images import --no-unpack "+importPath+"\n")}},
	}
	for _, name := range []string{"prepared", "imported"} {
		o := ways[name]
		o.plainUEFI = true // as TestBootToReady
		t.Run(name, func(t *testing.T) {
			s := newSite(t, cluster.Current)
			columns[name] = firstPod(t, s, o, name == "imported")
		})
	}
	var b strings.Builder
	for _, name := range []string{"containerd started", "containerd answers", "kubelet started", "Ready", "sandbox wanted", "container made", "pod Ready"} {
		fmt.Fprintf(&b, "%-20s prepared %7.1f   imported %7.1f\n", name, columns["prepared"][name], columns["imported"][name])
	}
	t.Logf("the guest's seconds since its kernel began to count:\n%s", &b)
	save(t, "txt", b.String())
	if prepared, imported := columns["prepared"]["pod Ready"], columns["imported"]["pod Ready"]; prepared >= imported {
		t.Errorf("the first pod was Ready after %.1f s with the prepared store and after %.1f s with an import; want the former to be faster, which is why images have it", prepared, imported)
	}
}

// importPath is where an importing worker has its images.
const importPath = "/var/lib/images.tar"

// importingHost is a host whose image has the container images as an archive
// and no store of containerd's.
func importingHost(t *testing.T, h *host) *host {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	rec := recordOf(t, h)
	preloadedImage(t, rec, "coredns")
	dir := t.TempDir()
	archive, disk := filepath.Join(dir, "images.tar"), filepath.Join(dir, "disk.raw")
	command := func(name string, args ...string) string {
		t.Helper()
		out, err := combined(ctx, name, args...)
		if err != nil {
			t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
		return out
	}
	command("cp", "--sparse=always", h.disk, disk)
	var at string
	for _, p := range rec.Disk.Partitions {
		if p.Type == "root" {
			at = fmt.Sprintf("%s?offset=%d", disk, p.Start)
		}
	}
	if at == "" {
		t.Fatal("the record names no root partition")
	}
	const store = "/var/lib/containerd"
	command("debugfs", "-R", "rdump "+store+" "+dir, at)
	blobs := filepath.Join(dir, "containerd", "io.containerd.content.v1.content", "blobs", "sha256")
	if err := writeLayout(archive, blobs, rec.Images); err != nil {
		t.Fatal(err)
	}
	found, err := os.ReadDir(blobs)
	if err != nil {
		t.Fatal(err)
	}
	var edit strings.Builder
	fmt.Fprintf(&edit, "rm %s/io.containerd.metadata.v1.bolt/meta.db\n", store)
	for _, f := range found {
		fmt.Fprintf(&edit, "rm %s/io.containerd.content.v1.content/blobs/sha256/%s\n", store, f.Name())
	}
	fmt.Fprintf(&edit, "write %s %s\n", archive, importPath)
	script := filepath.Join(dir, "edit")
	if err := os.WriteFile(script, []byte(edit.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	command("debugfs", "-w", "-f", script, at)
	// debugfs fails silently.
	if out := command("debugfs", "-R", "ls -p "+store+"/io.containerd.metadata.v1.bolt", at); strings.Contains(out, "meta.db") {
		t.Fatalf("the disk still has a store: %s", out)
	}
	if out := command("debugfs", "-R", "stat "+importPath, at); !strings.Contains(out, "Type: regular") {
		t.Fatalf("the disk has no %s: %s", importPath, out)
	}
	return &host{tools: h.tools, accel: h.accel, image: h.image, digest: h.digest, disk: disk}
}
