package gobuild

import (
	"runtime"
	"slices"
	"strings"
)

// Programs that a build runs get those variables of the user's environment that
// are named here. What else is there, such as the tokens of a CI or the password
// of a key that signs, is none of theirs, and settings that could change the
// result are made by newGo and sysroot.env alone.

// hostVariables are those of every program.
func hostVariables() []string {
	return []string{
		"PATH", "HOME", "USER", "LOGNAME",
		"SYSTEMROOT", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA", // Windows
	}
}

// fetchVariables are those of programs that fetch modules, beside hostVariables:
// the way to the network, and who the user is there.
func fetchVariables() []string {
	return []string{
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
		"SSL_CERT_FILE", "SSL_CERT_DIR",
		"XDG_CONFIG_HOME", "XDG_CACHE_HOME", // what `go env -w` wrote, git's configuration, GOCACHE
		"NETRC", "SSH_AUTH_SOCK", "SSH_ASKPASS",
		"GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH",
		"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_ALLOW_PROTOCOL",
	}
}

// pick returns the variables of env that have one of names.
func pick(env []string, names ...string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if slices.ContainsFunc(names, func(n string) bool {
			return n == name || runtime.GOOS == "windows" && strings.EqualFold(n, name)
		}) {
			out = append(out, kv)
		}
	}
	return out
}
