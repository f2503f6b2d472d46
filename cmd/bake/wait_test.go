package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestSecondBakeWaits starts a bake that fetches for long and a second one with
// the same store, which must say for whom it waits, and end like the first.
func TestSecondBakeWaits(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	pool := p.Package("tool").Pool()
	deb := p.File(pool)
	begun, end := make(chan bool, 10), make(chan bool)
	p.Fault(pool, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(deb)))
		if r.Method != http.MethodGet {
			return
		}
		w.Write(deb[:len(deb)/2])
		w.(http.Flusher).Flush()
		begun <- true
		<-end
		w.Write(deb[len(deb)/2:])
	})
	var stderr [2]bytes.Buffer
	first := p.command()
	first.Stderr = &stderr[0]
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(time.Minute, func() { first.Process.Kill() })
	defer kill.Stop()
	<-begun

	out := p.out
	p.out = t.TempDir()
	second := p.command()
	p.out = out
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	second.Stderr = write
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	kill = time.AfterFunc(time.Minute, func() { second.Process.Kill() })
	defer kill.Stop()
	write.Close()
	want := fmt.Sprintf("waiting for process %d, which fetches tool 1.0\n", first.Process.Pid)
	buf := make([]byte, 1000)
	for !strings.Contains(stderr[1].String(), want) {
		n, err := read.Read(buf)
		stderr[1].Write(buf[:n])
		if err != nil {
			t.Errorf("the second bake ends and does not say %q: %v:\n%s", want, err, stderr[1].String())
			break
		}
	}
	close(end)
	stderr[1].ReadFrom(read)
	for i, err := range []error{first.Wait(), second.Wait()} {
		if err != nil {
			t.Errorf("bake %d: %v: %s", i+1, err, stderr[i].String())
		}
	}
}
