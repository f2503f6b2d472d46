//go:build system

// Package debian_test reads Debian's real archives, through the mirrors of the
// host's apt configuration.
package debian_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/debian"
	"github.com/nodebake/bake/bake/source/debian/deb"
	"github.com/nodebake/bake/bake/source/debian/repo"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// workerList is a list as images/worker has it, for the suite trixie.
func workerList() []manifest.PackageRef {
	return refs("apt", "ca-certificates", "chrony", "conntrack", "curl", "dbus", "e2fsprogs", "ethtool", "google-guest-agent",
		"ipset", "iproute2", "iptables", "kmod", "less", "linux-image-cloud-amd64", "nftables", "openssh-server", "shim-signed", "socat",
		"systemd", "systemd-boot-efi-amd64-signed", "systemd-repart", "systemd-resolved", "systemd-sysv", "udev", "vim-tiny")
}

func refs(names ...string) []manifest.PackageRef {
	var list []manifest.PackageRef
	for _, n := range names {
		name, suite, _ := strings.Cut(n, "/")
		list = append(list, manifest.PackageRef{Name: name, Suite: suite})
	}
	return list
}

// hostConfig returns a Config for the host's mirrors.
func hostConfig(t *testing.T) debian.Config {
	t.Helper()
	mirrors, err := debian.Mirrors(nil, os.DirFS("/"))
	if err != nil {
		t.Fatal(err)
	}
	for _, archive := range []string{repo.Main, repo.Security} {
		urls, err := mirrors.URLs(archive, "")
		if err != nil {
			need.Missing(t, "%v", err)
		}
		u := must.Get(url.Parse(urls[0]))
		port := u.Port()
		if port == "" {
			port = u.Scheme
		}
		if os.Getenv("http_proxy") == "" && os.Getenv("https_proxy") == "" {
			conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(t.Context(), "tcp", net.JoinHostPort(u.Hostname(), port))
			if err != nil {
				need.Missing(t, "reaching the mirror of %s: %v", archive, err)
			}
			conn.Close()
		}
	}
	return debian.Config{Suite: "trixie", Arch: arch.AMD64, Mirrors: mirrors, Getter: plain{&http.Client{Timeout: 5 * time.Minute}}, Now: time.Now()}
}

// plain is a Getter without retries.
type plain struct{ client *http.Client }

func (p plain) Get(ctx context.Context, urls []string, limit int64, accept func(string, []byte) error) ([]byte, error) {
	var errs []error
	for _, u := range urls {
		b, err := p.get(ctx, u, limit)
		if err == nil && accept != nil {
			err = accept(u, b)
		}
		if err == nil {
			return b, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (p plain) get(ctx context.Context, u string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", u, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: longer than %d bytes", u, limit)
	}
	return b, err
}

// TestArchiveClosure compares our closure with apt's.
func TestArchiveClosure(t *testing.T) {
	need.Program(t, "apt-get", "apt")
	t.Parallel()
	// The lists have apt, because apt takes itself for essential.
	tests := []struct {
		suite string
		list  []manifest.PackageRef
	}{
		{"trixie", workerList()},
		{"bookworm", refs("apt", "systemd", "systemd-sysv", "dbus", "udev", "openssh-server", "linux-image-cloud-amd64", "shim-signed",
			"iptables", "chrony", "curl", "etcd-server")},
	}
	for _, test := range tests {
		t.Run(test.suite, func(t *testing.T) {
			cfg := hostConfig(t)
			cfg.Suite, cfg.Packages = test.suite, test.list
			start := time.Now()
			locked, err := debian.Resolve(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d packages in %v", len(locked.Packages), time.Since(start).Round(time.Millisecond))
			ours := make(map[string]string)
			for _, p := range locked.Packages {
				ours[p.Name] = p.Version
			}
			if diff := cmp.Diff(simulate(t, cfg), ours); diff != "" {
				t.Errorf("packages and versions (-apt +ours):\n%s", diff)
			}
		})
	}
}

// TestArchivePinned resolves what a set for bookworm takes from other suites.
func TestArchivePinned(t *testing.T) {
	t.Parallel()
	cfg := hostConfig(t)
	cfg.Suite = "bookworm"
	cfg.Packages = refs("systemd-sysv", "shim-signed", "systemd-boot-efi-amd64-signed/trixie")
	cfg.Extra = refs("containerd/bullseye", "runc/bullseye", "libseccomp-dev")
	locked, err := debian.Resolve(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var elsewhere, extra []string
	for _, p := range locked.Packages {
		if !debian.SameSuite(p.Suite, "bookworm") {
			elsewhere = append(elsewhere, p.Name+"/"+strings.TrimSuffix(p.Suite, "-security"))
		}
	}
	for _, p := range locked.Extra {
		extra = append(extra, p.Name+"/"+strings.TrimSuffix(p.Suite, "-security"))
	}
	if diff := cmp.Diff([]string{"systemd-boot-efi-amd64-signed/trixie"}, elsewhere); diff != "" {
		t.Errorf("packages from elsewhere (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"containerd/bullseye", "libseccomp-dev/bookworm", "runc/bullseye"}, extra); diff != "" {
		t.Errorf("extra packages (-want +got):\n%s", diff)
	}
	if len(locked.Releases) != 9 {
		t.Errorf("the lock names %d Release files; want 9", len(locked.Releases))
	}
	updates, err := debian.Outdated(t.Context(), cfg, locked)
	if err != nil || len(updates) > 0 {
		t.Errorf("Outdated of a fresh lock = %v, %v; want none", updates, err)
	}
}

// TestArchiveImages asks apt whether nothing lacks in images of packages, nor could be
// left out.
func TestArchiveImages(t *testing.T) {
	need.Program(t, "apt-get", "apt")
	t.Parallel()
	cfg := hostConfig(t)
	cfg.Images = []debian.Image{
		{Name: "web", Packages: refs("base-passwd", "nginx-light")},
		{Name: "busybox", Packages: refs("busybox-static")},
		{Name: "python", Packages: refs("python3")},
	}
	locked, err := debian.Resolve(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := locked.Images["busybox"]; len(got) != 1 {
		t.Errorf("an image of busybox-static has %d packages; want 1: it needs none", len(got))
	}
	source := newApt(t, cfg)
	source.run("update", "--error-on=any")
	cfg.Mirrors = nil
	root := newApt(t, cfg) // without indices, so that each check is quick
	for _, image := range cfg.Images {
		status := map[string]string{}
		for _, p := range locked.Images[image.Name] {
			status[p.Name] = installed(source.stanza(p.Name, p.Version))
		}
		// check asks about a root with these packages, one of them left out.
		check := func(without string) error {
			var text strings.Builder
			for _, name := range slices.Sorted(maps.Keys(status)) {
				if name != without {
					text.WriteString(status[name])
				}
			}
			root.write("state/status", text.String())
			return root.command("apt-get", "check", "-qq", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=").Run()
		}
		if err := check(""); err != nil {
			t.Errorf("apt-get check of image %s: %v", image.Name, err)
		}
		t.Logf("image %s: %d packages", image.Name, len(status))
		for name := range status {
			asked := slices.ContainsFunc(image.Packages, func(r manifest.PackageRef) bool { return r.Name == name })
			if !asked && check(name) == nil {
				t.Errorf("image %s has %s, and apt-get check does not miss it", image.Name, name)
			}
		}
	}
}

// installed returns an index's stanza as dpkg's status has it.
func installed(stanza string) string {
	name, rest, _ := strings.Cut(stanza, "\n")
	return name + "\nStatus: install ok installed\n" + strings.TrimRight(rest, "\n") + "\n\n"
}

// simulate asks apt what it would install.
func simulate(t *testing.T, cfg debian.Config) map[string]string {
	t.Helper()
	apt := newApt(t, cfg)
	apt.run("update", "--error-on=any")
	args := []string{"install", "-s", "-qq", "?essential"}
	for _, p := range cfg.Packages {
		args = append(args, p.Name)
	}
	chosen := make(map[string]string)
	for _, match := range regexp.MustCompile(`(?m)^Inst (\S+) \((\S+) `).FindAllStringSubmatch(apt.run(args...), -1) {
		chosen[match[1]] = match[2]
	}
	if len(chosen) == 0 {
		t.Fatal("apt would install nothing")
	}
	return chosen
}

// apt is apt in a root of its own that trusts the embedded keys.
type apt struct {
	t   *testing.T
	dir string
}

func newApt(t *testing.T, cfg debian.Config) *apt {
	t.Helper()
	dir := t.TempDir()
	a := &apt{t, dir}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "etc", "log"} {
		filetest.Mkdir(t, filepath.Join(dir, d))
	}
	var keys bytes.Buffer
	files, err := filepath.Glob("../../bake/source/debian/keys/*.asc")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d of the embedded keys, %v", len(files), err)
	}
	for _, f := range files {
		b := filetest.Read(t, f)
		keys.Write(b)
	}
	a.write("keys.asc", keys.String())
	a.write("state/status", "")
	var list strings.Builder
	for _, m := range cfg.Mirrors {
		suites := map[string][]string{repo.Main: {cfg.Suite, cfg.Suite + "-updates"}, repo.Security: {cfg.Suite + "-security"}}
		for _, suite := range suites[m.Archive] {
			fmt.Fprintf(&list, "deb [signed-by=%s/keys.asc] %s %s main\n", dir, m.URL, suite)
		}
	}
	a.write("etc/sources.list", list.String())
	a.write("apt.conf", fmt.Sprintf(`
Dir %[1]q; Dir::State "state"; Dir::State::status "status"; Dir::Cache "cache"; Dir::Log "log";
Dir::Etc "etc"; Dir::Etc::parts "none"; Dir::Etc::main "none"; Dir::Etc::preferencesparts "none"; Dir::Etc::trustedparts "none";
APT::Architecture %[2]q; APT::Architectures { %[2]q; }; APT::Sandbox::User ""; APT::Install-Recommends "false"; Acquire::Languages "none";
`, dir, string(cfg.Arch)))
	return a
}

// write replaces a file of the root.
func (a *apt) write(name, content string) {
	a.t.Helper()
	filetest.Write(a.t, filepath.Join(a.dir, name), content)
}

func (a *apt) command(program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(a.t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C")
	return cmd
}

// run runs apt-get and returns what it says.
func (a *apt) run(args ...string) string {
	a.t.Helper()
	return a.output("apt-get", args...)
}

func (a *apt) output(program string, args ...string) string {
	a.t.Helper()
	cmd := a.command(program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		a.t.Fatalf("%s %s: %v\n%s%s", program, args[0], err, &stdout, &stderr)
	}
	return stdout.String()
}

// stanza returns what the indices say of a package.
func (a *apt) stanza(name, version string) string {
	a.t.Helper()
	return a.output("apt-cache", "show", "--no-all-versions", name+"="+version)
}

// TestArchivePackages unpacks real packages and compares each with what
// dpkg-deb and tar make of it.
func TestArchivePackages(t *testing.T) {
	need.Program(t, "dpkg-deb", "dpkg")
	need.Program(t, "tar", "tar")
	t.Parallel()
	cfg := hostConfig(t)
	// Among them: setuid and setgid (passwd, util-linux), a group (shadow),
	// hard links (perl-base, e2fsprogs), links for directories (base-files),
	// thousands of files (tzdata), large ones (systemd, the kernel), no files
	// but documentation (linux-image-cloud-amd64), names with "+".
	names := []string{"linux-image-[0-9].*-cloud-amd64", "base-files", "base-passwd", "bsdutils", "e2fsprogs", "libc-bin", "libpam-modules-bin", "libstdc++6", "linux-image-cloud-amd64",
		"mawk", "mount", "openssh-client", "passwd", "perl-base", "systemd", "tzdata", "udev", "util-linux"}
	cfg.Packages = workerList()
	locked, err := debian.Resolve(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile("^(" + strings.ReplaceAll(strings.Join(names, "|"), "++", `\+\+`) + ")$")
	packages := slices.DeleteFunc(slices.Clone(locked.Packages), func(p manifest.LockedPackage) bool { return !pattern.MatchString(p.Name) })
	if len(packages) != len(names) {
		t.Fatalf("the closure has %d of %d packages: %v", len(packages), len(names), packages)
	}
	requests, err := debian.Requests(cfg.Mirrors, packages, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range packages {
		t.Run(p.Name, func(t *testing.T) {
			content, err := cfg.Getter.Get(t.Context(), requests[i].URLs, requests[i].Size, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := manifest.SHA256(sha256.Sum256(content)); got != p.SHA256 || int64(len(content)) != p.Size {
				t.Fatalf("downloaded %d bytes with %s; want %d with %s", len(content), got, p.Size, p.SHA256)
			}
			compareWithDpkg(t, p, content)
		})
	}
}

// compareWithDpkg unpacks a .deb both ways.
func compareWithDpkg(t *testing.T, p manifest.LockedPackage, content []byte) {
	dir := t.TempDir()
	name := filepath.Join(dir, "package.deb")
	filetest.Write(t, name, content)
	blob := filetest.Create(t, filepath.Join(dir, "blob"))
	start := time.Now()
	w := tree.NewPackWriter(blob)
	control, err := deb.Unpack(bytes.NewReader(content), int64(len(content)), w)
	if err != nil {
		t.Fatal(err)
	}
	if err := control.Check(p.Name, p.Version, p.Arch); err != nil {
		t.Error(err)
	}
	pack, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	pack.Bind(p.Name, "package "+p.Name, blob)
	t.Logf("%d entries, %d bytes in %v", len(pack.Entries), pack.Size, time.Since(start).Round(time.Millisecond))

	var ours []string
	for _, e := range pack.Entries {
		if !strings.HasPrefix(e.Path, "DEBIAN/") {
			ours = append(ours, listLine(e))
		}
	}
	if diff := cmp.Diff(listTar(t, name), ours); diff != "" {
		t.Errorf("members (-tar +ours):\n%s", diff)
	}
	root := filepath.Join(dir, "root")
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--raw-extract", name, root).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	compareContent(t, root, pack)
}

// listLine writes an entry as GNU tar lists it.
func listLine(e tree.Entry) string {
	mode := map[tree.Type]fs.FileMode{tree.Dir: fs.ModeDir, tree.Symlink: fs.ModeSymlink}[e.Type]
	text := []byte((mode | fs.FileMode(e.Perm&0o777)).String())
	text = text[len(text)-10:]
	text[0] = map[tree.Type]byte{tree.Dir: 'd', tree.File: '-', tree.Symlink: 'l', tree.Hardlink: 'h'}[e.Type]
	for _, special := range []struct {
		bit       uint16
		at        int
		with, not byte
	}{{tree.SetUID, 3, 's', 'S'}, {tree.SetGID, 6, 's', 'S'}, {tree.Sticky, 9, 't', 'T'}} {
		if e.Perm&special.bit == 0 {
			continue
		}
		if text[special.at] == 'x' {
			text[special.at] = special.with
		} else {
			text[special.at] = special.not
		}
	}
	path := "./" + e.Path
	switch {
	case e.Path == ".":
		path = "./"
	case e.Type == tree.Dir:
		path += "/"
	case e.Type == tree.Symlink:
		path += " -> " + e.Link
	case e.Type == tree.Hardlink:
		path += " link to ./" + e.Link
	}
	return fmt.Sprintf("%s %d/%d %d %s %s", text, e.UID, e.GID, e.Size, time.Unix(e.MTime, 0).UTC().Format("2006-01-02 15:04:05"), path)
}

// listTar lists a .deb with dpkg-deb and tar.
func listTar(t *testing.T, name string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `dpkg-deb --fsys-tarfile "$0" | tar --list --verbose --numeric-owner --full-time --quoting-style=literal`, name)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing with tar: %v", err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		// Mode, owner, size, date and time are padded to columns.
		fields := regexp.MustCompile(`^(\S+) +(\S+) +(\S+) +(\S+ \S+) (.*)\n$`).FindStringSubmatch(line)
		if fields == nil {
			t.Fatalf("tar lists %q", line)
		}
		lines = append(lines, strings.Join(fields[1:], " "))
	}
	return lines
}

// compareContent compares every file of a pack, and that there are no others.
func compareContent(t *testing.T, root string, pack *tree.Pack) {
	t.Helper()
	left := make(map[string]bool)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if rel != "DEBIAN" {
			left[rel] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range pack.Entries {
		if !left[e.Path] {
			t.Errorf("%s: dpkg-deb did not unpack it", e.Path)
			continue
		}
		delete(left, e.Path)
		name := filepath.Join(root, e.Path)
		switch e.Type {
		case tree.File:
			want := filetest.Read(t, name)
			got := filetest.ReadAll(t, e.Content())
			if !bytes.Equal(got, want) || e.SHA256 != sha256.Sum256(want) {
				t.Errorf("%s: content differs from dpkg-deb's", e.Path)
			}
			if info, err := os.Stat(name); err != nil || uint16(info.Mode().Perm()) != e.Perm&0o777 {
				t.Errorf("%s: permissions are %o; dpkg-deb has %v, %v", e.Path, e.Perm, info.Mode(), err)
			}
		case tree.Symlink:
			if to, err := os.Readlink(name); err != nil || to != e.Link {
				t.Errorf("%s: links to %s; dpkg-deb has %s, %v", e.Path, e.Link, to, err)
			}
		case tree.Hardlink:
			a, errA := os.Stat(name)
			b, errB := os.Stat(filepath.Join(root, e.Link))
			if errA != nil || errB != nil || !os.SameFile(a, b) {
				t.Errorf("%s: is not the file %s to dpkg-deb: %v, %v", e.Path, e.Link, errA, errB)
			}
		}
	}
	for name := range left {
		t.Errorf("%s: only dpkg-deb unpacked it", name)
	}
}
