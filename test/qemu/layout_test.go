//go:build system

package qemu

import (
	"archive/tar"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/bake/record"
)

// combined runs a program and returns all that it prints.
func combined(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// writeLayout writes images, whose blobs are in a directory by their digests, to
// an archive that `ctr images import` reads: an OCI image layout.
func writeLayout(archive, blobs string, images []record.ContainerImage) error {
	out, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	add := func(name string, data []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations"`
	}
	index := struct {
		SchemaVersion int          `json:"schemaVersion"`
		Manifests     []descriptor `json:"manifests"`
	}{SchemaVersion: 2}
	for _, image := range images {
		data, err := os.ReadFile(filepath.Join(blobs, image.Digest.Hex()))
		if err != nil {
			return err
		}
		var head struct{ MediaType string }
		if err := json.Unmarshal(data, &head); err != nil {
			return err
		}
		index.Manifests = append(index.Manifests, descriptor{
			MediaType: head.MediaType, Digest: string(image.Digest), Size: len(data),
			Annotations: map[string]string{
				"io.containerd.image.name":          image.Reference,
				"org.opencontainers.image.ref.name": image.Reference[strings.LastIndexByte(image.Reference, ':')+1:],
			},
		})
	}
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	if err := add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	if err := add("index.json", data); err != nil {
		return err
	}
	files, err := os.ReadDir(blobs)
	if err != nil {
		return err
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(blobs, f.Name()))
		if err != nil {
			return err
		}
		if err := add("blobs/sha256/"+f.Name(), data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Close()
}
