package progress

import (
	"fmt"
	"strings"

	"golang.org/x/text/width"
)

// What the lines of a picture are made of, in columns.
const (
	gap         = 2  // between columns
	leastLabel  = 12 // of a task
	leastDetail = 16 // else it is not shown
	enoughLabel = 24 // of a task, where another one has a detail to show
	wide        = 80 // from here on, figures have columns that do not move
	wideAmount  = len("999.9 MB of 999.9 MB")
	widePace    = len("999.9 MB/s")
)

// dots stand for what is left out.
const dots = "..."

// picture returns the lines that show b on a terminal of that size, at most tasks
// of them about tasks:
//
//	1m23s  fetch  41 of 221 done, 3 running
//	  build kubelet v1.36.3                      45%        1m2s  k8s.io/api/core/v1
//	  fetch runc 1.4.3            3.1 MB of 10.7 MB    1.2 MB/s
//
// No line reaches the terminal's last column, where some wrap it. Where there is
// too little room, what a task is at is shortened first, then its name; figures
// are not, down to 60 columns.
func picture(b *board, columns, rows, tasks int) []string {
	if b.current.name == "" && b.started == 0 {
		return nil
	}
	room := max(columns-1, 1)
	// The picture must fit on the screen: a line that has left it can't be erased.
	shown, _ := b.shown(max(min(tasks, rows-2), 0))

	head := []string{" " + seconds(b.now.Sub(b.began))}
	if b.current.name != "" {
		head = append(head, b.current.name)
	}
	counts := b.sofar()
	if n := len(b.live); n > 0 {
		counts += fmt.Sprintf(", %d running", n)
	}
	lines := []string{cut(strings.Join(append(head, counts), strings.Repeat(" ", gap)), room)}

	const indent = 3
	type row struct{ label, amount, pace, detail string }
	table := make([]row, len(shown))
	labels, amounts, paces, details := 0, 0, 0, 0
	if columns >= wide {
		amounts, paces = wideAmount, widePace
	}
	for i, t := range shown {
		r := row{t.verb + " " + t.name, t.amount(), t.pace(b.now), t.at()}
		table[i] = r
		labels, amounts, paces = max(labels, columnsOf(r.label)), max(amounts, len(r.amount)), max(paces, len(r.pace))
		if r.detail != "" {
			details = gap + leastDetail
		}
	}
	left := room - indent - gap - amounts - gap - paces
	if left-details >= enoughLabel {
		left -= details
	}
	labels = max(min(labels, left), leastLabel)
	for _, r := range table {
		line := strings.Repeat(" ", indent) + pad(cut(r.label, labels), labels) +
			fmt.Sprintf("%*s%*s", gap+amounts, r.amount, gap+paces, r.pace)
		if left := room - columnsOf(line) - gap; r.detail != "" && left >= min(leastDetail, columnsOf(r.detail)) {
			line += strings.Repeat(" ", gap) + cutFront(r.detail, left)
		}
		lines = append(lines, cut(line, room))
	}
	return lines
}

// columnsOf returns how many columns s takes on a terminal, or more: a character
// whose width depends on the terminal counts as wide, a combining one as one.
func columnsOf(s string) int {
	n := 0
	for _, r := range s {
		n += columnsOfRune(r)
	}
	return n
}

func columnsOfRune(r rune) int {
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth, width.EastAsianAmbiguous:
		return 2
	}
	return 1
}

// cut shortens s at its end to at most columns.
func cut(s string, columns int) string {
	if columnsOf(s) <= columns {
		return s
	}
	mark := dots[:min(len(dots), max(columns, 0))]
	room := columns - len(mark)
	for i, r := range s {
		if room -= columnsOfRune(r); room < 0 {
			return s[:i] + mark
		}
	}
	return s // not reached: s is longer
}

// cutFront shortens s at its beginning to at most columns: of a path, the end
// tells most.
func cutFront(s string, columns int) string {
	if columnsOf(s) <= columns {
		return s
	}
	mark := dots[:min(len(dots), max(columns, 0))]
	left := columnsOf(s) - (columns - len(mark))
	for i, r := range s {
		if left <= 0 {
			return mark + s[i:]
		}
		left -= columnsOfRune(r)
	}
	return mark
}

// pad fills s up to columns.
func pad(s string, columns int) string {
	return s + strings.Repeat(" ", max(columns-columnsOf(s), 0))
}
