//go:build system && linux

// Package metadata shows that the programs which read Compute Engine's metadata
// on Debian read it from the emulator (firstboot/metadata/metadatatest) too, and
// that firstboot's client finds the server at its real addresses.
//
// Debian's programs come from Debian's archive, by mmdebstrap and the mirrors of
// the host's apt configuration, into a directory that is kept in the user's
// cache; nothing is installed on the host. They run there by chroot, in a
// network namespace of their own that has the metadata server's addresses. Both
// need root.
package metadata

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/nodebake/bake/bake/source/debian"
	"github.com/nodebake/bake/bake/source/debian/repo"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

// debianRoot returns a directory of its own to the test, with the programs of
// suite.
func debianRoot(t *testing.T, suite string) string {
	t.Helper()
	need.Root(t, "unpack Debian's programs and run them")
	cache, err := os.UserCacheDir()
	if err != nil {
		need.Missing(t, "%v", err)
	}
	// Counted up when what follows makes another tree.
	kept := filepath.Join(cache, "bake-test", "metadata-clients-2-"+suite)
	filetest.Mkdir(t, filepath.Dir(kept))
	lock := flock.New(kept + ".lock")
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	if _, err := os.Stat(kept); err != nil {
		unpack(t, suite, kept)
	}
	// Beside it, so that links reach: the programs' own files are only read.
	root, err := os.MkdirTemp(filepath.Dir(kept), "run-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	entries, err := os.ReadDir(kept)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		how := "-a"
		if e.Name() == "usr" {
			how = "-al"
		}
		if out, err := exec.CommandContext(t.Context(), "cp", how, filepath.Join(kept, e.Name()), root).CombinedOutput(); err != nil {
			t.Fatalf("copying the Debian tree: %v: %s", err, out)
		}
	}
	return root
}

// unpack makes the tree: packages unpacked, no script run, and what the scripts
// would have made as far as it is needed.
func unpack(t *testing.T, suite, dir string) {
	t.Helper()
	need.Program(t, "mmdebstrap", "mmdebstrap")
	mirrors, err := debian.Mirrors(nil, os.DirFS("/"))
	if err != nil {
		t.Fatal(err)
	}
	urls, err := mirrors.URLs(repo.Main, "")
	if err != nil {
		need.Missing(t, "%v", err)
	}
	work := dir + ".new"
	filetest.Remove(t, work)
	from := time.Now()
	cmd := exec.CommandContext(t.Context(), "mmdebstrap", "--quiet", "--mode=root", "--variant=extract",
		"--include=base-passwd,cloud-init,google-guest-agent,passwd", `--aptopt=APT::Install-Recommends "false"`, suite, work, urls[0])
	if out, err := cmd.CombinedOutput(); err != nil {
		need.Missing(t, "unpacking Debian's programs: %v: %s", err, out)
	}
	t.Logf("unpacked the programs of %s in %s", suite, time.Since(from).Round(time.Second))

	write := func(path, content string) {
		t.Helper()
		path = filepath.Join(work, path)
		filetest.Write(t, path, content)
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} { // usrmerge's script
		if _, err := os.Lstat(filepath.Join(work, link)); err == nil {
			continue
		}
		filetest.Link(t, "usr/"+link, filepath.Join(work, link))
	}
	for _, name := range []string{"passwd", "group"} { // base-passwd's
		master := filetest.Read(t, filepath.Join(work, "usr/share/base-passwd", name+".master"))
		write("etc/"+name, string(master))
	}
	var authorities strings.Builder // ca-certificates'
	certificates, err := filepath.Glob(filepath.Join(work, "usr/share/ca-certificates/mozilla/*.crt"))
	if err != nil || len(certificates) == 0 {
		t.Fatalf("no certificates in Debian's ca-certificates: %v", err)
	}
	for _, path := range slices.Sorted(slices.Values(certificates)) {
		data := filetest.Read(t, path)
		authorities.Write(data)
	}
	write("etc/ssl/certs/ca-certificates.crt", authorities.String())
	// The network's name server answers this on Compute Engine.
	write("etc/hosts", "127.0.0.1 localhost\n169.254.169.254 metadata.google.internal metadata\n")
	write("etc/hostname", "unconfigured\n")
	write("etc/os-release", `ID=debian`+"\n")
	// cloud-init asks the firmware where it runs.
	write("sys/class/dmi/id/product_name", "Google Compute Engine\n")
	filetest.Remove(t, filepath.Join(work, "var/lib/apt/lists"))
	if err := os.Rename(work, dir); err != nil {
		t.Fatal(err)
	}
}

// version returns what the programs say of themselves in their changelogs.
func version(root, program string) string {
	var found string
	err := filepath.WalkDir(filepath.Join(root, "usr/share/doc", program), func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(filepath.Base(path), "changelog.Debian") {
			out, _ := exec.Command("zcat", path).Output()
			line, _, _ := strings.Cut(string(out), "\n")
			found = line
		}
		return err
	})
	if err != nil || found == "" {
		return program + " of an unknown version"
	}
	return found
}
