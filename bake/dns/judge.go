package dns

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// snapshot is the add-on as it is at a moment.
type snapshot struct {
	deployment deploymentObject
	pods       []podObject // but for those that are being deleted
	events     []eventObject
}

// done says whether every replica is of the newest objects, and available.
func (s snapshot) done() bool {
	d := s.deployment
	return d.Status.ObservedGeneration >= d.Metadata.Generation && d.Status.Updated == d.Spec.Replicas &&
		d.Status.Replicas == d.Spec.Replicas && d.Status.Available == d.Spec.Replicas
}

// state says how far it is, and what each replica that is not ready is at.
func (s snapshot) state() string {
	parts := []string{fmt.Sprintf("%d of %d replicas are available", s.deployment.Status.Available, s.deployment.Spec.Replicas)}
	if c := find(s.deployment.Status.Conditions, "ReplicaFailure"); c.Status == "True" {
		parts = append(parts, oneLine(c.Message))
	}
	for _, p := range s.pods {
		if what := s.at(p); what != "" {
			parts = append(parts, what)
		}
	}
	return strings.Join(parts, "; ")
}

// at says what a pod is at that is not ready.
func (s snapshot) at(p podObject) string {
	if find(p.Status.Conditions, "Ready").Status == "True" {
		return ""
	}
	if c := find(p.Status.Conditions, "PodScheduled"); c.Status == "False" {
		return fmt.Sprintf("%s is on no node: %s", p.Metadata.Name, oneLine(c.Message))
	}
	name := p.Metadata.Name
	if p.Spec.NodeName != "" {
		name += " on " + p.Spec.NodeName
	}
	if len(p.Status.ContainerStatuses) == 0 {
		return s.withEvent(p, name+" waits for its node")
	}
	switch c := p.Status.ContainerStatuses[0]; {
	case c.State.Waiting != nil && c.State.Waiting.Message != "":
		return fmt.Sprintf("%s: %s: %s", name, c.State.Waiting.Reason, oneLine(c.State.Waiting.Message))
	case c.State.Waiting != nil:
		return s.withEvent(p, fmt.Sprintf("%s: %s", name, c.State.Waiting.Reason))
	case c.State.Terminated != nil:
		return fmt.Sprintf("%s ended with %d: %s", name, c.State.Terminated.ExitCode, c.State.Terminated.Reason)
	}
	return name + " runs and is not ready"
}

// withEvent adds the last warning about a pod, which says why it waits: a network
// that is not there, for one.
func (s snapshot) withEvent(p podObject, text string) string {
	if e := s.lastWarning(p); e.Message != "" {
		return text + ": " + oneLine(e.Message)
	}
	return text
}

func (s snapshot) lastWarning(p podObject, reasons ...string) eventObject {
	var last eventObject
	for _, e := range s.events {
		if e.Involved.Name == p.Metadata.Name && e.Type == "Warning" && (len(reasons) == 0 || slices.Contains(reasons, e.Reason)) && !e.Last.Before(last.Last) {
			last = e
		}
	}
	return last
}

// failed says what will not become right by waiting: an image that is unavailable,
// or a container that can't be made. It is seen in the pod's state and its events.
// Pods with another image are those that are about to be replaced.
func (s snapshot) failed(image string) error {
	for _, p := range s.pods {
		for _, c := range p.Status.ContainerStatuses {
			if c.State.Waiting == nil || !p.uses(image) {
				continue
			}
			switch c.State.Waiting.Reason {
			case "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName":
				why := c.State.Waiting.Message
				if e := s.lastWarning(p, "Failed", "InspectFailed", "ErrImageNeverPull"); strings.Contains(e.Message, "pull") && strings.Contains(e.Message, ":") {
					why = e.Message
				}
				return fmt.Errorf("%s on %s: its image is not there and can't be pulled: %s (--image names one that the nodes have)", p.Metadata.Name, p.Spec.NodeName, oneLine(why))
			case "CreateContainerConfigError", "CreateContainerError":
				return fmt.Errorf("%s on %s can't be made: %s", p.Metadata.Name, p.Spec.NodeName, oneLine(c.State.Waiting.Message))
			}
		}
	}
	return nil
}

// crashes returns a pod whose container ends again and again: twice since it was
// looked at first.
func (s snapshot) crashes(before map[string]int) (podObject, bool) {
	i := slices.IndexFunc(s.pods, func(p podObject) bool { return p.restarts() >= before[p.Metadata.Name]+2 })
	if i < 0 {
		return podObject{}, false
	}
	return s.pods[i], true
}

func (p podObject) restarts() int {
	n := 0
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

func (p podObject) uses(image string) bool {
	return slices.ContainsFunc(p.Spec.Containers, func(c container) bool { return c.Image == image })
}

// stuck returns a pod that runs and is not ready, whose log may say why.
func (s snapshot) stuck() (podObject, bool) {
	for _, p := range s.pods {
		running := slices.ContainsFunc(p.Status.ContainerStatuses, func(c containerStatus) bool {
			return !c.Ready && c.State.Waiting == nil && c.State.Terminated == nil
		})
		if running {
			return p, true
		}
	}
	return podObject{}, false
}

// cause says what CoreDNS's log means, in the end its last line.
func cause(log string) string {
	for _, known := range []struct{ pattern, means string }{
		{`dial tcp ([0-9.]+:[0-9]+): (?:i/o timeout|connect: .*)`, "from its node pods don't reach the API server at $1: is kube-proxy running there, and is the API server's address right (kubectl get endpoints kubernetes)?"},
		{`Loop \([^)]*\) detected for zone`, "it asks itself: kubelet's resolvConf there leads back to the node's own resolver (want /run/systemd/resolve/resolv.conf)"},
		{`cannot list resource "([a-z]+)"`, "its role does not let it list $1 (kubectl describe clusterrole system:coredns)"},
		{`x509: certificate is valid for (.*), not ([0-9.]+)`, "the API server's certificate is for $1, and not for its service's address $2"},
		{`x509: certificate signed by unknown authority`, "another CA signed the API server's certificate than the one that pods are given (--root-ca-file of the controller manager)"},
		{`: Unauthorized$`, "the API server does not take its service account's token (--service-account-key-file, and the controller manager's --service-account-private-key-file)"},
	} {
		re := regexp.MustCompile(`(?m)` + known.pattern)
		if m := re.FindStringSubmatchIndex(log); m != nil {
			return string(re.ExpandString(nil, known.means, log, m))
		}
	}
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if last := oneLine(lines[len(lines)-1]); last != "" {
		return "its log ends with: " + last
	}
	return ""
}

// Replica is one of the pods that answer.
type Replica struct {
	Pod  string `json:"pod"`
	Node string `json:"node"`
	IP   string `json:"ip"`
}

func (s snapshot) replicas() []Replica {
	var all []Replica
	for _, p := range s.pods {
		all = append(all, Replica{p.Metadata.Name, p.Spec.NodeName, p.Status.PodIP})
	}
	slices.SortFunc(all, func(a, b Replica) int { return strings.Compare(a.Pod, b.Pod) })
	return all
}

// together returns the node that all of several replicas are on, or "".
func together(replicas []Replica) string {
	for _, r := range replicas {
		if r.Node != replicas[0].Node {
			return ""
		}
	}
	if len(replicas) < 2 {
		return ""
	}
	return replicas[0].Node
}
