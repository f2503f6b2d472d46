// Variants makes two changed sets for the benchmark, and bakes each once so that
// the store holds what they need:
//
//	kubelet  the kubelet is another one, 5 MB larger
//	package  an early and small package is another one, and larger
//
// The changed files are served from this program while it runs. What it makes
// is good for measuring only: the kubelet is the old one with noise behind it.
//
//	variants -bake bin/bake -versions manifests/versions.yaml -cache STORE -image IMAGE -to DIR
//
// It prints the two versions files, with their locks beside them.
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/store"
)

// growth is how much larger the changed kubelet is, in bytes.
const growth = 5_000_000

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "variants:", err)
		os.Exit(1)
	}
}

type world struct {
	bake, versions, cache, image, to string
	root                             string // of the server
	url                              string
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var w world
	flags := flag.NewFlagSet("variants", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&w.bake, "bake", "bin/bake", "the bake `program`")
	flags.StringVar(&w.versions, "versions", "manifests/versions.yaml", "versions `FILE` to change")
	flags.StringVar(&w.cache, "cache", "", "store `DIR`")
	flags.StringVar(&w.image, "image", "", "`IMAGE` baked from it")
	flags.StringVar(&w.to, "to", "", "`DIR` to write to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	w.root = filepath.Join(w.to, "served")
	if err := os.MkdirAll(w.root, 0o755); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(w.root))}
	go server.Serve(listener)
	defer server.Close()
	w.url = "http://" + listener.Addr().String()

	for _, variant := range []struct {
		name string
		make func(ctx context.Context, dir string) error
	}{{"kubelet", w.changeKubelet}, {"package", w.changePackage}} {
		dir := filepath.Join(w.to, variant.name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := variant.make(ctx, dir); err != nil {
			return fmt.Errorf("making variant %s: %w", variant.name, err)
		}
		if err := w.fill(ctx, dir, stderr); err != nil {
			return fmt.Errorf("baking variant %s: %w", variant.name, err)
		}
		fmt.Fprintln(stdout, filepath.Join(dir, "versions.yaml"))
	}
	return nil
}

// changeKubelet writes a set whose kubelet is served from here.
func (w *world) changeKubelet(ctx context.Context, dir string) error {
	kubelet, err := exec.CommandContext(ctx, w.bake, "inspect", w.image, "--cat", "/usr/local/bin/kubelet").Output()
	if err != nil {
		return fmt.Errorf("taking the kubelet out of the image: %w", err)
	}
	noise := make([]byte, growth)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	kubelet = append(kubelet, noise...)
	sum := sha256.Sum256(kubelet)
	if err := os.MkdirAll(filepath.Join(w.root, "amd64"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(w.root, "amd64", "kubelet"), kubelet, 0o644); err != nil {
		return err
	}
	versions, err := os.ReadFile(w.versions)
	if err != nil {
		return err
	}
	release := regexp.MustCompile(`(?s)(\n  kubelet:\n.*?url: )\S+(\n.*?amd64: )[0-9a-f]{64}`)
	if !release.Match(versions) {
		return fmt.Errorf("%s: no release of a kubelet found", w.versions)
	}
	changed := release.ReplaceAll(versions, fmt.Appendf(nil, "${1}%s/{arch}/kubelet${2}%x", w.url, sum))
	return w.write(dir, changed, func(*manifest.Lock) error { return nil })
}

// changePackage writes a set whose first package is served from here.
func (w *world) changePackage(ctx context.Context, dir string) error {
	versions, err := os.ReadFile(w.versions)
	if err != nil {
		return err
	}
	return w.write(dir, versions, func(lock *manifest.Lock) error {
		p := &lock.Archs[arch.AMD64].Packages[0]
		s, err := store.Open(w.cache)
		if err != nil {
			return err
		}
		defer s.Close()
		deb, ok := s.Path(p.SHA256)
		if !ok {
			return fmt.Errorf("the store has no %s %s", p.Name, p.Version)
		}
		tree := filepath.Join(dir, "deb")
		changed := filepath.Join(w.root, "changed.deb")
		if err := command(ctx, "dpkg-deb", "-R", deb, tree); err != nil {
			return err
		}
		noise := make([]byte, 100_000)
		rand.NewChaCha8([32]byte{2}).Read(noise)
		if err := os.WriteFile(filepath.Join(tree, "usr/share/doc", p.Name, "changed"), noise, 0o644); err != nil {
			return err
		}
		if err := command(ctx, "dpkg-deb", "--root-owner-group", "-Zxz", "-b", tree, changed); err != nil {
			return err
		}
		content, err := os.ReadFile(changed)
		if err != nil {
			return err
		}
		p.SHA256, p.Size, p.Path = manifest.SHA256(sha256.Sum256(content)), int64(len(content)), "changed.deb"
		return os.RemoveAll(tree)
	})
}

// write writes a versions file and a lock that fits it. The directory gets the
// pinned modules and the image definition too, since they are found from there.
func (w *world) write(dir string, versions []byte, change func(*manifest.Lock) error) error {
	parsed, err := manifest.ParseVersions(w.versions, versions)
	if err != nil {
		return err
	}
	if parsed.Definition != "" {
		definition := filepath.Join(dir, "definition")
		if err := os.RemoveAll(definition); err != nil {
			return err
		}
		if err := os.CopyFS(definition, os.DirFS(parsed.DefinitionDir())); err != nil {
			return err
		}
		versions = regexp.MustCompile(`(?m)^definition: .*$`).ReplaceAll(versions, []byte("definition: definition"))
	}
	lockFile := manifest.LockFile(w.versions)
	data, err := os.ReadFile(lockFile)
	if err != nil {
		return err
	}
	lock, err := manifest.ParseLock(lockFile, data)
	if err != nil {
		return err
	}
	if err := change(lock); err != nil {
		return err
	}
	modules := filepath.Join(dir, "modules")
	if err := os.RemoveAll(modules); err != nil {
		return err
	}
	if err := os.CopyFS(modules, os.DirFS(filepath.Join(filepath.Dir(w.versions), "modules"))); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "versions.lock"), lock.Marshal(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "versions.yaml"), versions, 0o644)
}

// fill bakes the set once, while its files are served.
func (w *world) fill(ctx context.Context, dir string, stderr io.Writer) error {
	out, err := os.MkdirTemp(dir, "out-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(out)
	cmd := exec.CommandContext(ctx, w.bake, "image", "--quiet", "--build-missing", "--cache", w.cache,
		"--versions", filepath.Join(dir, "versions.yaml"), "--debian-mirror", "debian="+w.url, "--output", out)
	cmd.Stderr = stderr
	return cmd.Run()
}

func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
