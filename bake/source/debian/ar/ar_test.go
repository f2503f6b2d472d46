package ar

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

type file struct{ Name, Content string }

func readAll(r io.Reader) ([]file, error) {
	a, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	var files []file
	for {
		h, err := a.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return files, err
		}
		b, err := io.ReadAll(a)
		if err != nil {
			return files, err
		}
		if int64(len(b)) != h.Size {
			return files, fmt.Errorf("BUG: read %d of %d bytes", len(b), h.Size)
		}
		files = append(files, file{h.Name, string(b)})
	}
}

func header(name string, size any) string {
	return fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10v`\n", name, 0, 0, 0, "100644", size)
}

func TestReader(t *testing.T) {
	tests := []struct {
		name, text string
		want       []file
	}{
		{"empty", magic, nil},
		{"two", magic + header("a", 3) + "abc\n" + header("b", 0) + header("c", 2) + "xy", []file{{"a", "abc"}, {"b", ""}, {"c", "xy"}}},
		{"slash after the name", magic + header("a/", 2) + "ab", []file{{"a", "ab"}}},
		{"last padding missing", magic + header("a", 1) + "x", []file{{"a", "x"}}},
		{"empty numbers", magic + fmt.Sprintf("%-16s%-12s%-6s%-6s%-8s%-10v`\n", "a", "", "", "", "", 0), []file{{"a", ""}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := readAll(strings.NewReader(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("members (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReaderErrors(t *testing.T) {
	member := header("a", 3) + "abc\n"
	tests := []struct {
		name, text, want string
	}{
		{"nothing", "", "reading ar magic"},
		{"short magic", magic[:5], "reading ar magic"},
		{"other magic", "!<thin>\n" + member, "not an ar archive"},
		{"short header", magic + member[:59], "reading ar header"},
		{"header end", magic + strings.Replace(member, "`", "'", 1), "does not end"},
		{"no name", magic + header("", 0), "name"},
		{"GNU long name", magic + header("/12", 0), "name"},
		{"GNU table", magic + header("//", 0), "name"},
		{"BSD long name", magic + header("#1/20 x", 0), "name"},
		{"path", magic + header("a/b", 0), "name"},
		{"size missing", magic + header("a", ""), "size"},
		{"size negative", magic + header("a", -3), "size"},
		{"size with sign", magic + header("a", "+3"), "size"},
		{"size in hex", magic + header("a", "0x3"), "size"},
		{"size in the middle", magic + header("a", " 3"), "size"},
		{"time", magic + fmt.Sprintf("%-16s%-12s%-6d%-6d%-8s%-10v`\n", "a", "now", 0, 0, "0", 0), "time"},
		{"mode", magic + fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10v`\n", "a", 0, 0, 0, "9", 0), "mode"},
		{"size too large", magic + header("a", 4) + "abc", "lacks its last 1 bytes"},
		{"size far too large", magic + header("a", 9999999999) + "abc", "lacks its last"},
		{"size too small", magic + header("a", 1) + "abc\n", "padding"},
		{"garbage after", magic + member + "x", "reading ar header"},
		{"wrong padding", magic + header("a", 1) + "xy" + member, "padding"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := readAll(strings.NewReader(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v; want %q", err, test.want)
			}
		})
	}
}

func TestTruncated(t *testing.T) {
	a, err := NewReader(strings.NewReader(magic + header("a", 4) + "abc"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Next after a member cut short = %v; want %v", err, io.ErrUnexpectedEOF)
	}
}

// TestBinutils reads what ar(1) writes.
func TestBinutils(t *testing.T) {
	need.Program(t, "ar", "binutils")
	dir := t.TempDir()
	want := []file{{"debian-binary", "2.0\n"}, {"odd", "123"}, {"empty", ""}, {"large", strings.Repeat("0123456789", 20000)}}
	args := []string{"rcD", "x.ar"}
	for _, f := range want {
		filetest.Write(t, filepath.Join(dir, f.Name), f.Content)
		args = append(args, f.Name)
	}
	cmd := exec.CommandContext(t.Context(), "ar", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ar: %v\n%s", err, out)
	}
	name := filepath.Join(dir, "x.ar")
	b := filetest.Read(t, name)
	got, err := readAll(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	// ar refuses what we refuse.
	broken := bytes.Replace(b, []byte("`\n123"), []byte("'\n123"), 1)
	filetest.Write(t, name, broken)
	if err := exec.CommandContext(t.Context(), "ar", "t", name).Run(); err == nil {
		t.Error("ar lists an archive with a broken header")
	}
	if _, err := readAll(bytes.NewReader(broken)); err == nil {
		t.Error("reading an archive with a broken header: no error")
	}
}

// FuzzReader checks that reading ends and that members that were read, written
// again, read the same.
func FuzzReader(f *testing.F) {
	f.Add([]byte(magic))
	f.Add([]byte(magic + header("debian-binary", 4) + "2.0\n" + header("control.tar", 3) + "abc\n"))
	f.Add([]byte(magic + header("a", 4) + "abc"))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := readAll(bytes.NewReader(data))
		if err != nil {
			return
		}
		text := magic
		for _, f := range first {
			text += header(f.Name, len(f.Content)) + f.Content
			if len(f.Content)%2 == 1 {
				text += "\n"
			}
		}
		second, err := readAll(strings.NewReader(text))
		if err != nil {
			t.Fatalf("reading %q again: %v", text, err)
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("members (-first +second):\n%s", diff)
		}
	})
}
