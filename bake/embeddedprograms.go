package bake

import (
	"sync"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/embedded"
	"github.com/nodebake/bake/bake/tree"
)

// embeddedProgram is a program of ours that goes into images. Its path is its name.
type embeddedProgram struct {
	tree.Entry
	content []byte
}

// embeddedPrograms are the programs of ours for one architecture. Each is read and hashed
// once, when somebody asks for it.
type embeddedPrograms struct {
	arch     arch.Arch
	programs embedded.Programs
	mu       sync.Mutex
	read     map[string]*embeddedProgram
}

// program returns a program by its name: "firstboot".
func (g *embeddedPrograms) program(name string) (*embeddedProgram, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.read[name]; p != nil {
		return p, nil
	}
	content, err := g.programs.Program(name, g.arch)
	if err != nil {
		return nil, err
	}
	if g.read == nil {
		g.read = map[string]*embeddedProgram{}
	}
	g.read[name] = &embeddedProgram{file(name, 0o755, content), content}
	return g.read[name], nil
}

// prepare reads firstboot, the largest, while others wait for the network. An
// error comes again to who asks for it.
func (g *embeddedPrograms) prepare() { _, _ = g.program("firstboot") }
