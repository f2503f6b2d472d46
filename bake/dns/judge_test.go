package dns

import (
	"fmt"
	"strings"
	"testing"
)

// Pods as the API describes them, written by hand; what is not read is left out.
const (
	podReady   = `{"metadata": {"name": "coredns-1"}, "spec": {"nodeName": "worker-0", "containers": [{"image": "i"}]}, "status": {"podIP": "10.200.0.2", "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}], "containerStatuses": [{"ready": true, "restartCount": 0, "state": {"running": {"startedAt": "x"}}}]}}`
	podStarts  = `{"metadata": {"name": "coredns-2"}, "spec": {"nodeName": "worker-1", "containers": [{"image": "i"}]}, "status": {"conditions": [{"type": "PodScheduled", "status": "True"}], "containerStatuses": [{"ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]}}`
	podRuns    = `{"metadata": {"name": "coredns-2"}, "spec": {"nodeName": "worker-1", "containers": [{"image": "i"}]}, "status": {"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}], "containerStatuses": [{"ready": false, "restartCount": 0, "state": {"running": {}}}]}}`
	podNowhere = `{"metadata": {"name": "coredns-2"}, "spec": {"containers": [{"image": "i"}]}, "status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: 1 node(s) had untolerated taint(s)."}]}}`
	podNew     = `{"metadata": {"name": "coredns-2"}, "spec": {"nodeName": "worker-1", "containers": [{"image": "i"}]}, "status": {"conditions": [{"type": "PodScheduled", "status": "True"}]}}`
	podPulls   = `{"metadata": {"name": "coredns-2"}, "spec": {"nodeName": "worker-1", "containers": [{"image": "i"}]}, "status": {"containerStatuses": [{"ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull", "message": "failed to pull and unpack image"}}}]}}`
	podBackOff = `{"metadata": {"name": "coredns-2"}, "spec": {"nodeName": "worker-1", "containers": [{"image": "i"}]}, "status": {"containerStatuses": [{"ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"i\""}}}]}}`
	podCrashes = `{"metadata": {"name": "coredns-2"}, "spec": {"nodeName": "worker-1", "containers": [{"image": "i"}]}, "status": {"containerStatuses": [{"ready": false, "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}}}]}}`
	podEnded   = `{"metadata": {"name": "coredns-2"}, "spec": {"nodeName": "worker-1", "containers": [{"image": "i"}]}, "status": {"containerStatuses": [{"ready": false, "restartCount": 1, "state": {"terminated": {"reason": "Error", "exitCode": 1}}}]}}`
	podConfig  = `{"metadata": {"name": "coredns-2"}, "spec": {"nodeName": "worker-1", "containers": [{"image": "i"}]}, "status": {"containerStatuses": [{"ready": false, "restartCount": 0, "state": {"waiting": {"reason": "CreateContainerError", "message": "no such\nprofile"}}}]}}`
)

// event is a warning about the second pod.
func event(reason, message string) string {
	return fmt.Sprintf(`{"type": "Warning", "reason": %q, "message": %q, "lastTimestamp": "2026-11-27T10:00:00Z", "involvedObject": {"name": "coredns-2"}}`, reason, message)
}

func snapshotOf(t *testing.T, available int, pods []string, events ...string) snapshot {
	t.Helper()
	var s snapshot
	deployments, err := parseList[deploymentObject](fmt.Appendf(nil, `{"kind": "Deployment", "metadata": {"name": "coredns", "generation": 2}, "spec": {"replicas": 2},
"status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": %d}}`, available))
	if err != nil {
		t.Fatal(err)
	}
	s.deployment = deployments[0]
	if s.pods, err = parseList[podObject]([]byte(`{"items": [` + strings.Join(pods, ",") + `]}`)); err != nil {
		t.Fatal(err)
	}
	if s.events, err = parseList[eventObject]([]byte(`{"items": [` + strings.Join(events, ",") + `]}`)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestState(t *testing.T) {
	t.Parallel()
	const one = "1 of 2 replicas are available; "
	for _, test := range []struct {
		name   string
		pod    string
		events []string
		want   string
		failed string
	}{
		{"starts", podStarts, nil, one + "coredns-2 on worker-1: ContainerCreating", ""},
		{"starts without a network", podStarts, []string{event("FailedCreatePodSandBox", "Failed to create pod sandbox: plugin type=\"bridge\" failed"), strings.Replace(event("Old", "older"), "10:00", "09:00", 1), strings.Replace(event("Other", "of another"), "coredns-2", "x", 1)},
			one + `coredns-2 on worker-1: ContainerCreating: Failed to create pod sandbox: plugin type="bridge" failed`, ""},
		{"runs", podRuns, nil, one + "coredns-2 on worker-1 runs and is not ready", ""},
		{"finds no node", podNowhere, nil, one + "coredns-2 is on no node: 0/1 nodes are available: 1 node(s) had untolerated taint(s).", ""},
		{"just made", podNew, nil, one + "coredns-2 on worker-1 waits for its node", ""},
		{"ended", podEnded, nil, one + "coredns-2 on worker-1 ended with 1: Error", ""},
		{"pulls", podPulls, nil, one + "coredns-2 on worker-1: ErrImagePull: failed to pull and unpack image", ""},
		{"can't pull", podBackOff, []string{event("Failed", "Error: ErrImagePull"), event("Failed", `Failed to pull image "i": rpc error: no such host`), event("BackOff", "Back-off pulling image")},
			one + `coredns-2 on worker-1: ImagePullBackOff: Back-off pulling image "i"`,
			`coredns-2 on worker-1: its image is not there and can't be pulled: Failed to pull image "i": rpc error: no such host (--image names one that the nodes have)`},
		{"can't pull, and nobody says why", podBackOff, nil, one + `coredns-2 on worker-1: ImagePullBackOff: Back-off pulling image "i"`,
			`coredns-2 on worker-1: its image is not there and can't be pulled: Back-off pulling image "i" (--image names one that the nodes have)`},
		{"can't be made", podConfig, nil, one + "coredns-2 on worker-1: CreateContainerError: no such profile", "coredns-2 on worker-1 can't be made: no such profile"},
		{"crashes", podCrashes, nil, one + "coredns-2 on worker-1: CrashLoopBackOff: back-off 20s restarting failed container", ""},
	} {
		s := snapshotOf(t, 1, []string{podReady, test.pod}, test.events...)
		failed := ""
		if err := s.failed("i"); err != nil {
			failed = err.Error()
		}
		if got := s.state(); got != test.want || failed != test.failed || s.done() {
			t.Errorf("%s: state = %s, failed: %s, done: %t; want %s, %s", test.name, got, failed, s.done(), test.want, test.failed)
		}
		if err := s.failed("another"); err != nil {
			t.Errorf("%s: a pod that is to be replaced fails with %v", test.name, err)
		}
		if _, crashes := s.crashes(map[string]int{}); crashes != (test.name == "crashes") {
			t.Errorf("%s: crashes = %t", test.name, crashes)
		}
		if _, crashes := s.crashes(map[string]int{"coredns-2": 1}); crashes {
			t.Errorf("%s: it crashed before", test.name)
		}
		if p, stuck := s.stuck(); stuck != (test.name == "runs") || stuck && p.Metadata.Name != "coredns-2" {
			t.Errorf("%s: stuck = %s, %t", test.name, p.Metadata.Name, stuck)
		}
	}
	s := snapshotOf(t, 0, nil)
	s.deployment.Status.Conditions = []condition{{Type: "ReplicaFailure", Status: "True", Message: "pods \"coredns-\" is forbidden:\n quota"}}
	if got, want := s.state(), `0 of 2 replicas are available; pods "coredns-" is forbidden: quota`; got != want {
		t.Errorf("state = %s; want %s", got, want)
	}
}

func TestDone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		change func(*deploymentObject)
		want   bool
	}{
		{func(*deploymentObject) {}, true},
		{func(d *deploymentObject) { d.Status.ObservedGeneration = 1 }, false},
		{func(d *deploymentObject) { d.Status.Updated = 1 }, false},
		{func(d *deploymentObject) { d.Status.Available = 1 }, false},
		{func(d *deploymentObject) { d.Status.Replicas = 3 }, false}, // an old one is there
	} {
		s := snapshotOf(t, 2, nil)
		test.change(&s.deployment)
		if got := s.done(); got != test.want {
			t.Errorf("done() of %+v = %t; want %t", s.deployment, got, test.want)
		}
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	nodes := nodesOf("a v1.36.3 True", "b v1.36.3 False", "c v1.36.3 True", "d v1.36.3 Unknown")
	nodes[2].Spec.Unschedulable = true
	nodes[3].Status.Conditions = nil
	for i, want := range []string{"", "b is not Ready: KubeletNotReady: no network plugin", "c takes no pods (kubectl uncordon c)", "d has not said yet how it is"} {
		if n := nodes[i]; n.ready() != (want == "") || want != "" && n.why() != want {
			t.Errorf("ready() of %s = %t, %s; want %q", n.Metadata.Name, n.ready(), n.why(), want)
		}
	}
}

// TestCause reads logs of CoreDNS.
func TestCause(t *testing.T) {
	t.Parallel()
	for log, want := range map[string]string{
		"[INFO] plugin/kubernetes: waiting\n[ERROR] plugin/kubernetes: Unhandled Error\" err=\"failed to list *v1.Namespace: Get \\\"https://10.32.0.1:443/api/v1/namespaces\\\": dial tcp 10.32.0.1:443: i/o timeout\"\n[INFO] x": "from its node pods don't reach the API server at 10.32.0.1:443: is kube-proxy running there, and is the API server's address right (kubectl get endpoints kubernetes)?",
		"dial tcp 10.32.0.1:443: connect: no route to host\n":                                                                                "from its node pods don't reach the API server at 10.32.0.1:443: is kube-proxy running there, and is the API server's address right (kubectl get endpoints kubernetes)?",
		"[FATAL] plugin/loop: Loop (127.0.0.1:51234 -> :53) detected for zone \".\", see https://coredns.io/plugins/loop#troubleshooting.\n": "it asks itself: kubelet's resolvConf there leads back to the node's own resolver (want /run/systemd/resolve/resolv.conf)",
		"failed to list *v1.EndpointSlice: endpointslices.discovery.k8s.io is forbidden: User \"system:serviceaccount:kube-system:coredns\" cannot list resource \"endpointslices\" in API group \"discovery.k8s.io\" at the cluster scope": "its role does not let it list endpointslices (kubectl describe clusterrole system:coredns)",
		"Get \"https://10.32.0.1:443/version\": tls: failed to verify certificate: x509: certificate is valid for 10.240.0.10, 127.0.0.1, not 10.32.0.1":                                                                                    "the API server's certificate is for 10.240.0.10, 127.0.0.1, and not for its service's address 10.32.0.1",
		"tls: failed to verify certificate: x509: certificate signed by unknown authority":                                                                                                                                                  "another CA signed the API server's certificate than the one that pods are given (--root-ca-file of the controller manager)",
		"failed to list *v1.Service: Unauthorized\n":                                   "the API server does not take its service account's token (--service-account-key-file, and the controller manager's --service-account-private-key-file)",
		"one\n/etc/coredns/Corefile:3 - Error during parsing: Unknown directive 'x'\n": "its log ends with: /etc/coredns/Corefile:3 - Error during parsing: Unknown directive 'x'",
		" \n": "",
	} {
		if got := cause(log); got != want {
			t.Errorf("cause(%s) = %s; want %s", log, got, want)
		}
	}
}

func TestTogether(t *testing.T) {
	t.Parallel()
	for want, replicas := range map[string][]Replica{
		"worker-0": {{Node: "worker-0"}, {Node: "worker-0"}},
		"":         {{Node: "worker-0"}, {Node: "worker-1"}},
	} {
		if got := together(replicas); got != want {
			t.Errorf("together(%v) = %q; want %q", replicas, got, want)
		}
	}
	if got := together([]Replica{{Node: "worker-0"}}) + together(nil); got != "" {
		t.Errorf("together of one, or none = %q; want nothing", got)
	}
}
