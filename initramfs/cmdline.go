package initramfs

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/image/gpt"
)

// CommandLine is what the kernel's command line asks of us.
type CommandLine struct {
	Root    *gpt.GUID // root=PARTUUID=; nil: the partition whose type is that of a root
	Init    string    // init=; "" for the usual places
	Panic   time.Duration
	Forever bool // panic=0: stay instead of restarting

	parameters map[string][]string // module -> "name=value"
}

// defaultPanic is how long a machine that cannot start waits before it restarts.
// A cause that passes, such as a disk that is attached late, heals itself so; one
// that does not is on the console again after every try. Powering off would
// hide the machine from whoever looks for it, and staying would need a person.
const defaultPanic = 30 * time.Second

// ParseCommandLine reads the content of /proc/cmdline. Of an argument that is
// given twice the last counts, as for the kernel.
func ParseCommandLine(text string) (CommandLine, error) {
	c := CommandLine{Panic: defaultPanic, parameters: map[string][]string{}}
	var errs error
	for _, arg := range splitArguments(text) {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "--": // the rest is for init
			return c, errs
		case "root":
			uuid, ok := cutPrefixFold(value, "PARTUUID=")
			g, err := gpt.ParseGUID(uuid)
			if !ok || err != nil {
				c.Root, errs = nil, fmt.Errorf("kernel argument root=%s is not understood: only root=PARTUUID=GUID is", value)
				continue
			}
			c.Root, errs = &g, nil
		case "init":
			c.Init = value
		case "panic":
			// As the kernel has it: 0 stays for ever, a negative number restarts
			// at once.
			if n, err := strconv.Atoi(value); err == nil {
				c.Panic, c.Forever = max(time.Duration(n), 0)*time.Second, n == 0
			}
		default:
			if module, parameter, ok := strings.Cut(key, "."); ok && module != "" && parameter != "" {
				module = strings.ReplaceAll(module, "-", "_")
				if strings.Contains(value, " ") {
					value = `"` + value + `"`
				}
				if strings.Contains(arg, "=") {
					parameter += "=" + value
				}
				c.parameters[module] = append(c.parameters[module], parameter)
			}
		}
	}
	return c, errs
}

// ModuleParameters returns what to give to a module when it is loaded.
func (c *CommandLine) ModuleParameters(module string) string {
	return strings.Join(c.parameters[module], " ")
}

// splitArguments splits at spaces outside of double quotes, and drops quotes
// around values, as the kernel's next_arg does.
func splitArguments(text string) []string {
	var args []string
	var arg strings.Builder
	quoted, started := false, false
	for _, r := range text {
		switch {
		case r == '"':
			quoted = !quoted
			started = true
		case !quoted && (r == ' ' || r == '\t' || r == '\n'):
			if started {
				args = append(args, arg.String())
				arg.Reset()
			}
			started = false
		default:
			arg.WriteRune(r)
			started = true
		}
	}
	if started {
		args = append(args, arg.String())
	}
	return args
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
