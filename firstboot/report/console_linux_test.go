package report

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestConsole prints on a pseudo-terminal on whose last line a prompt stands.
func TestConsole(t *testing.T) {
	t.Parallel()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	seen := make(chan []byte)
	go func() {
		var all []byte
		for deadline := time.Now().Add(10 * time.Second); bytes.Count(all, []byte("\n")) < 2 && time.Now().Before(deadline); {
			buf := make([]byte, 4096)
			n, err := master.Read(buf)
			if all = append(all, buf[:n]...); err != nil {
				break
			}
		}
		seen <- all
	}()
	if _, err := terminal.WriteString("worker-0 login: "); err != nil {
		t.Fatal(err)
	}
	if err := Console(terminal.Name())("firstboot: ready {}"); err != nil {
		t.Fatal(err)
	}
	lines := strings.FieldsFunc(string(<-seen), func(r rune) bool { return r == '\r' || r == '\n' })
	if len(lines) != 2 || lines[1] != "firstboot: ready {}" {
		t.Errorf("the terminal shows %q; want the prompt's line and the whole of ours", lines)
	}
}

func TestConsoleThatIsNotThere(t *testing.T) {
	t.Parallel()
	err := Console("/nonexistent/console")("a line")
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/console") {
		t.Errorf("Console = %v; want an error that names it", err)
	}
}
