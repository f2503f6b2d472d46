//go:build !linux

package bake_test

import "errors"

func refuse(string) error { return errors.New("BUG: only on Linux") }
