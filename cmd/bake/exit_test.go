package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/verify"
)

func TestExitCode(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{t.Context(), nil, exitDone},
		{t.Context(), errors.New("x"), exitFailed},
		{t.Context(), &usageError{errors.New("x")}, exitUsage},
		{t.Context(), fmt.Errorf("doing: %w", &manifest.InputError{}), exitBadInput},
		{t.Context(), errors.Join(errors.New("x"), &manifest.ArgumentError{Err: errors.New("y")}), exitBadInput},
		{t.Context(), fmt.Errorf("doing: %w", &manifest.StaleError{}), exitStale},
		{t.Context(), &source.SupersededError{}, exitStale},
		{cancelled, errors.New("x"), exitInterrupted},
		{cancelled, &manifest.ArgumentError{Err: errors.New("y")}, exitInterrupted},
		{cancelled, nil, exitDone}, // too late to interrupt
	} {
		if got := exitCode(test.ctx, test.err); got != test.want {
			t.Errorf("exitCode(%v, %#v) = %d; want %d", test.ctx.Err(), test.err, got, test.want)
		}
	}
}

func TestReportGivesEachProblemALine(t *testing.T) {
	var b bytes.Buffer
	report(&b, messages(errors.Join(errors.New("one\n\n\ttwo"), errors.New("three")), false))
	if got, want := b.String(), "bake: one\nbake:   two\nbake: three\n"; got != want {
		t.Errorf("report = %q; want %q", got, want)
	}
}

// TestReportQuotes gives errors that quote what others wrote.
func TestReportQuotes(t *testing.T) {
	none := errors.New("dial: refused")
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"escape", fmt.Errorf("reading %s: %w", "a\x1b[2J\u202eb", none), `bake: reading a\x1b[2J\u202eb: dial: refused` + "\n"},
		{"line break", fmt.Errorf("reading %s: %w", "a\nbake: all is well", none), "bake: reading a\nbake:   bake: all is well: dial: refused\n"},
		{"problem", errors.Join(problem("a\nbake: all is well"), none), `bake: a\nbake: all is well` + "\nbake: dial: refused\n"},
		{"joined, and wrapped", fmt.Errorf("baking: %w", errors.Join(none, none)), "bake: baking: dial: refused\nbake: dial: refused\n"},
		{"text behind an error", fmt.Errorf("%w\nthe mirror has no more", none), "bake: dial: refused\nbake: the mirror has no more\n"},
		{"text and list", &usageError{fmt.Errorf("%w\nmissing:\n\ta\n\tb", none)}, "bake: dial: refused\nbake: missing:\nbake:   a\nbake:   b\n"},
		{"empty", fmt.Errorf("x%w", errors.New("")), "bake: x\n"},
	} {
		var b bytes.Buffer
		report(&b, messages(test.err, false))
		if got := b.String(); got != test.want {
			t.Errorf("%s: report(%q) = %q; want %q", test.name, test.err, got, test.want)
		}
	}
}

// TestVerifiedQuotes prints changes that an image's names are in.
func TestVerifiedQuotes(t *testing.T) {
	var b bytes.Buffer
	r := verified{Result: &verify.Result{
		SHA256:     "sha256:00",
		Difference: &verify.Difference{Partition: "root\x1b[2J", Path: "/a\nsha256:00 x: verified: rebuilt byte for byte", Offset: -1, DiskOffset: -1, What: "content"},
		Changes:    []record.Change{{Kind: "file", Name: "/\u202e\r\x9b", New: "symlink -> \x1b[1A"}},
	}}
	if err := r.print(&b, "x"); err != nil {
		t.Fatal(err)
	}
	want := `sha256:00 x: differs
  root\x1b[2J: /a\nsha256:00 x: verified: rebuilt byte for byte: content
  + file /\u202e\r\x9b symlink -> \x1b[1A
`
	if got := b.String(); got != want {
		t.Errorf("print = %q; want %q", got, want)
	}
}

func TestInterruptedCommandSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	err := run(ctx, &host{stdout: &out, stderr: &errs}, []string{"lint", "missing.tar.gz"})
	if err == nil || exitCode(ctx, err) != exitInterrupted || out.Len() > 0 {
		t.Errorf("run with a cancelled context = %v, printed %q; want an interruption and nothing printed", err, &out)
	}
}

// noParts is an error that may have others in it and has none.
type noParts struct{}

func (noParts) Error() string   { return "it is not there" }
func (noParts) Unwrap() []error { return nil }

func TestReportOfNoParts(t *testing.T) {
	var b bytes.Buffer
	report(&b, messages(fmt.Errorf("%w\nlook elsewhere", noParts{}), false))
	if got, want := b.String(), "bake: it is not there\nbake: look elsewhere\n"; got != want {
		t.Errorf("report = %q; want %q", got, want)
	}
}
