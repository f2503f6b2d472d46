package lint

import (
	"fmt"
	"strconv"
	"strings"
)

// fields reads a file of lines of n fields with colons between them, such as
// /etc/passwd (passwd(5)).
func (f *files) fields(p string, n int) ([][]string, error) {
	text, err := f.Text(p)
	if err != nil {
		return nil, err
	}
	return parseFields(p, text, n)
}

func parseFields(p, text string, n int) ([][]string, error) {
	var lines [][]string
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		fields := strings.Split(line, ":")
		if len(fields) != n {
			return nil, fmt.Errorf("/%s:%d: %d fields; want %d", p, number, len(fields), n)
		}
		lines = append(lines, fields)
	}
	return lines, nil
}

// ids returns the numbers in the third field of a file like /etc/passwd.
func (f *files) ids(p string, n int) (map[uint32]bool, error) {
	lines, err := f.fields(p, n)
	if err != nil {
		return nil, err
	}
	ids := map[uint32]bool{}
	for _, fields := range lines {
		id, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("/%s: %s has the number %q", p, fields[0], fields[2])
		}
		ids[uint32(id)] = true
	}
	return ids, nil
}

// mount is a line of fstab(5).
type mount struct {
	device, dir, kind, options string
}

func (f *files) fstab() ([]mount, error) {
	lines, err := f.Lines("etc/fstab")
	if err != nil {
		return nil, err
	}
	return parseFstab(lines)
}

func parseFstab(lines []string) ([]mount, error) {
	var mounts []mount
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("/etc/fstab: %q has %d fields; want 6", line, len(fields))
		}
		m := mount{device: fields[0], dir: fields[1], kind: fields[2]}
		if len(fields) > 3 {
			m.options = fields[3]
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}
