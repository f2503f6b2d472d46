package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// expand replaces each {NAME} of template by values[NAME]. There is no way to
// write a brace that is no placeholder: neither URLs nor versions have one.
func expand(template string, values map[string]string) (string, error) {
	var out strings.Builder
	rest := template
	for {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			out.WriteString(rest)
			return out.String(), nil
		}
		out.WriteString(rest[:i])
		if rest[i] == '}' {
			return "", fmt.Errorf("%q has a } without a {", template)
		}
		name, after, ok := strings.Cut(rest[i+1:], "}")
		if !ok {
			return "", fmt.Errorf("%q has a { without a }", template)
		}
		value, ok := values[name]
		if !ok {
			known := slices.Sorted(maps.Keys(values))
			if near := nearest(name, known); near != "" {
				return "", fmt.Errorf("unknown placeholder {%s} (did you mean {%s}?)", name, near)
			}
			return "", fmt.Errorf("unknown placeholder {%s} (known here: {%s})", name, strings.Join(known, "}, {"))
		}
		out.WriteString(value)
		rest = after
	}
}

// versionValues are the placeholders that stand for a component's version:
// {version} as written, {semver} without a leading v, and its first parts.
func versionValues(version string) map[string]string {
	semver := strings.TrimPrefix(version, "v")
	values := map[string]string{"version": version, "semver": semver}
	number, _, _ := strings.Cut(semver, "-")
	parts := strings.Split(number, ".")
	for i, name := range []string{"major", "minor", "patch"} {
		if i < len(parts) {
			values[name] = parts[i]
		}
	}
	return values
}
