package license

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/filetest"
)

const zlib = `Copyright (c) 2019 A. Body

This software is provided 'as-is', without any express or implied warranty. In no event will the authors be held liable for any damages arising from the use of this software.

Permission is granted to anyone to use this software for any purpose, including commercial applications, and to alter it and redistribute it freely, subject to the following restrictions:

1. The origin of this software must not be misrepresented; you must not claim that you wrote the original software. If you use this software in a product, an acknowledgment in the product documentation would be appreciated but is not required.

2. Altered source versions must be plainly marked as such, and must not be misrepresented as being the original software.

3. This notice may not be removed or altered from any source distribution.
`

// TestCopyright writes a copyright file and reads what it says of each module.
func TestCopyright(t *testing.T) {
	t.Parallel()
	apache := filetest.Read(t, "../../LICENSE")
	// Who writes a license file may mean to say something about others.
	evil := []byte("Mine.\n\nFiles: example.com/b@v1.0.0/*\nLicense: WTFPL\n\n \r\nFiles: example.com/b@v1.0.0/*\nLicense: WTFPL\n\xff")
	directories := []Directory{
		{Module: "example.com/b", Version: "v1.0.0", Licenses: [][]byte{[]byte(zlib)}},
		{Module: "example.com/a", Version: "v2.0.0", Licenses: [][]byte{[]byte(zlib)}},
		{Module: "example.com/a", Version: "v2.0.0", Path: "third_party/x", Licenses: [][]byte{apache}, Notices: [][]byte{[]byte("A notice.\n")}},
		{Module: "example.com/two", Version: "v1.0.0", Licenses: [][]byte{apache, []byte(zlib)}},
		{Module: "example.com/evil", Version: "v1.0.0", Licenses: [][]byte{evil}},
		{Module: "example.com/half", Version: "v1.0.0", Licenses: [][]byte{[]byte(zlib[:len(zlib)/4])}},
		{Module: "example.com/notice", Version: "v1.0.0", Notices: [][]byte{[]byte("Only this.")}},
		{Module: "example.com/partly", Version: "v1.0.0", Licenses: [][]byte{[]byte(zlib)}},
		{Module: "example.com/partly", Version: "v1.0.0", Path: "other", Licenses: [][]byte{evil}},
	}
	text := Copyright("toy", "example.com/toy@v1.2.3", directories)
	want := map[string]License{
		"example.com/a@v2.0.0":   {Expression: "Apache-2.0 AND Zlib"},
		"example.com/b@v1.0.0":   {Expression: "Zlib"},
		"example.com/two@v1.0.0": {Expression: "Apache-2.0 AND Zlib"},
	}
	if diff := cmp.Diff(want, Modules(text)); diff != "" {
		t.Errorf("Modules (-want +got):\n%s\nof\n%s", diff, text)
	}
	for _, want := range []string{
		format + "Upstream-Name: toy\nSource: example.com/toy@v1.2.3\n\nFiles: example.com/a@v2.0.0/* example.com/b@v1.0.0/* example.com/partly@v1.0.0/*\nCopyright: Copyright (c) 2019 A. Body\nLicense: Zlib\n Copyright (c) 2019 A. Body\n .\n This software",
		"\nFiles: example.com/a@v2.0.0/third_party/x/*\n",
		"\nComment:\n A notice.\n",
		"\nLicense: unknown\n Mine.\n .\n Files: example.com/b",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("Copyright does not have %q:\n%s", want, text)
		}
	}
	for line := range strings.Lines(string(apache)) {
		if line = strings.TrimSpace(line); !strings.Contains(string(text), line) {
			t.Errorf("the line %q of a license is lost", line)
		}
	}
	// Debian's reader, which knows nothing of ours, finds each license.
	if got, want := Debian(text).Expression, "Apache-2.0 AND LicenseRef-Debian-as-module AND LicenseRef-Debian-unknown AND Zlib"; got != want {
		t.Errorf("Debian = %q; want %q", got, want)
	}
	// The order in which packages were listed is none of the license's.
	for i := range len(directories) / 2 {
		directories[i], directories[len(directories)-1-i] = directories[len(directories)-1-i], directories[i]
	}
	if diff := cmp.Diff(string(text), string(Copyright("toy", "example.com/toy@v1.2.3", directories))); diff != "" {
		t.Errorf("in another order (-first +second):\n%s", diff)
	}
}

func TestIsFile(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]bool{
		"LICENSE": {true, false}, "License.md": {true, false}, "LICENCE-MIT.txt": {true, false}, "COPYING.LESSER": {true, false}, "UNLICENSE": {true, false}, "COPYRIGHT": {true, false},
		"NOTICE": {false, true}, "PATENTS": {false, true}, "license.go": {}, "LICENSE.docs": {}, "notice.tmpl": {}, "README": {}, "": {},
	} {
		if got := [2]bool{IsFile(name), IsNotice(name)}; got != want {
			t.Errorf("IsFile, IsNotice(%q) = %v; want %v", name, got, want)
		}
	}
}

func FuzzCopyright(f *testing.F) {
	f.Add([]byte(zlib), []byte("\r\n\r.\n"))
	f.Add([]byte("\n\nFiles: m@v/*\nLicense: MIT\n"), []byte("\xff\x00\t\n\f"))
	f.Fuzz(func(t *testing.T, text, notice []byte) {
		if len(text) > 1<<14 {
			return
		}
		got := Modules(Copyright("c", "s", []Directory{{Module: "m", Version: "v", Licenses: [][]byte{text}, Notices: [][]byte{notice}}}))
		for name, l := range got {
			if name != "m@v" {
				t.Errorf("something is said about %q", name)
			}
			valid(t, l)
		}
	})
}
