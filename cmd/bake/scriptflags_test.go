package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// bakeLine matches a command of bake's in a shell script, however bake is named
// there, with what it is given in the same line.
var bakeLine = regexp.MustCompile(`(?:\bbake|"\$bake"|%q) ([a-z]+) (.*--[a-z].*)`)

// TestFlagsOfScripts looks up the flags that scripts give bake: those that are renamed
// show here, and not when somebody measures.
func TestFlagsOfScripts(t *testing.T) {
	flag := regexp.MustCompile(`(?:^| )--([a-z-]+)`)
	found := 0
	for _, pattern := range []string{"scripts/*", "test/*/*.sh"} {
		files, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range bakeLine.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\\\n", " "), -1) {
				command, _, err := newRoot(&host{}).Find([]string{m[1]})
				if err != nil || command.Name() != m[1] {
					continue
				}
				for _, name := range flag.FindAllStringSubmatch(m[2], -1) {
					found++
					if command.Flags().Lookup(name[1]) == nil {
						t.Errorf("%s gives `bake %s` the flag --%s, which it does not have", file, m[1], name[1])
					}
				}
			}
		}
	}
	if found < 8 {
		t.Errorf("scripts give bake %d flags; want 8 at least", found)
	}
}
