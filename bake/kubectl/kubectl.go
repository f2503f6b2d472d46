// Package kubectl runs the user's kubectl, and says in one line why it failed.
//
// It has no client of its own: what a person could type is what is run, with the
// same kubeconfig, proxies and credential plugins.
package kubectl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Kubectl is a kubectl and the cluster that it talks to.
type Kubectl struct {
	Path       string   // of the program
	Kubeconfig string   // "": what kubectl itself finds
	CacheDir   string   // for what it learns about API servers; "": kubectl's own
	Env        []string // os.Environ()
}

// requestTime is how long a server may take to answer one request of Run.
const requestTime = "20s"

// Error is a kubectl that failed.
type Error struct {
	Args   []string
	Stderr string // all that it wrote there
	Err    error  // how it ended
}

func (e *Error) Error() string {
	message := e.Message()
	if message == "" {
		message = e.Err.Error()
	}
	return "kubectl " + verb(e.Args) + ": " + message
}

func (e *Error) Unwrap() error { return e.Err }

// Message is what kubectl said, in one line: its last error, without log lines
// and warnings.
func (e *Error) Message() string {
	log := regexp.MustCompile(`^[IWEF][0-9]{4} [0-9:.]+ `)
	message, more := "", 0
	for line := range strings.Lines(e.Stderr) {
		line = strings.TrimSpace(line)
		if line == "" || log.MatchString(line) || strings.HasPrefix(line, "Warning: ") {
			continue
		}
		if message == "" {
			message = strings.TrimPrefix(line, "error: ")
		} else {
			more++
		}
	}
	if more > 0 {
		message = fmt.Sprintf("%s (and %d more)", message, more)
	}
	return message
}

// verb is what a command is about, without its flags.
func verb(args []string) string {
	var words []string
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			break
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// Run runs kubectl with input, which may be nil, and returns what it prints. A
// kubectl that fails is an *Error.
func (k Kubectl) Run(ctx context.Context, input []byte, args ...string) ([]byte, error) {
	out, err := run(ctx, k.command(ctx, append([]string{"--request-timeout=" + requestTime}, args...)), input)
	if err != nil {
		err = &Error{args, out.Stderr, err}
	}
	return []byte(out.Stdout), err
}

// Ask is Run for who judges what kubectl says: that it fails is no error, and it has
// as long as ctx. An error is about kubectl itself, or why ctx ended.
func (k Kubectl) Ask(ctx context.Context, input []byte, args ...string) (Output, error) {
	return ask(ctx, k.command(ctx, args), input)
}

// Versions are those of a kubectl and of the server that it reached.
type Versions struct{ Client, Server Version }

// Version is a release of Kubernetes.
type Version struct{ Major, Minor int }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Skewed says whether kubectl is more than a minor version away from the server,
// which Kubernetes does not support
// (kubernetes.io/releases/version-skew-policy).
func (v Versions) Skewed() bool {
	return v.Client.Major != v.Server.Major || max(v.Client.Minor-v.Server.Minor, v.Server.Minor-v.Client.Minor) > 1
}

// ParseVersions reads what `kubectl version -o json` prints.
func ParseVersions(out []byte) (Versions, error) {
	type release struct {
		GitVersion string `json:"gitVersion"`
	}
	var answer struct {
		Client release `json:"clientVersion"`
		Server release `json:"serverVersion"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return Versions{}, fmt.Errorf("reading what kubectl version prints: %w", err)
	}
	client, err := ParseVersion(answer.Client.GitVersion)
	if err != nil {
		return Versions{}, err
	}
	server, err := ParseVersion(answer.Server.GitVersion)
	return Versions{client, server}, err
}

// ParseVersion reads "v1.36.3", and "v1.36.3-gke.1".
func ParseVersion(text string) (Version, error) {
	m := regexp.MustCompile(`^v?([0-9]{1,4})\.([0-9]{1,4})\b`).FindStringSubmatch(text)
	if m == nil {
		return Version{}, fmt.Errorf("%q is no version of Kubernetes", text)
	}
	major, majorErr := strconv.Atoi(m[1])
	minor, minorErr := strconv.Atoi(m[2])
	return Version{major, minor}, errors.Join(majorErr, minorErr)
}
