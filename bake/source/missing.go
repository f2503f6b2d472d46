package source

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/gobuild"
)

// Missing is a component or container image that is unavailable as the versions
// file says, so that something else is made in its place.
type Missing struct {
	Name   string        `json:"name"`             // "component kubelet v1.36.3"
	Reason string        `json:"reason"`           // "its release is unavailable at https://...: 404 Not Found"
	Else   string        `json:"else"`             // what is made in its place: "k8s.io/kubernetes v1.36.3"
	Causes []fetch.Cause `json:"causes,omitempty"` // the reason, where it is that servers don't have the file, or can't be reached
}

// String says all that is known of m, in one line.
func (m Missing) String() string {
	return fmt.Sprintf("%s: %s; built from %s instead", m.Name, strings.ReplaceAll(m.Reason, "\n", "; "), m.Else)
}

// SayMissing says what is built and why, in one line: "7 releases are unavailable:
// no such host dl.k8s.io, github.com; built from source instead: kubelet, ...".
func SayMissing(missing []Missing) string {
	var causes []fetch.Cause
	var names []string
	releases, images := 0, 0
	for _, m := range missing {
		kind, name, _ := strings.Cut(m.Name, " ")
		name, _, _ = strings.Cut(name, " ") // the version is in the versions file
		names = append(names, name)
		if kind == "image" {
			images++
		} else {
			releases++
		}
		causes = append(causes, m.Causes...)
		if len(m.Causes) == 0 {
			causes = append(causes, fetch.Cause{What: m.Reason})
		}
	}
	return SayUnavailable(releases, images, causes, "built from source instead", names)
}

// SayUnavailable says that parts called names are unavailable and why, and what
// follows from that, if anything.
func SayUnavailable(releases, images int, causes []fetch.Cause, then string, names []string) string {
	why := fetch.SayCauses(causes)
	if then != "" {
		why += "; " + then
	}
	return fmt.Sprintf("%s unavailable: %s: %s", isAre(releases, images), why, strings.Join(names, ", "))
}

// isAre is the subject of a sentence, and its verb.
func isAre(releases, images int) string {
	subject := notNone(count(releases, "release"), count(images, "container image"))
	verb := " are"
	if releases+images == 1 {
		verb = " is"
	}
	return strings.Join(subject, " and ") + verb
}

func count(n int, what string) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func notNone(texts ...string) []string {
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" })
}

// Causes returns why err says that files are unavailable, or nil.
func Causes(err error) []fetch.Cause {
	unreachable := (*fetch.UnreachableError)(nil)
	if !errors.As(err, &unreachable) {
		return nil
	}
	causes, _ := unreachable.Causes()
	return causes
}

// PartError says that a component or container image is unavailable, and that
// nothing is made in its place.
type PartError struct {
	Image bool   // else it is a component
	Name  string // "kubelet"
	Why   string // nothing is made in its place, of several: "--build-missing would build them from source"
	Err   error  // all that is known of it
}

func (e *PartError) Error() string { return e.Err.Error() }
func (e *PartError) Unwrap() error { return e.Err }

// JoinParts is errors.Join. Of several parts that are unavailable because hosts
// can't be reached it makes one line; what a server answers is about one file, and
// keeps its own.
func JoinParts(errs ...error) error {
	type kind struct {
		image bool
		why   string
	}
	groups := map[kind][]*PartError{}
	of := func(err error) (kind, *PartError) {
		part := (*PartError)(nil)
		causes := Causes(err)
		isUp := func(c fetch.Cause) bool { return !c.Down }
		if !errors.As(err, &part) || len(causes) == 0 || slices.ContainsFunc(causes, isUp) {
			return kind{}, nil
		}
		return kind{part.Image, part.Why}, part
	}
	for _, err := range errs {
		if k, part := of(err); part != nil {
			groups[k] = append(groups[k], part)
		}
	}
	var out []error
	for _, err := range errs {
		k, part := of(err)
		switch {
		case part == nil || len(groups[k]) == 1:
			out = append(out, err)
		case part == groups[k][0]:
			out = append(out, groupParts(groups[k]))
		}
	}
	return errors.Join(out...)
}

func groupParts(parts []*PartError) error {
	g := &fetch.GroupError{}
	var causes []fetch.Cause
	var names []string
	for _, p := range parts {
		g.Errs = append(g.Errs, p)
		causes = append(causes, Causes(p)...)
		names = append(names, p.Name)
	}
	n, images := len(parts), 0
	if parts[0].Image {
		n, images = 0, n
	}
	g.Line = SayUnavailable(n, images, causes, parts[0].Why, names)
	return g
}

// semicolon puts what an error adds behind it.
func semicolon(text string) string {
	if text == "" {
		return ""
	}
	return "; " + text
}

// shortBuildError is err in fewer words where that is possible: without a network,
// the go command says so in several lines, of each module.
func shortBuildError(err error) error {
	if tool, ok := errors.AsType[*gobuild.MissingToolError](err); ok {
		return &otherWords{tool.Error(), err}
	}
	lookup := regexp.MustCompile(`lookup ([-a-zA-Z0-9.]+)(?: on [^ ]+)?: no such host`) // as package net says it
	if m := lookup.FindStringSubmatch(err.Error()); m != nil {
		return &otherWords{fetch.SayCauses([]fetch.Cause{{What: "no such host", Host: m[1]}}), err}
	}
	return err
}

// otherWords is an error in other words.
type otherWords struct {
	text string
	err  error
}

func (e *otherWords) Error() string { return e.text }
func (e *otherWords) Unwrap() error { return e.err }
