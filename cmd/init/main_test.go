//go:build linux

package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestDependencies keeps the program small: it is read by the firmware at every
// boot. What it may import beside the standard library stands here.
func TestDependencies(t *testing.T) {
	const module = "github.com/nodebake/bake/"
	allowed := []string{
		module + "cmd/init", module + "initramfs",
		// The reader of partition tables, and the types that its planner speaks in.
		module + "bake/image/gpt", module + "bake/image/extent", module + "bake/tree",
		"golang.org/x/sys/unix",
	}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatalf("go list -deps: %v", err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		if !slices.Contains(allowed, path) {
			t.Errorf("cmd/init imports %s: is it worth its size? Then add it here", path)
		}
	}
	out, err = exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list -deps: %v", err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		if path == "net" || path == "net/http" || path == "regexp" || path == "encoding/json" {
			t.Errorf("cmd/init imports %s", path)
		}
	}
}
