package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/cluster/clustertest"
	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/inspect/inspecttest"
	"github.com/nodebake/bake/bake/record"
)

// The variables that say when and with which keys the program of tests runs.
const (
	nowVariable     = "BAKE_TEST_NOW"
	keyringVariable = "BAKE_TEST_KEYRING" // file
)

func TestMain(m *testing.M) {
	clustertest.Main()
	testscript.Main(m, map[string]func(){"bake": testMain})
}

// testMain is main in a tiny world, whose archive is signed by its own key and is
// valid at its own time.
func testMain() {
	now := time.Now
	if text := os.Getenv(nowVariable); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			panic(err)
		}
		now = func() time.Time { return at }
	}
	var keyring []byte
	if file := os.Getenv(keyringVariable); file != "" {
		var err error
		if keyring, err = os.ReadFile(file); err != nil {
			panic(err)
		}
	}
	os.Exit(start(now, keyring))
}

// TestScripts runs testdata/script/*.txtar. Beside testscript's own commands
// they have:
//
//	exits CODE PROGRAM [ARG...]   run a program that must exit with CODE
//	mkimage FILE [CHANGE...]      make a small image, .tar.gz or .raw (see changes)
//	workers                       set what testdata/smoke/kubectl needs (see smoke_test.go)
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "mkimage": mkimage, "workers": workers},
		Setup: func(env *testscript.Env) error {
			// Scripts must not find this machine's cache, proxies or mirrors.
			env.Setenv("XDG_CACHE_HOME", env.WorkDir+"/cache")
			env.Setenv("XDG_STATE_HOME", env.WorkDir+"/state")
			env.Setenv("TMPDIR", env.WorkDir+"/tmp")
			env.Setenv("BAKE_DEBIAN_MIRROR", "http://127.0.0.1:1")
			// Where bake is, for scripts that take everything else away.
			env.Setenv("BAKE_DIR", filepath.SplitList(env.Getenv("PATH"))[0])
			return os.Mkdir(env.WorkDir+"/tmp", 0o777)
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("running %s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("%s exits with %d; want %d", strings.Join(args[1:], " "), got, want)
	}
}

func mkimage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: mkimage FILE [CHANGE...]")
	}
	m := inspecttest.New()
	if slices.Contains(args[1:], "arm64") {
		m = inspecttest.For(arch.ARM64)
		m.Size, m.Parts[1].Length = 160*inspecttest.MiB, 90*inspecttest.MiB
	}
	for _, change := range args[1:] {
		changes(ts, m, change)
	}
	list, err := m.List()
	ts.Check(err)
	path := ts.MkAbs(args[0])
	f, err := os.Create(path)
	ts.Check(err)
	defer f.Close()
	if strings.HasSuffix(path, ".raw") {
		ts.Check(archive.WriteRaw(context.Background(), f, list, archive.Options{}))
	} else {
		_, err = archive.WriteTarGz(context.Background(), f, list, archive.Options{})
		ts.Check(err)
	}
	if m.Name == "recorded" {
		writeRecord(ts, path)
	}
}

// changes makes one change to an image.
func changes(ts *testscript.TestScript, m *inspecttest.Image, change string) {
	switch change {
	case "arm64": // mkimage has begun with it
	case "small": // for what does not ask the size
		m.Size, m.Parts[1].Length = 160*inspecttest.MiB, 90*inspecttest.MiB
	case "hosts":
		m.Text("etc/hosts", "169.254.169.254 metadata.google.internal\n")
	case "update":
		m.Packages[1].Version = "2.41-13"
	case "keys":
		m.Text("etc/ssh/ssh_host_rsa_key", "x")
		m.Text("etc/ssh/ssh_host_rsa_key.pub", "x")
	case "quiet":
		m.LoaderEntry("root=PARTUUID=" + inspecttest.RootGUID().String() + " console=ttyS0,38400n8d audit=0 quiet")
	case "lies": // its record says something else
		m.Tamper = func(r *record.Record) { r.Packages = r.Packages[1:] }
	case "hostile": // names and a record that write to the terminal
		m.Text("etc/\x1b[2J\u202e\nsha256:00 worker.tar.gz: verified: rebuilt byte for byte", "x")
		m.Link("etc/link", "\x1b]0;title\a\xff")
		m.Text("etc/ssh/ssh_host_\x1b[2J\nbake: 52 of 52 rules passed_key", "x")
		m.Tamper = func(r *record.Record) {
			r.Components[0].From = "https://example.com/\x1b[1A\u009b2K\nall is well"
			r.Packages[0].Name = "base\x1b[2J\nbake: all is well"
		}
	case "packed": // its record has a container image of packages
		m.Tamper = func(r *record.Record) {
			web := record.Package{Name: "web", Version: "1.26", Arch: r.Packages[1].Arch, Suite: "trixie"}
			r.Images = append(r.Images, record.ContainerImage{
				Name: "web", Reference: "bake.local/web:1", Origin: "source", From: "Debian packages", Packages: []record.Package{r.Packages[1], web},
			})
		}
	case "no-root":
		m.Parts = m.Parts[:1]
	case "recorded": // with NAME.json beside it
		m.Name = change
	default:
		ts.Fatalf("unknown change %s", change)
	}
}

// writeRecord writes the record beside an image as bake image does.
func writeRecord(ts *testscript.TestScript, path string) {
	m, err := inspect.Open(context.Background(), path, ts.Getenv("TMPDIR"))
	ts.Check(err)
	defer m.Close()
	r, err := m.Record(context.Background(), 1)
	ts.Check(err)
	f, err := os.Create(strings.TrimSuffix(strings.TrimSuffix(path, ".tar.gz"), ".raw") + ".json")
	ts.Check(err)
	ts.Check(r.Write(f))
	ts.Check(f.Close())
}
