package smoke

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nodebake/bake/bake/manifest"
)

// The guide's images, for clusters whose nodes have none of their own.
const (
	guideNginx   = "docker.io/library/nginx"
	guideBusybox = "docker.io/library/busybox"
)

// chooseImage returns the image called name that all nodes have, one that bake
// assembled before others, and the newest of several; or else fallback.
func chooseImage(nodes []node, name, fallback string) string {
	count := map[string]int{}
	for _, n := range nodes {
		images := slices.Clone(n.images)
		slices.Sort(images)
		for _, image := range slices.Compact(images) {
			if repository, tag, ok := cutTag(image); ok && tag != "" && strings.HasSuffix(repository, "/"+name) {
				count[image]++
			}
		}
	}
	best := ""
	for image, n := range count {
		if n == len(nodes) && (best == "" || betterImage(image, best)) {
			best = image
		}
	}
	if best == "" {
		return fallback
	}
	return best
}

func betterImage(a, b string) bool {
	const ours = "bake.invalid/"
	if x, y := strings.HasPrefix(a, ours), strings.HasPrefix(b, ours); x != y {
		return x
	}
	return a > b
}

// cutTag takes an image's name apart. A name by digest has no tag.
func cutTag(image string) (repository, tag string, ok bool) {
	if strings.Contains(image, "@") {
		return "", "", false
	}
	i := strings.LastIndexByte(image, ':')
	if i <= strings.LastIndexByte(image, '/') {
		return image, "", true
	}
	return image[:i], image[i+1:], true
}

// fullName is an image's name as nodes list it.
func fullName(image string) string {
	first, _, slash := strings.Cut(image, "/")
	switch {
	case !slash:
		image = "docker.io/library/" + image
	case !strings.ContainsAny(first, ".:") && first != "localhost":
		image = "docker.io/" + image
	}
	if repository, tag, ok := cutTag(image); ok && tag == "" {
		image = repository + ":latest"
	}
	return image
}

// targets are the nodes that get a pod.
func targets(nodes []node) []node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n node) bool { return n.notReady != "" || n.taint != "" })
}

// nodeLabel of a pod is the number of its node, by which its own Service finds it.
const nodeLabel = "smoke-node"

// The ports of the pods.
const (
	nginxPort = 80
	testPort  = 8080
)

// serve is what the second container does: a web server that gives 1 MiB, and tells
// who asks. A shell that has applets built in calls busybox itself one, without a path.
// An image may have no links to applets: each is called by busybox.
const serve = `set -e
www=${TMPDIR:-/tmp}/www
busybox mkdir -p "$www/cgi-bin"
cd "$www"
printf '#!%s sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n%%s\\n" "$REMOTE_ADDR"\n' "$(busybox readlink /proc/self/exe)" >cgi-bin/source
busybox chmod +x cgi-bin/source
busybox yes bake-smoke | busybox head -c 1048576 >mebibyte
exec busybox httpd -f -p 8080
`

// objects are what the steps about pods need: a pod for each node, and a Service
// for each pod. The guide's nginx is one container, what asks others is beside it.
func objects(nodes []node, nginx, busybox string) string {
	var terms []object // matchFields takes one name in each
	for _, n := range nodes {
		terms = append(terms, object{"matchFields": []object{{"key": "metadata.name", "operator": "In", "values": []string{n.name}}}})
	}
	labels := object{"app": "nginx"}
	containers := []object{
		{
			"name": "nginx", "image": nginx, "imagePullPolicy": "IfNotPresent",
			"ports":          []object{{"containerPort": nginxPort}},
			"readinessProbe": object{"tcpSocket": object{"port": nginxPort}, "periodSeconds": 2},
		},
		{
			"name": "busybox", "image": busybox, "imagePullPolicy": "IfNotPresent",
			"command":        []string{"busybox", "sh", "-c", serve},
			"ports":          []object{{"containerPort": testPort}},
			"readinessProbe": object{"tcpSocket": object{"port": testPort}, "periodSeconds": 2},
		},
	}
	spec := object{
		"automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 1,
		"containers": containers,
		"affinity": object{
			"nodeAffinity": object{"requiredDuringSchedulingIgnoredDuringExecution": object{"nodeSelectorTerms": terms}},
			"podAntiAffinity": object{"requiredDuringSchedulingIgnoredDuringExecution": []object{
				{"labelSelector": object{"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"},
			}},
		},
	}
	items := []object{{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": "nginx"},
		"spec": object{
			"replicas": len(nodes), "selector": object{"matchLabels": labels},
			"template": object{"metadata": object{"labels": labels}, "spec": spec},
		},
	}}
	for i := range nodes {
		items = append(items, object{
			"apiVersion": "v1", "kind": "Service", "metadata": object{"name": serviceName(i)},
			"spec": object{
				"type": "NodePort", "selector": object{nodeLabel: strconv.Itoa(i)},
				"ports": []object{{"name": "nginx", "port": nginxPort}, {"name": "test", "port": testPort}},
			},
		})
	}
	return encode(object{"apiVersion": "v1", "kind": "List", "items": items})
}

func serviceName(number int) string { return "nginx-" + strconv.Itoa(number) }

// createPods makes a pod for every node that can have one.
func (r *run) createPods(ctx context.Context) bool {
	nodes := targets(r.nodes)
	if len(nodes) == 0 {
		r.add(Deployment, outcome{
			check: check{name: "pods", call: kubectlCall("get", "nodes")}, status: Failed,
			finding: failed("no node can have a pod", "none is Ready and without taints", "kubectl describe nodes"),
		})
		return false
	}
	r.NginxImage = or(r.NginxImage, chooseImage(nodes, "nginx", guideNginx))
	r.BusyboxImage = or(r.BusyboxImage, chooseImage(nodes, "busybox", guideBusybox))
	create := inNamespace(r.Namespace, "create", "-f", "-")
	create.stdin = objects(nodes, r.NginxImage, r.BusyboxImage)
	return r.make(ctx, Deployment, check{name: "objects", call: create, judge: judgeMade, limit: makeTime})
}

// awaitPods waits for them. It is false where there is none to ask in.
func (r *run) awaitPods(ctx context.Context) bool {
	r.rollOut(ctx, targets(r.nodes))
	return len(r.places) > 0 && r.labelPods(ctx)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// rollOut waits for the pods.
func (r *run) rollOut(ctx context.Context, nodes []node) {
	c := check{
		name:  "rolled out",
		call:  inNamespace(r.Namespace, "get", "pods", "-l", "app=nginx", "-o", "json"),
		judge: judgeRollout(r.Namespace, nodes),
	}
	var pods []pod
	o := r.poll(ctx, c, waitTime, func(out output) bool {
		pods, _ = parsePods(out.stdout) // judge says what is wrong with it
		return isRolling(pods, len(nodes))
	})
	for i, n := range nodes {
		for _, p := range pods {
			if p.node == n.name && p.ready && p.ip.IsValid() {
				r.places = append(r.places, place{node: n, pod: p, number: i})
			}
		}
	}
	r.add(Deployment, o)
	if len(r.places) > 0 {
		r.imageCheck(ctx)
	}
}

// isRolling says whether waiting can help.
func isRolling(pods []pod, want int) bool {
	ready := 0
	for _, p := range pods {
		if p.fatal {
			return false
		}
		if p.ready {
			ready++
		}
	}
	return ready < want
}

func judgeRollout(namespace string, nodes []node) func(output) finding {
	return func(o output) finding {
		if !o.ok() {
			return kubectlFault(o)
		}
		pods, err := parsePods(o.stdout)
		if err != nil {
			return failed(err.Error(), "kubectl printed something else", "kubectl version")
		}
		var on, problems []string
		cause, next := "", []string{"kubectl -n " + namespace + " get events"}
		for _, p := range pods {
			if p.ready {
				on = append(on, p.node)
				continue
			}
			waiting := or(p.waiting, "it is not ready yet")
			problems = append(problems, fmt.Sprintf("pod %s on %s: %s", p.name, or(p.node, "no node"), waiting))
			if cause == "" {
				cause = whyWaiting(waiting)
				next = []string{"kubectl -n " + namespace + " describe pod " + p.name}
			}
		}
		if len(on) >= len(nodes) {
			return passed("a pod on each of %s", strings.Join(on, ", "))
		}
		if len(problems) == 0 {
			problems, cause = []string{fmt.Sprintf("%d of %d pods", len(on), len(nodes))}, "kube-controller-manager does not run, or may not make pods"
		}
		return failed(strings.Join(problems, "; "), cause, next...)
	}
}

// whyWaiting is the likely cause of a pod that waits.
func whyWaiting(why string) string {
	has := func(text string) bool { return strings.Contains(why, text) }
	switch {
	case has("ErrImagePull"), has("ImagePullBackOff"), has("ErrImageNeverPull"):
		return "the node does not have the image, and no registry gives it (--nginx-image and --busybox-image name others)"
	case has("InvalidImageName"):
		return "that is no image's name (--nginx-image, --busybox-image)"
	case has("CrashLoopBackOff"), has("RunContainerError"), has("CreateContainerError"):
		return "the image's program does not run here: for another architecture, or busybox is not in it"
	case has("Unschedulable"), has("nodes are available"):
		return "the scheduler finds no place for it"
	case has("PodInitializing"), has("ContainerCreating"):
		return "containerd does not come to start it: its network or its sandbox image fails"
	}
	return "the scheduler or the node's kubelet does not come to it"
}

// imageCheck says where images were pulled, and refuses that where they were there.
func (r *run) imageCheck(ctx context.Context) {
	r.askAll(ctx, Deployment, check{
		name:  "images",
		call:  inNamespace(r.Namespace, "get", "events", "-o", "json"),
		judge: judgeImages(r.places, r.NginxImage, r.BusyboxImage),
	})
}

func judgeImages(places []place, images ...string) func(output) finding {
	return func(o output) finding {
		var list eventList
		if !o.ok() {
			return kubectlFault(o)
		}
		if err := json.Unmarshal([]byte(o.stdout), &list); err != nil {
			return failed("reading events: "+err.Error(), "kubectl printed something else", "kubectl version")
		}
		var pulled []string
		for _, e := range list.Items {
			if e.Reason != "Pulled" || strings.Contains(e.Message, "already present on machine") {
				continue
			}
			i := slices.IndexFunc(places, func(p place) bool { return p.pod.name == e.InvolvedObject.Name })
			if i < 0 {
				continue
			}
			for _, image := range images {
				if !strings.Contains(e.Message, `"`+image+`"`) {
					continue
				}
				if slices.Contains(places[i].images, fullName(image)) {
					return failed(fmt.Sprintf("%s pulled %s, which it has", places[i].name, image), "the image's content is not whole there, or a policy wants it pulled",
						"kubectl get node "+places[i].name+" -o jsonpath='{.status.images}'")
				}
				pulled = append(pulled, image+" on "+places[i].name)
			}
		}
		slices.Sort(pulled)
		if len(pulled) > 0 {
			return passed("pulled: %s", strings.Join(slices.Compact(pulled), ", "))
		}
		return passed("%s; none pulled", strings.Join(images, ", "))
	}
}

// labelPods gives each pod the label by which its Service finds it, and reads the
// services.
func (r *run) labelPods(ctx context.Context) bool {
	var checks []check
	for _, p := range r.places {
		label := nodeLabel + "=" + strconv.Itoa(p.number)
		checks = append(checks, check{
			name: "service of " + p.name, judge: judgeMade,
			call: inNamespace(r.Namespace, "label", "pod", p.pod.name, label),
		})
	}
	checks = append(checks, check{name: "services", call: inNamespace(r.Namespace, "get", "services", "-o", "json"), judge: func(o output) finding {
		if !o.ok() {
			return kubectlFault(o)
		}
		var err error
		if r.services, err = parseServices(o.stdout); err != nil {
			return failed(err.Error(), "kubectl printed something else", "kubectl version")
		}
		return passed("one for each pod")
	}})
	failures := slices.DeleteFunc(r.ask(ctx, checks...), func(o outcome) bool { return o.status == Passed })
	r.add(Deployment, failures...)
	return len(failures) == 0
}

func parseServices(text string) (map[string]service, error) {
	var list serviceList
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("reading services: %w", err)
	}
	services := map[string]service{}
	for _, item := range list.Items {
		var s service
		s.ip, _ = netip.ParseAddr(item.Spec.ClusterIP) // "None" has none
		for _, p := range item.Spec.Ports {
			if p.Name == "nginx" {
				s.nodePort = p.NodePort
			}
		}
		services[item.Metadata.Name] = s
	}
	return services, nil
}

// execStep has a program run in each pod. Where that fails, so does all that is asked
// in pods, for the same reason.
func (r *run) execStep(ctx context.Context) {
	var checks []check
	for _, p := range r.places {
		checks = append(checks, execCheck(r.Namespace, p))
	}
	r.noteBroken(r.askAll(ctx, Deployment, checks...))
}

// deploymentStep asks the rest of what the guide asks of its deployment.
func (r *run) deploymentStep(ctx context.Context) {
	p, skip := r.places[0], ""
	for _, other := range r.places {
		if skip = r.broken[other.name]; skip == "" {
			p = other
			break
		}
	}
	var version []outcome
	var side sync.WaitGroup
	side.Go(func() {
		version = r.ask(ctx, check{
			name: "exec nginx -v", skip: skip, judge: inPod(p, judgeNginx),
			call: inNamespace(r.Namespace, "exec", p.pod.name, "-c", "nginx", "--", "nginx", "-v"),
		})
	})
	forward := r.askForward(ctx, p, skip)
	logs := r.ask(ctx, check{
		name: "logs", skip: skip, judge: judgeLogs(p), tries: 3,
		call: inNamespace(r.Namespace, "logs", p.pod.name, "-c", "nginx"),
	})
	side.Wait()
	r.add(Deployment, version[0], forward, logs[0])
}

// execCheck sends a line to a program in the pod, which must come back.
func execCheck(namespace string, p place) check {
	const line = "from bake smoke"
	c := inNamespace(namespace, "exec", "-i", p.pod.name, "-c", "busybox", "--", "busybox", "cat")
	c.stdin = line + "\n"
	return check{
		name: "exec on " + p.name, call: c, tries: 2,
		judge: inPod(p, func(o output) finding {
			if o.ok() && strings.TrimSpace(o.stdout) == line {
				return passed("its input came back")
			}
			return failed(fmt.Sprintf("cat gave %q for its input", o.stdout), "the stream to "+p.name+" loses data", "kubectl -n "+namespace+" describe pod "+p.pod.name)
		}),
	}
}

func judgeNginx(o output) finding {
	if text := oneLine(o.stderr + o.stdout); o.ok() && strings.Contains(text, "nginx version: ") {
		return passed("%s", last(text, "nginx version: "))
	}
	return failed(oneLine(o.said()), "the image has no nginx in its PATH (--nginx-image names another)", "kubectl get nodes -o wide")
}

// askForward asks nginx through `kubectl port-forward`.
func (r *run) askForward(ctx context.Context, p place, skip string) outcome {
	c := check{name: "port-forward", skip: skip, call: inNamespace(r.Namespace, "port-forward", "pod/"+p.pod.name, ":"+strconv.Itoa(nginxPort))}
	o := outcome{check: c, status: Skipped, finding: finding{detail: "not tried: " + skip}}
	began := r.Now()
	for try := 1; skip == "" && try <= 2 && ctx.Err() == nil; try++ {
		out := r.forward(ctx, "pod/"+p.pod.name)
		o.status = Failed
		if o.finding = judgeForward(p, out); o.passed {
			o.status = Passed
			break
		}
	}
	if ctx.Err() != nil && o.status == Skipped {
		o.detail = "not tried: " + context.Cause(ctx).Error()
	}
	o.took = r.Now().Sub(began)
	return o
}

func judgeForward(p place, o output) finding {
	if o.ok() {
		return judgeHTTP(o, "nginx on "+p.name)
	}
	if strings.Contains(o.stderr, "unable to listen on any of the requested ports") {
		return failed(oneLine(o.said()), "no port of 127.0.0.1 is free", manifest.Command("ss", "-ltn"))
	}
	if o.err != nil && strings.TrimSpace(o.stderr) != "" {
		o.err, o.code = nil, 1 // kubectl says more
	}
	return kubeletFault(p, o)
}

// judgeHTTP wants an answer of 200.
func judgeHTTP(o output, what string) finding {
	status, rest, _ := strings.Cut(o.stdout, "\n")
	if strings.Contains(status, " 200 ") {
		return passed("%s, %s", status, oneLine(rest))
	}
	return failed(what+" answers "+status, "nginx has no page to give, or another server answers", "kubectl get pods -A -o wide")
}

// judgeLogs wants the line of the request that came by port-forward.
func judgeLogs(p place) func(output) finding {
	return func(o output) finding {
		if !o.ok() {
			return kubeletFault(p, o)
		}
		for line := range strings.Lines(o.stdout) {
			if strings.Contains(line, "HEAD / HTTP/") {
				return passed("%s", strings.TrimSpace(line))
			}
		}
		return failed("no line about the request that came by port-forward", "nginx logs to files in its image, or nothing came to it", "kubectl get pods -A -o wide")
	}
}
