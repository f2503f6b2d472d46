package baketest

import (
	"path/filepath"
	"testing"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/mirrorsync"
)

// MirrorConfig is what mirrors the world to a new directory.
func (w *World) MirrorConfig() mirrorsync.Config {
	w.t.Helper()
	own := w.Config()
	return mirrorsync.Config{
		Options: own.Options, Definition: own.Definition, Keyring: w.Keyring, Sets: []mirrorsync.Set{{Name: "tiny", Versions: w.Versions}},
		Archs: []arch.Arch{arch.AMD64}, To: filepath.Join(w.t.TempDir(), "mirror"), Now: w.Now,
	}
}

// Mirror mirrors, and must succeed.
func Mirror(t testing.TB, c mirrorsync.Config) *mirrorsync.Result {
	t.Helper()
	r, err := mirrorsync.Run(t.Context(), c)
	if err != nil {
		t.Fatalf("Mirror() = %v", err)
	}
	return r
}

// Offline is a configuration that asks nothing but the mirror at location.
func (w *World) Offline(location string) bake.Config {
	w.t.Helper()
	c := w.Config()
	c.OfflineMirror, c.Offline, c.DebianMirrors, c.Apt, c.Keychain = location, true, nil, nil, nil
	return c
}
