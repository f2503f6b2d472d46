package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// etcd returns the path of an etcd: the one in PATH, or Debian's, which is
// downloaded once and unpacked into the cache. Nothing is installed: the package
// would start a service.
func (f Find) etcd(ctx context.Context) (string, error) {
	if path := f.lookPath("etcd"); path != "" {
		return path, nil
	}
	kept := filepath.Join(f.Dir, "etcd")
	path := filepath.Join(kept, "usr", "bin", "etcd")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	for _, tool := range []string{"apt-get", "dpkg-deb"} {
		if f.lookPath(tool) == "" {
			return "", fmt.Errorf("looking for etcd: it is not in PATH, and without %s it is unavailable at Debian (install etcd 3.4 or newer)", tool)
		}
	}
	if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return "", fmt.Errorf("making a directory for etcd: %w", err)
	}
	tmp, err := os.MkdirTemp(f.Dir, ".etcd-*")
	if err != nil {
		return "", fmt.Errorf("making a directory for etcd: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := f.download(ctx, tmp, "etcd-server"); err != nil {
		return "", fmt.Errorf("downloading Debian's package etcd-server: %w", err)
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "etcd-server_*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("downloading Debian's package etcd-server: got %q, %v; want one file", debs, err)
	}
	unpacked := filepath.Join(tmp, "unpacked")
	if err := f.run(ctx, tmp, "dpkg-deb", "-x", debs[0], unpacked); err != nil {
		return "", fmt.Errorf("unpacking %s: %w", filepath.Base(debs[0]), err)
	}
	// Another process may have been faster.
	if err := os.Rename(unpacked, kept); err != nil {
		if _, statErr := os.Stat(path); statErr != nil {
			return "", fmt.Errorf("keeping etcd: %w", err)
		}
	}
	return path, nil
}

// download gets a package's file with the host's apt configuration: with its
// lists where they serve, else with new ones of our own, which needs no root.
func (f Find) download(ctx context.Context, dir, pkg string) error {
	// root's apt would give up its rights, and then can't write to dir.
	options := []string{"-q", "-o", "APT::Sandbox::User=root"}
	first := f.run(ctx, dir, "apt-get", append(slices.Clone(options), "download", pkg)...)
	if first == nil || ctx.Err() != nil {
		return first
	}
	own := filepath.Join(dir, "apt")
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(own, d), 0o755); err != nil {
			return err
		}
	}
	options = append(options,
		"-o", "Dir::State="+own, "-o", "Dir::State::lists="+filepath.Join(own, "lists"),
		"-o", "Dir::State::status=/var/lib/dpkg/status",
		"-o", "Dir::Cache="+filepath.Join(own, "cache"))
	if err := f.run(ctx, dir, "apt-get", append(slices.Clone(options), "update")...); err != nil {
		return errors.Join(first, err)
	}
	return f.run(ctx, dir, "apt-get", append(slices.Clone(options), "download", pkg)...)
}

// run runs a command in dir.
func (f Find) run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, f.lookPath(name), args...)
	cmd.Dir = dir
	cmd.Env = append(slices.Clone(f.Options.Env), "LC_ALL=C")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running %s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}
