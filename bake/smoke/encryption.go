package smoke

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// aescbcPrefix begins what the API server keeps in etcd where the provider aescbc
// encrypts it: the prefix, the key's name, a colon, 16 bytes of IV, and AES-CBC of
// the object with PKCS #7 padding (k8s.io/apiserver, encryptionconfig/config.go,
// encrypt/aes/aes.go).
const aescbcPrefix = "k8s:enc:aescbc:v1:"

// parseEncryption returns the keys of the provider aescbc in an
// EncryptionConfiguration (apiserver.config.k8s.io/v1), by name.
func parseEncryption(data []byte) (map[string][]byte, error) {
	if data == nil {
		return nil, nil
	}
	var config struct {
		Kind      string
		Resources []struct {
			Providers []struct {
				AESCBC *struct {
					Keys []struct{ Name, Secret string }
				} `yaml:"aescbc"`
			}
		}
	}
	if err := yaml.Unmarshal(data, &config); err != nil {
		return nil, errors.New("it is no YAML") // what is wrong with a line would quote it
	}
	if config.Kind != "EncryptionConfiguration" && config.Kind != "EncryptionConfig" {
		return nil, fmt.Errorf("its kind is %q: want EncryptionConfiguration", config.Kind)
	}
	keys := map[string][]byte{}
	for _, resource := range config.Resources {
		for _, provider := range resource.Providers {
			if provider.AESCBC == nil {
				continue
			}
			for _, key := range provider.AESCBC.Keys {
				secret, err := base64.StdEncoding.DecodeString(key.Secret)
				if err != nil {
					return nil, fmt.Errorf("the secret of key %s is no base64", key.Name)
				}
				if _, err := aes.NewCipher(secret); err != nil {
					return nil, fmt.Errorf("key %s has %d bytes: want 16, 24 or 32", key.Name, len(secret))
				}
				keys[key.Name] = secret
			}
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it has no key of the provider aescbc")
	}
	return keys, nil
}

// stored is a value in etcd, taken apart.
type stored struct {
	key        string // its name
	iv, blocks []byte
}

// notEncrypted is a value that aescbc did not write; it says what it is instead.
type notEncrypted struct{ is string }

func (e *notEncrypted) Error() string { return e.is }

// parseStored takes a value apart.
func parseStored(value []byte) (stored, error) {
	rest, ok := bytes.CutPrefix(value, []byte(aescbcPrefix))
	if !ok {
		return stored{}, &notEncrypted{describe(value)}
	}
	key, rest, ok := bytes.Cut(rest, []byte(":"))
	if !ok || len(key) == 0 || len(key) > 253 {
		return stored{}, errors.New("after " + aescbcPrefix + " there is no key's name")
	}
	if len(rest) < 2*aes.BlockSize || len(rest)%aes.BlockSize != 0 {
		return stored{}, fmt.Errorf("%d bytes follow the key's name: want 16 and whole blocks of 16", len(rest))
	}
	return stored{string(key), rest[:aes.BlockSize], rest[aes.BlockSize:]}, nil
}

// describe says how a value begins, without what may be secret in it.
func describe(value []byte) string {
	rest, ok := bytes.CutPrefix(value, []byte("k8s:enc:"))
	provider, _, more := bytes.Cut(rest, []byte(":"))
	switch {
	case ok && more && len(provider) < 20:
		return fmt.Sprintf("it is encrypted by %s", provider)
	case bytes.HasPrefix(value, []byte("k8s\x00")), bytes.HasPrefix(value, []byte("{")):
		return "it is stored in the clear"
	case len(value) == 0:
		return "it is not there"
	}
	return "it is nothing that the API server writes"
}

// decrypt returns the object in a value.
func (s stored) decrypt(key []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(s.blocks))
	cipher.NewCBCDecrypter(block, s.iv).CryptBlocks(plain, s.blocks)
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > aes.BlockSize || !bytes.Equal(plain[len(plain)-padding:], bytes.Repeat([]byte{byte(padding)}, padding)) {
		return nil, errors.New("the key does not fit")
	}
	return plain[:len(plain)-padding], nil
}
