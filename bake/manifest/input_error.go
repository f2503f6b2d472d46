package manifest

import "fmt"

// InputError is one mistake in a file that a person can edit. The functions
// that parse return all they found, joined; errors.As finds the first.
type InputError struct {
	Pos     Pos
	Key     string // from the top of the file: "components.kubelet.release.url"; "" for the file as a whole
	Problem string // with the remedy in parentheses where there is one
}

// Error has the form FILE:LINE:COLUMN: KEY: PROBLEM (REMEDY).
func (e *InputError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s: %s", e.Pos, e.Problem)
	}
	return fmt.Sprintf("%s: %s: %s", e.Pos, e.Key, e.Problem)
}

// String writes p as compilers do, FILE:LINE:COLUMN, for editors to follow.
func (p Pos) String() string {
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// ArgumentError is a mistake in what a person gave that has no line to point at,
// such as a file that is not there.
type ArgumentError struct{ Err error }

func (e *ArgumentError) Error() string { return e.Err.Error() }

func (e *ArgumentError) Unwrap() error { return e.Err }
