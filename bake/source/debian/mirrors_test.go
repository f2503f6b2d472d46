package debian

import (
	"errors"
	"io/fs"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func apt(lines ...string) fs.FS {
	return fstest.MapFS{"etc/apt/sources.list": {Data: []byte(strings.Join(lines, "\n") + "\n")}}
}

func TestMirrors(t *testing.T) {
	tests := []struct {
		name  string
		given []string
		host  fs.FS
		want  MirrorList
	}{
		{"nothing", nil, nil, nil},
		{"no Debian", nil, fstest.MapFS{}, nil},
		{"one for both", []string{"https://mirror.example"}, nil, MirrorList{
			{"debian", "https://mirror.example/debian"}, {"debian-security", "https://mirror.example/debian-security"}}},
		{"one for both, deeper", []string{"http://mirror.example:3142/pub/"}, nil, MirrorList{
			{"debian", "http://mirror.example:3142/pub/debian"}, {"debian-security", "http://mirror.example:3142/pub/debian-security"}}},
		{"each its own", []string{"debian=https://a.example/debian/", "debian-security=https://b.example/security"}, nil, MirrorList{
			{"debian", "https://a.example/debian"}, {"debian-security", "https://b.example/security"}}},
		{"snapshot", []string{"debian=https://snapshot.example/archive/debian/20261101T000000Z", "debian-security=https://snapshot.example/archive/debian-security/20261101T000000Z/"}, nil, MirrorList{
			{"debian", "https://snapshot.example/archive/debian/20261101T000000Z"},
			{"debian-security", "https://snapshot.example/archive/debian-security/20261101T000000Z"}}},
		{"given ones first, each once", []string{"debian=http://b.example/debian"}, apt("deb http://a.example/debian trixie main", "deb http://b.example/debian/ trixie main", "deb http://a.example/debian trixie-updates main"),
			MirrorList{{"debian", "http://b.example/debian"}, {"debian", "http://a.example/debian"}}},
		{"host's own", nil, apt("deb http://mirror.example/debian trixie main", "deb https://mirror.example/debian-security trixie-security main"),
			MirrorList{{"debian", "http://mirror.example/debian"}, {"debian-security", "https://mirror.example/debian-security"}}},
		{"host on a snapshot", nil, apt("deb [check-valid-until=no] http://snapshot.example/archive/debian/20261101T000000Z trixie main"),
			MirrorList{{"debian", "http://snapshot.example/archive/debian/20261101T000000Z"}}},
		{"old name of a security suite", nil, apt("deb http://mirror.example/debian-security buster/updates main"), MirrorList{{"debian-security", "http://mirror.example/debian-security"}}},
		{"others", nil, apt(
			"deb cdrom:[Debian GNU/Linux 13]/ trixie main",
			"deb file:/srv/debian trixie main",
			"deb tor+http://onion.example/debian trixie main",
			"deb http://mirror.example/ubuntu noble main",
			"deb http://ppa.example/team/ppa/ubuntu noble main",
			"deb http://mirror.example/debian-ports sid main",
			"deb http://mirror.example/debian-backports trixie main",
			"deb https://download.vendor.example/linux/debian trixie stable",
			"deb [signed-by=/etc/apt/keyrings/vendor.gpg] https://dl.vendor.example/builds/debian trixie main",
			"deb https://pkgs.vendor.example/debian ./",
			"deb https://pkgs.vendor.example/debian node_20.x main",
			"deb http://mirror.example/$(ARCH)/debian trixie main",
			"deb http://mirror.example/debian?x trixie main",
			"deb http:///debian trixie main",
		), nil},
		{"Debian's keyring", nil, apt("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian trixie main"), MirrorList{{"debian", "http://mirror.example/debian"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Mirrors(test.given, test.host)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Mirrors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMirrorsErrors(t *testing.T) {
	tests := []struct{ given, want string }{
		{"", "not a URL of http"},
		{"mirror.example", "not a URL of http"},
		{"ftp://mirror.example/", "not a URL of http"},
		{"http://", "not a URL of http"},
		{"ubuntu=http://mirror.example/ubuntu", `no archive "ubuntu" (want debian or debian-security)`},
		{"debian=", "not a URL of http"},
		{"debian=debian=http://x", "not a URL of http"},
		{"http://mirror.example/debian", "give debian=URL, or the URL of the directory above debian/"},
		{"http://mirror.example/debian-security/", "give debian-security=URL"},
		{"https://snapshot.example/archive/debian/20261101T000000Z", "give debian=URL"},
		{"http://mirror.example/?debian=1", "neither ? nor #"},
		{"http://mirror.example/\x7f", "not a URL of http"},
		{"http://mirror.example/#", "neither ? nor #"},
	}
	for _, test := range tests {
		if _, err := Mirrors([]string{test.given}, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Mirrors(%q): error is %v; want %q", test.given, err, test.want)
		}
	}
	if _, err := Mirrors([]string{"http://user:secret@mirror.example/debian"}, nil); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Mirrors: error %v shows a password", err)
	}
}

func TestMirrorListURLs(t *testing.T) {
	list, err := Mirrors([]string{"debian=http://a.example/debian", "http://b.example"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := list.URLs("debian", "pool/main/g/gcc/libstdc++6_14_amd64.deb")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"http://a.example/debian/pool/main/g/gcc/libstdc%2b%2b6_14_amd64.deb", "http://b.example/debian/pool/main/g/gcc/libstdc%2b%2b6_14_amd64.deb"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("URLs (-want +got):\n%s", diff)
	}
	_, err = list[:1].URLs("debian-security", "x")
	if none, ok := errors.AsType[*NoMirrorError](err); !ok || none.Archive != "debian-security" || !strings.Contains(err.Error(), "--debian-mirror debian-security=URL") {
		t.Errorf("URLs of an archive without a mirror: error is %v", err)
	}
}

// FuzzMirrors checks that no configuration makes a mirror that is not a URL.
func FuzzMirrors(f *testing.F) {
	f.Add("http://mirror.example", "deb http://a.example/debian trixie main")
	f.Add("debian=https://snapshot.example/archive/debian/20261101T000000Z", "deb [signed-by=x] http://a.example/debian-security trixie-security main")
	f.Fuzz(func(t *testing.T, given, lines string) {
		for _, given := range [][]string{{given}, nil} {
			list, err := Mirrors(given, apt(lines))
			if err != nil {
				continue
			}
			for _, m := range list {
				u, err := url.Parse(m.URL)
				if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.HasSuffix(m.URL, "/") || m.Archive != "debian" && m.Archive != "debian-security" {
					t.Errorf("Mirrors(%q, %q) gives %+v", given, lines, m)
				}
			}
		}
	})
}
