package smoke

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The guide's secret. Its value is nobody's.
const (
	secretName  = "kubernetes-the-hard-way"
	secretKey   = "mykey"
	secretValue = "mydata"
)

// secretStep makes a secret, reads it back, and looks how it is stored.
func (r *run) secretStep(ctx context.Context) {
	metrics := kubectlCall("get", "--raw", "/metrics")
	var before output
	if r.Etcdctl == "" {
		before = r.call(ctx, metrics, 0)
	}
	if _, ok := r.askAll(ctx, Secret, check{
		name: "created", judge: judgeMade,
		call: inNamespace(r.Namespace, "create", "secret", "generic", secretName, "--from-literal="+secretKey+"="+secretValue),
	}); !ok {
		return
	}
	stored := check{name: "encrypted, by the API server's count", call: metrics, judge: judgeTransformed(before)}
	if r.Etcdctl != "" {
		stored = check{name: "encrypted in etcd", call: r.etcd(), judge: judgeStored(r.Namespace, r.keys)}
	}
	r.askAll(ctx, Secret, check{
		name: "read back", judge: judgeSecret,
		call: inNamespace(r.Namespace, "get", "secret", secretName, "-o", "jsonpath={.data."+secretKey+"}"),
	}, stored)
}

// etcd reads the secret where it is stored.
func (r *run) etcd() call {
	return call{program: r.Etcdctl, args: []string{"get", "/registry/secrets/" + r.Namespace + "/" + secretName, "--write-out=json"}}
}

func judgeSecret(o output) finding {
	switch {
	case !o.ok():
		f := kubectlFault(o)
		if strings.Contains(f.detail, "Internal error") || strings.Contains(f.detail, "no matching") {
			f.cause = "the API server can't decrypt what it stored: its --encryption-provider-config has changed"
		}
		return f
	case string(decodeBase64(o.stdout)) != secretValue:
		return failed("the value that came back is another", "the API server serves a stale or foreign etcd", "kubectl get --raw '/readyz?verbose'")
	}
	return passed("the value came back")
}

// encryptionNext is the order of providers to have, and how old secrets are written
// anew.
var encryptionNext = []string{
	"sudo grep -E 'resources:|aescbc:|identity:' /var/lib/kubernetes/encryption-config.yaml",
	"kubectl get secrets -A -o json | kubectl replace -f -",
}

// judgeStored judges `etcdctl get --write-out=json`. What etcd has is in no message.
func judgeStored(namespace string, keys map[string][]byte) func(output) finding {
	return func(o output) finding {
		if !o.ok() {
			return failed(oneLine(o.said()), "etcdctl does not reach etcd, or may not (ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY)", "etcdctl endpoint health")
		}
		var response struct {
			KVs []struct {
				Value []byte `json:"value"`
			} `json:"kvs"`
		}
		if err := json.Unmarshal([]byte(o.stdout), &response); err != nil {
			return failed("what etcdctl printed is no JSON", "--etcdctl is another program", "etcdctl version")
		}
		if len(response.KVs) != 1 {
			return failed("the secret is not there", "this etcd is not the API server's, or that has another --etcd-prefix", "etcdctl get /registry --prefix --keys-only --limit 5")
		}
		s, err := parseStored(response.KVs[0].Value)
		if _, ok := errors.AsType[*notEncrypted](err); ok {
			return failed("etcd: "+err.Error(), "the API server's first provider for secrets is not aescbc (the first one writes; identity belongs last), or it runs without --encryption-provider-config", encryptionNext...)
		}
		if err != nil {
			return failed("etcd: "+err.Error(), "the value is damaged", "etcdctl endpoint status --write-out=table")
		}
		return judgeDecrypted(s, namespace, keys)
	}
}

func judgeDecrypted(s stored, namespace string, keys map[string][]byte) finding {
	text := fmt.Sprintf("etcd: %s%s:, 16 bytes, %d blocks of 16", aescbcPrefix, s.key, len(s.blocks)/16)
	if keys == nil {
		return passed("%s", text)
	}
	key, ok := keys[s.key]
	if !ok {
		return failed("etcd: the key's name is "+s.key+", which is not in the encryption configuration", "the file is not the one that the API server has", encryptionNext[0])
	}
	plain, err := s.decrypt(key)
	if err == nil && !(bytes.HasPrefix(plain, []byte("k8s\x00")) && bytes.Contains(plain, []byte(secretValue)) && bytes.Contains(plain, []byte(namespace))) {
		err = errors.New("what it gives is not the secret")
	}
	if err != nil {
		return failed("etcd: decrypting with "+s.key+": "+err.Error(), "the file is not the one that the API server has", encryptionNext[0])
	}
	return passed("%s; decrypted, it is the secret", text)
}

// transformation is a line of the API server's metrics
// (k8s.io/apiserver, pkg/storage/value/metrics.go). Before 1.28 it has no resource.
var transformation = regexp.MustCompile(`(?m)^apiserver_storage_transformation_operations_total\{(.*)\} (\d+(?:\.\d+)?(?:e\+\d+)?)$`)

// transformed counts what was written, by the prefix of its transformer. The empty
// prefix is identity's.
func transformed(metrics string) map[string]float64 {
	counts := map[string]float64{}
	for _, m := range transformation.FindAllStringSubmatch(metrics, -1) {
		labels := m[1]
		if !strings.Contains(labels, `transformation_type="to_storage"`) || !strings.Contains(labels, `status="OK"`) {
			continue
		}
		if strings.Contains(labels, "resource=") && !strings.Contains(labels, `resource="secrets"`) {
			continue
		}
		_, prefix, _ := strings.Cut(labels, `transformer_prefix="`)
		prefix, _, _ = strings.Cut(prefix, `"`)
		n, err := strconv.ParseFloat(m[2], 64)
		if err == nil {
			counts[prefix] += n
		}
	}
	return counts
}

// judgeTransformed wants the count of aescbc to have risen since before.
func judgeTransformed(before output) func(output) finding {
	return func(after output) finding {
		for _, o := range []output{before, after} {
			if !o.ok() {
				return kubectlFault(o)
			}
		}
		old, now := transformed(before.stdout), transformed(after.stdout)
		if now[aescbcPrefix] > old[aescbcPrefix] {
			return passed("%s: %.0f writes, %.0f before", aescbcPrefix, now[aescbcPrefix], old[aescbcPrefix])
		}
		var rose []string
		for prefix, n := range now {
			if n > old[prefix] && strings.HasPrefix(prefix, "k8s:enc:") {
				rose = append(rose, prefix)
			}
		}
		slices.Sort(rose)
		switch {
		case len(rose) > 0:
			return failed("the API server's count: written by "+strings.Join(rose, ", ")+", not "+aescbcPrefix, "the first provider for secrets is another", encryptionNext[0])
		case now[""] > old[""]:
			return failed("the API server's count: stored in the clear (by identity)", "identity stands before aescbc, and the first provider writes", encryptionNext...)
		}
		return failed("the API server's count: none encrypted the secret",
			"it runs without --encryption-provider-config, or this was the count of another API server than the one that wrote (--etcdctl looks into etcd)", encryptionNext...)
	}
}
