package arch_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/image/gpt"
)

func TestRowsAreComplete(t *testing.T) {
	if all := arch.All(); !slices.IsSorted(all) || !slices.Contains(all, arch.Default) {
		t.Errorf("All() = %q; want them sorted, %s among them", all, arch.Default)
	}
	seen := map[string]arch.Arch{} // what differs from one to another
	for _, a := range arch.All() {
		facts := reflect.ValueOf(a.Facts())
		for i := range facts.NumField() {
			name, v := facts.Type().Field(i).Name, facts.Field(i)
			if optional := name == "OCIVariant" || name == "QEMU"; optional && v.IsZero() {
				continue
			}
			if v.IsZero() {
				t.Errorf("%s has no %s", a, name)
			}
			key := fmt.Sprintf("%s %v", name, v)
			if other, ok := seen[key]; ok {
				t.Errorf("%s and %s have the same %s", a, other, key)
			}
			seen[key] = a
		}
		if _, ok := gpt.RootType(string(a)); !ok {
			t.Errorf("package gpt has no type of root partitions for %s", a)
		}
	}
}

func TestParse(t *testing.T) {
	known := arch.Names(", ") + ")"
	for _, test := range []struct {
		name string
		want arch.Arch
		err  string
	}{
		{"amd64", arch.AMD64, ""},
		{"arm64", arch.ARM64, ""},
		{"vax", "", `unknown architecture "vax" (known: ` + known},
		{"x86_64", "", `unknown architecture "x86_64" (known: ` + known},
		{"", "", `unknown architecture "" (known: ` + known},
	} {
		got, err := arch.Parse(test.name)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
			t.Errorf("Parse(%q) = %q, %v; want %q, %q", test.name, got, err, test.want, test.err)
		}
	}
	if got := arch.ARM64.Facts().BootLoader(); got != "BOOTAA64.EFI" {
		t.Errorf("BootLoader of arm64 = %s; want BOOTAA64.EFI", got)
	}
}
