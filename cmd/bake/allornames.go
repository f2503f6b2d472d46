package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// allOrNames is the value of a flag that stands alone or before names, with commas
// between them.
type allOrNames struct {
	of    string // what has the names: "packages"
	on    bool
	names []string // empty: all
}

// add adds the flag to f.
func (a *allOrNames) add(f *pflag.FlagSet, name, usage string) {
	f.Var(a, name, usage)
	f.Lookup(name).NoOptDefVal = "true"
}

// Set implements pflag.Value.
func (a *allOrNames) Set(text string) error {
	switch text {
	case "true":
		a.on, a.names = true, nil
	case "false":
		a.on, a.names = false, nil
	default:
		names := strings.Split(text, ",")
		if slices.Contains(names, "") {
			return fmt.Errorf("want names of %s, with commas between them", a.of)
		}
		a.on, a.names = true, append(a.names, names...)
	}
	return nil
}

// String implements pflag.Value.
func (a *allOrNames) String() string {
	if len(a.names) > 0 {
		return strings.Join(a.names, ",")
	}
	return strconv.FormatBool(a.on)
}

// Type implements pflag.Value. Of a bool, help shows no value that is meant where
// none is given.
func (a *allOrNames) Type() string { return "bool" }
