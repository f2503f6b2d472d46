package oci

import (
	"testing"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
)

// FuzzParse reads what registries send. Whatever it is, what is taken from it has
// digests of content and sizes within the limits.
func FuzzParse(f *testing.F) {
	const (
		digest = `"sha256:0000000000000000000000000000000000000000000000000000000000000000"`
		index  = `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":` + digest +
			`,"size":7,"platform":{"os":"linux","architecture":"amd64"}}]}`
		image = `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":` + digest +
			`,"size":9},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":` + digest + `,"size":5}]}`
		config = `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[` + digest + `]}}`
	)
	f.Add([]byte(index))
	f.Add([]byte(image))
	f.Add([]byte(config))
	f.Add([]byte(`{"schemaVersion":1,"fsLayers":[]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":null,"layers":null}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(d Descriptor, limit int64) {
			if sum, err := manifest.ParseDigest(string(d.Digest)); err != nil || sum.Algorithm() != "sha256" || d.Size <= 0 || d.Size > limit {
				t.Errorf("%+v was taken, %v", d, err)
			}
		}
		i, m, err := parseTarget(data, arch.AMD64)
		switch {
		case err != nil && (i != nil || m != nil), err == nil && (i == nil) == (m == nil):
			t.Errorf("parseTarget() = %v, %v, %v; want one of them", i, m, err)
		case i != nil:
			check(i.manifest, maxMetadata)
		case m != nil:
			check(m.config, maxMetadata)
			for _, layer := range m.layers {
				check(layer, maxLayer)
			}
		}
		if diffs, err := parseConfig(data, arch.AMD64, 1); err == nil && len(diffs) != 1 {
			t.Errorf("parseConfig() = %v; want 1 digest", diffs)
		}
	})
}
