package smoke

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/nodebake/bake/bake/printable"
)

// JUnit's elements, as the servers that show test results read them: a suite for
// each step, a case for each check (github.com/testmoapp/junitxml).

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure"`
	Skipped *junitMessage `xml:"skipped"`
	Output  string        `xml:"system-out"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes a report as JUnit's XML.
func (r *Report) WriteJUnit(w io.Writer) error {
	all := junitSuites{
		Name: "bake smoke", Tests: len(r.Results), Failures: r.Count(Failed), Skipped: r.Count(Skipped),
		Time: junitTime(r.Seconds),
	}
	for _, result := range r.Results {
		if last := len(all.Suites) - 1; last < 0 || all.Suites[last].Name != result.Step {
			all.Suites = append(all.Suites, junitSuite{Name: result.Step})
		}
		all.Suites[len(all.Suites)-1].add(result)
	}
	for i := range all.Suites {
		all.Suites[i].Time = junitTime(r.secondsOf(all.Suites[i].Name))
	}
	text, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding JUnit's XML: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, text)
	return err
}

func (s *junitSuite) add(result Result) {
	c := junitCase{
		Class: "bake.smoke." + result.Step, Name: printable.String(result.Check), Time: junitTime(result.Seconds),
		Output: "$ " + printable.String(result.Command) + "\n" + printable.String(result.Detail) + "\n",
	}
	s.Tests++
	switch result.Status {
	case Failed:
		s.Failures++
		var text strings.Builder
		text.WriteString("likely: " + printable.String(result.Cause))
		for _, next := range result.Next {
			text.WriteString("\nnext: " + printable.String(next))
		}
		c.Failure = &junitMessage{printable.String(result.Detail), text.String()}
	case Skipped:
		s.Skipped++
		c.Skipped = &junitMessage{Message: strings.TrimPrefix(printable.String(result.Detail), "not tried: ")}
	}
	s.Cases = append(s.Cases, c)
}

func (r *Report) secondsOf(step string) float64 {
	sum := 0.0
	for _, result := range r.Results {
		if result.Step == step {
			sum += result.Seconds
		}
	}
	return sum
}

func junitTime(seconds float64) string { return fmt.Sprintf("%.2f", seconds) }
