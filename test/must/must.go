// Package must is for calls of tests that can't fail, whatever the code under
// test does. It panics where one does.
package must

// Get returns what a call returned.
func Get[T any](v T, err error) T {
	Do(err)
	return v
}

// Do checks what a call returned.
func Do(err error) {
	if err != nil {
		panic(err)
	}
}
