package archive

import (
	"io"
	"testing"
)

// These watch for regressions within one machine. The figures that are stated
// come from real content: see test/bench.

func BenchmarkWriteTarGzCold(b *testing.B) {
	l := mixedList()
	b.SetBytes(contentSize(l))
	for b.Loop() {
		if _, err := WriteTarGz(b.Context(), io.Discard, l, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteTarGzCached(b *testing.B) {
	l := mixedList()
	o := Options{Cache: newMapCache()}
	write(b, l, o)
	b.SetBytes(contentSize(l))
	for b.Loop() {
		if _, err := WriteTarGz(b.Context(), io.Discard, l, o); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlanDigest(b *testing.B) {
	l := mixedList()
	for b.Loop() {
		PlanDigest(l, Options{})
	}
}
