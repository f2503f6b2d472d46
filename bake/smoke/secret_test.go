package smoke

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// encrypted is what the API server keeps of a secret (k8s.io/apiserver, aes.go).
func encrypted(t testing.TB, key []byte, plain string) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	data := append([]byte(plain), bytes.Repeat([]byte{byte(padding)}, padding)...)
	iv := []byte("0123456789abcdef")
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)
	return append(append([]byte(aescbcPrefix+"key1:"), iv...), data...)
}

func etcdctl(value []byte) output {
	return printed(`{"header":{"revision":7},"kvs":[{"key":"eA==","value":"` + base64.StdEncoding.EncodeToString(value) + `"}],"count":1}`)
}

func TestJudgeStored(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, 32)
	const plain = "k8s\x00\n\x0c\n\x02v1\x12\x06Secret\x12 kubernetes-the-hard-way ns mykey mydata"
	right := encrypted(t, key, plain)
	keys := map[string][]byte{"key1": key}
	next := " | " + strings.Join(encryptionNext, " ; ")
	const order = " | the API server's first provider for secrets is not aescbc (the first one writes; identity belongs last), or it runs without --encryption-provider-config"
	for _, test := range []struct {
		name string
		keys map[string][]byte
		out  output
		want string
	}{
		{"encrypted", nil, etcdctl(right), "passed: etcd: k8s:enc:aescbc:v1:key1:, 16 bytes, 4 blocks of 16"},
		{"decrypted", keys, etcdctl(right), "passed: etcd: k8s:enc:aescbc:v1:key1:, 16 bytes, 4 blocks of 16; decrypted, it is the secret"},
		{"another key", map[string][]byte{"key1": bytes.Repeat([]byte{8}, 32)}, etcdctl(right), "failed: etcd: decrypting with key1: the key does not fit | the file is not the one that the API server has | " + encryptionNext[0]},
		{"a key of another name", map[string][]byte{"key2": key}, etcdctl(right), "failed: etcd: the key's name is key1, which is not in the encryption configuration | the file is not the one that the API server has | " + encryptionNext[0]},
		{"another object", keys, etcdctl(encrypted(t, key, "k8s\x00another")), "failed: etcd: decrypting with key1: what it gives is not the secret | the file is not the one that the API server has | " + encryptionNext[0]},
		{"in the clear", keys, etcdctl([]byte(plain)), "failed: etcd: it is stored in the clear" + order + next},
		{"by another provider", keys, etcdctl([]byte("k8s:enc:secretbox:v1:key1:xxxx")), "failed: etcd: it is encrypted by secretbox" + order + next},
		{"half a block", keys, etcdctl(right[:len(right)-8]), "failed: etcd: 72 bytes follow the key's name: want 16 and whole blocks of 16 | the value is damaged | etcdctl endpoint status --write-out=table"},
		{"nothing", keys, printed(`{"header":{"revision":7}}`), "failed: the secret is not there | this etcd is not the API server's, or that has another --etcd-prefix | etcdctl get /registry --prefix --keys-only --limit 5"},
		{"no JSON", keys, printed("k8s:enc"), "failed: what etcdctl printed is no JSON | --etcdctl is another program | etcdctl version"},
		{"no etcd", keys, refused("Error: context deadline exceeded"), "failed: Error: context deadline exceeded | etcdctl does not reach etcd, or may not (ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY) | etcdctl endpoint health"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := text(judgeStored("ns", test.keys)(test.out))
			if got != test.want {
				t.Errorf("judged:\n%s\nwant:\n%s", got, test.want)
			}
			if strings.Contains(got, secretValue) {
				t.Errorf("the value is in what is said: %s", got)
			}
		})
	}
}

// metrics are lines of the API server's, of 1.36 and of 1.24.
func metrics(prefix string, n int) output {
	const name = "apiserver_storage_transformation_operations_total"
	return printed(fmt.Sprintf("# TYPE %[1]s counter\n"+
		`%[1]s{resource="secrets",status="OK",transformation_type="from_storage",transformer_prefix="k8s:enc:aescbc:v1:"} 99`+"\n"+
		`%[1]s{resource="secrets",status="OK",transformation_type="to_storage",transformer_prefix="key1:"} 99`+"\n"+
		`%[1]s{resource="secrets",status="OK",transformation_type="to_storage",transformer_prefix="%[2]s"} %[3]d`+"\n"+
		`%[1]s{resource="configmaps",status="OK",transformation_type="to_storage",transformer_prefix=""} %[3]d`+"\n", name, prefix, n))
}

func TestJudgeTransformed(t *testing.T) {
	t.Parallel()
	const old = `apiserver_storage_transformation_operations_total{status="OK",transformation_type="to_storage",transformer_prefix="k8s:enc:aescbc:v1:"} `
	next := " | " + strings.Join(encryptionNext, " ; ")
	for _, test := range []struct {
		name          string
		before, after output
		want          string
	}{
		{"encrypted", metrics(aescbcPrefix, 7), metrics(aescbcPrefix, 8), "passed: k8s:enc:aescbc:v1:: 8 writes, 7 before"},
		{"1.24", printed(old + "1e+06\n"), printed(old + "1.000001e+06\n"), "passed: k8s:enc:aescbc:v1:: 1000001 writes, 1000000 before"},
		{"in the clear", metrics("", 7), metrics("", 8), "failed: the API server's count: stored in the clear (by identity) | identity stands before aescbc, and the first provider writes" + next},
		{"by another", metrics("k8s:enc:kms:v2:", 7), metrics("k8s:enc:kms:v2:", 8), "failed: the API server's count: written by k8s:enc:kms:v2:, not k8s:enc:aescbc:v1: | the first provider for secrets is another | " + encryptionNext[0]},
		{"not at all", metrics(aescbcPrefix, 7), metrics(aescbcPrefix, 7), "failed: the API server's count: none encrypted the secret | it runs without --encryption-provider-config, or this was the count of another API server than the one that wrote (--etcdctl looks into etcd)" + next},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := text(judgeTransformed(test.before)(test.after)); got != test.want {
				t.Errorf("judged:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// encryptionConfig is the guide's.
const encryptionConfig = `kind: EncryptionConfig
apiVersion: v1
resources:
  - resources:
      - secrets
    providers:
      - aescbc:
          keys:
            - name: key1
              secret: BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=
      - identity: {}
`

func TestParseEncryption(t *testing.T) {
	t.Parallel()
	keys, err := parseEncryption([]byte(encryptionConfig))
	if err != nil || !bytes.Equal(keys["key1"], bytes.Repeat([]byte{7}, 32)) {
		t.Errorf("parseEncryption = %v, %v; want key1", keys, err)
	}
	for _, test := range []struct{ old, new, want string }{
		{"kind: EncryptionConfig", "kind: Pod", `its kind is "Pod": want EncryptionConfiguration`},
		{"aescbc:", "secretbox:", "it has no key of the provider aescbc"},
		{"secret: BwcH", "secret: '*'", "it is no YAML"},
		{"Bwc=", "Bw==", "key key1 has 31 bytes: want 16, 24 or 32"},
		{"Bwc=", "B", "the secret of key key1 is no base64"},
	} {
		_, err := parseEncryption([]byte(strings.Replace(encryptionConfig, test.old, test.new, 1)))
		if err == nil || err.Error() != test.want {
			t.Errorf("parseEncryption with %q = %v; want %s", test.new, err, test.want)
		}
	}
}

func FuzzParseEncryption(f *testing.F) {
	f.Add([]byte(encryptionConfig))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseEncryption(data)
		if err == nil && data != nil && len(keys) == 0 {
			t.Errorf("parseEncryption(%q) gives no key, and no error", data)
		}
	})
}

func FuzzParseStored(f *testing.F) {
	f.Add(encrypted(f, bytes.Repeat([]byte{7}, 32), "k8s\x00"))
	f.Add([]byte("k8s:enc:kms:v2:x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseStored(data)
		if err == nil && (len(s.iv) != aes.BlockSize || len(s.blocks) == 0 || len(s.blocks)%aes.BlockSize != 0) {
			t.Errorf("parseStored(%q) = %d bytes of IV, %d of blocks", data, len(s.iv), len(s.blocks))
		}
	})
}
