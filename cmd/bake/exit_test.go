package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/manifest"
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
		{t.Context(), errors.Join(errors.New("x"), &bake.InputError{Err: errors.New("y")}), exitBadInput},
		{t.Context(), fmt.Errorf("doing: %w", &manifest.StaleError{}), exitStale},
		{t.Context(), &bake.SupersededError{}, exitStale},
		{cancelled, errors.New("x"), exitInterrupted},
		{cancelled, &bake.InputError{Err: errors.New("y")}, exitInterrupted},
		{cancelled, nil, exitDone}, // too late to interrupt
	} {
		if got := exitCode(test.ctx, test.err); got != test.want {
			t.Errorf("exitCode(%v, %#v) = %d; want %d", test.ctx.Err(), test.err, got, test.want)
		}
	}
}

func TestReportGivesEachProblemALine(t *testing.T) {
	var b bytes.Buffer
	report(&b, errors.Join(errors.New("one\n\n\ttwo"), errors.New("three")))
	if got, want := b.String(), "bake: one\nbake: two\nbake: three\n"; got != want {
		t.Errorf("report = %q; want %q", got, want)
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
