package main

import (
	"strings"
	"testing"
)

func TestCheckProxies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env  map[string]string
		want string // the variable that is wrong; "": none
	}{
		{nil, ""},
		{map[string]string{"HTTP_PROXY": "http://user:s3cr%t@proxy:3128"}, "HTTP_PROXY"},
		{map[string]string{"http_proxy": "http://user:s3cr%t@proxy:3128"}, "http_proxy"},
		{map[string]string{"HTTPS_PROXY": "http://user:s3cr%t@proxy:3128"}, "HTTPS_PROXY"},
		{map[string]string{"https_proxy": "user:s3cr%t@proxy:3128"}, "https_proxy"},
		{map[string]string{"HTTP_PROXY": "http://user:s3cr%25t@proxy:3128"}, ""},
		{map[string]string{"HTTP_PROXY": "http://proxy:3128", "http_proxy": "s3cr%t"}, ""}, // which nobody reads
		{map[string]string{"HTTP_PROXY": "proxy:3128", "HTTPS_PROXY": "socks5://[::1]:1080"}, ""},
		{map[string]string{"HTTP_PROXY": "proxy"}, ""},
		{map[string]string{"HTTP_PROXY": "ftp://s3cr3t@proxy"}, "HTTP_PROXY"},
		{map[string]string{"HTTP_PROXY": "http://"}, "HTTP_PROXY"},
		{map[string]string{"HTTP_PROXY": "http://s3cr3t proxy"}, "HTTP_PROXY"},
	} {
		err := checkProxies(func(name string) string { return test.env[name] })
		switch {
		case test.want == "" && err != nil:
			t.Errorf("checkProxies(%v) = %v; want nil", test.env, err)
		case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want+" is not the URL of a proxy") || strings.Contains(err.Error(), "s3cr")):
			t.Errorf("checkProxies(%v) = %v; want an error that names %s and not its value", test.env, err, test.want)
		}
	}
}
