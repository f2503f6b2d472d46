package smoke

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// said returns the line in which kubectl says why it failed: the last that is no
// warning and nothing of its log.
func (o output) said() string {
	if o.err != nil {
		return o.err.Error()
	}
	said := ""
	for line := range strings.Lines(o.stderr) {
		line = strings.TrimSpace(line)
		if line != "" && !logLine.MatchString(line) && !strings.HasPrefix(line, "Warning: ") && !strings.HasPrefix(line, "Defaulted container ") {
			said = line
		}
	}
	if said == "" {
		return fmt.Sprintf("exit code %d, and nothing said", o.code)
	}
	return said
}

var logLine = regexp.MustCompile(`^[EWI]\d{4} \d\d:\d\d:\d\d`)

// accessProblem is what keeps kubectl from the API server, and what to do about it.
func accessProblem(o output) string {
	said := o.said()
	has := func(text string) bool { return strings.Contains(said, text) }
	switch {
	case has("was refused - did you specify"):
		server := strings.TrimPrefix(said, "The connection to the server ")
		server, _, _ = strings.Cut(server, " was refused")
		return "nothing listens at " + server + ", its API server's address (is the control plane running?)"
	case has("x509: certificate signed by unknown authority"):
		return "the API server's certificate is not by the CA in it (take the CA of this cluster: bake kubeconfig create --ca-dir)"
	case has("x509: certificate is valid for"), has("doesn't contain any IP SANs"):
		return "the API server's certificate is not for this address (" + last(said, "x509: ") + "): take an address that it names, or issue another"
	case has("x509: certificate has expired"):
		return "a certificate is not valid now (" + last(said, "x509: ") + ")"
	case has("no such host"):
		return "its server's name has no address (" + last(said, "lookup ") + ")"
	case has("You must be logged in to the server"), has("Unauthorized"):
		return "the API server does not know its user (bake kubeconfig create makes one that it knows)"
	case said == "error: EOF": // it asks for a name and a password
		return "it has no credentials (bake kubeconfig create makes them)"
	case has("(Forbidden)"):
		return "its user may not do this (" + last(said, "(Forbidden): ") + "): the smoke test needs an administrator"
	case has("error loading config file"):
		return "it is no kubeconfig: " + last(said, `": `)
	case has("context was not found"), has("cannot locate context"):
		return "its current context is not in it (kubectl config use-context names another)"
	case has("current-context must exist"), has("current-context is not set"):
		return "it has no current context (kubectl config use-context names one)"
	case o.err != nil, has("Unable to connect to the server"), has("i/o timeout"), has("deadline exceeded"):
		return "the API server does not answer: " + strings.TrimPrefix(said, "Unable to connect to the server: ")
	}
	return strings.TrimPrefix(said, "error: ")
}

// last is what stands behind the last mark.
func last(text, mark string) string {
	if i := strings.LastIndex(text, mark); i >= 0 {
		return text[i+len(mark):]
	}
	return text
}

// kubectlFault is a command that failed for what kubectl or the API server says.
func kubectlFault(o output) finding {
	if strings.Contains(o.said(), "(NotFound)") || strings.Contains(o.said(), "(AlreadyExists)") {
		return failed(o.said(), "somebody else made or deleted it meanwhile", "kubectl get events -A --sort-by .lastTimestamp")
	}
	return failed(o.said(), accessProblem(o), "kubectl get --raw '/readyz?verbose'")
}

// ended is kubectl's line about a program in a pod that failed.
var ended = regexp.MustCompile(`command terminated with exit code (\d+)`)

// inPod judges what a program in a pod printed, where it ran at all: or else it is
// the way to the pod that fails.
func inPod(p place, judge func(output) finding) func(output) finding {
	return func(o output) finding {
		if o.ok() {
			return judge(o)
		}
		m := ended.FindStringSubmatch(o.stderr)
		if m == nil {
			return kubeletFault(p, o)
		}
		o.code, _ = strconv.Atoi(m[1])
		o.stderr = strings.TrimSpace(strings.Replace(o.stderr, m[0], "", 1))
		return judge(o)
	}
}

// isAccess says whether a finding is about the way to the pod.
func (f finding) isAccess() bool { return strings.HasPrefix(f.cause, accessCause) }

// isBadServer says whether a finding is about what a pod answers, and not about the way
// to it.
func (f finding) isBadServer() bool { return strings.HasPrefix(f.cause, badServerCause) }

// accessCause begins the causes of what keeps the API server from a kubelet.
const accessCause = "the API server can't use the kubelet"

// roleCommand gives the API server what the guide's RBAC step gives it.
const roleCommand = "kubectl create clusterrolebinding system:kube-apiserver --clusterrole system:kubelet-api-admin --user kubernetes"

// kubeletFault is a stream to a pod, or its logs, that did not begin: the API server
// asks the kubelet of its node for them, at port 10250.
func kubeletFault(p place, o output) finding {
	said := oneLine(o.said())
	cause := func(text string) string { return fmt.Sprintf("%s of %s: %s", accessCause, p.name, text) }
	has := func(text string) bool { return strings.Contains(said, text) }
	look := "gcloud compute ssh " + p.name + " --command 'sudo journalctl -u kubelet -n 50'"
	switch {
	case has("Forbidden (user="):
		user := last(said, "Forbidden (user=")
		user, _, _ = strings.Cut(user, ",")
		return failed(said, cause("user "+user+" has no role for it (the guide's system:kube-apiserver-to-kubelet)"),
			strings.Replace(roleCommand, "--user kubernetes", "--user "+user, 1))
	case has("x509: certificate is valid for"), has("x509: cannot validate certificate"):
		return failed(said, cause("its serving certificate is for another host"),
			fmt.Sprintf("bake node %s --ip %s ...", p.name, p.internal))
	case has("x509: certificate signed by unknown authority"):
		return failed(said, cause("its serving certificate is by another CA than --kubelet-certificate-authority"),
			fmt.Sprintf("bake node %s --ca-dir DIR ...", p.name))
	case has("Unauthorized"):
		return failed(said, cause("it does not trust the API server's client certificate (another CA)"), look)
	case has("no such host"):
		return failed(said, cause("its name has no address where the API server runs (--kubelet-preferred-address-types=InternalIP)"),
			"kubectl get node "+p.name+" -o wide")
	case has("connection refused"):
		return failed(said, cause("nothing listens there, or the machine is gone"), "kubectl describe node "+p.name, look)
	case has("i/o timeout"), has("deadline exceeded"), has("no route to host"), has("no answer within"), has("502"):
		return failed(said, cause("its port 10250 is not reached: a firewall, or the machine is gone"),
			"kubectl describe node "+p.name,
			firewallCommand("allow-internal", "tcp,udp,icmp", "10.240.0.0/24,10.200.0.0/16"))
	case has("(NotFound)"):
		return failed(said, "the pod is gone: somebody deleted it, or its node was lost", "kubectl get events -A --sort-by .lastTimestamp")
	}
	return failed(said, cause("it says no more"), look)
}

// network is the guide's name of the network, which begins the names of its rules.
const network = "kubernetes-the-hard-way"

// firewallCommand makes a rule of the guide's network.
func firewallCommand(name, allow, sources string) string {
	text := fmt.Sprintf("gcloud compute firewall-rules create %s-%s --allow=%s --network %s", network, name, allow, network)
	if sources != "" {
		text += " --source-ranges " + sources
	}
	return text
}
