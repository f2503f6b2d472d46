package manifest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nodebake/bake/bake/arch"
)

// validPackagesImages has one of everything. The tests of errors break it in one place.
const validPackagesImages = imagesHead + `images:
  web:
    reference: bake.local/web:1.2
    packages: [base-passwd, web-server, "libweb-{arch}/trixie-backports"]
    module:
      path: example.com/m
      version: v1.2.3
      toolchain: go1.26.8
      dir: modules/m
      programs:
        - {package: example.com/m, path: /opt/m}
    entrypoint: [/usr/sbin/web, -g, "", "daemon off;\n"]
    command: [--port, "80"]
    user: "33:34"
    environment:
      TZ: UTC
      _empty1: ""
      A: "a=b\nc"
    paths:
      - {path: /var/lib/web, mode: 2750, owner: "33:34"}
      - {path: /srv, owner: "4294967294"}
      - {path: /run}
      - {path: /var/log/web.log, link: /dev/stdout}
      - {path: /bin/m, link: "../opt/m"}
  shell:
    reference: bake.local/shell:1
    packages: [shell]
    command: [/bin/sh]
`

func TestParsePackagesImages(t *testing.T) {
	t.Parallel()
	v, err := ParseVersions("v.yaml", []byte(validPackagesImages))
	if err != nil {
		t.Fatal(err)
	}
	want := []ContainerImage{
		{
			Name: "web", Reference: "bake.local/web:1.2",
			Packages: []Listed{
				{Text: "base-passwd", Key: "images.web.packages[0]"},
				{Text: "web-server", Key: "images.web.packages[1]"},
				{Text: "libweb-{arch}/trixie-backports", Key: "images.web.packages[2]"},
			},
			Module: &Module{
				Path: "example.com/m", Version: "v1.2.3", Toolchain: "go1.26.8", Dir: "modules/m",
				Programs: []Program{{Package: "example.com/m", Path: "/opt/m"}},
			},
			Entrypoint:  []string{"/usr/sbin/web", "-g", "", "daemon off;\n"},
			Command:     []string{"--port", "80"},
			User:        "33:34",
			Environment: []string{"A=a=b\nc", "TZ=UTC", "_empty1="},
			Paths: []ImagePath{
				{Path: "/var/lib/web", Mode: 0o2750, UID: 33, GID: 34, Key: "images.web.paths[0]"},
				{Path: "/srv", Mode: 0o755, UID: 1<<32 - 2, GID: 1<<32 - 2, Key: "images.web.paths[1]"},
				{Path: "/run", Mode: 0o755, Key: "images.web.paths[2]"},
				{Path: "/var/log/web.log", Link: "/dev/stdout", Mode: 0o755, Key: "images.web.paths[3]"},
				{Path: "/bin/m", Link: "../opt/m", Mode: 0o755, Key: "images.web.paths[4]"},
			},
		},
		{
			Name: "shell", Reference: "bake.local/shell:1",
			Packages: []Listed{{Text: "shell", Key: "images.shell.packages[0]"}},
			Command:  []string{"/bin/sh"},
		},
	}
	if diff := cmp.Diff(want, v.Images, cmpopts.IgnoreTypes(Pos{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Images (-want +got):\n%s", diff)
	}
	for _, at := range []struct {
		what      string
		got, want Pos
	}{
		{"packages", v.Images[0].PackagesPos, Pos{"v.yaml", 6, 5}},
		{"a package", v.Images[0].Packages[1].Pos, Pos{"v.yaml", 6, 29}},
		{"entrypoint", v.Images[0].StartPos, Pos{"v.yaml", 14, 5}},
		{"command without entrypoint", v.Images[1].StartPos, Pos{"v.yaml", 30, 5}},
		{"a path", v.Images[0].Paths[3].Pos, Pos{"v.yaml", 25, 9}},
	} {
		if at.got != at.want {
			t.Errorf("position of %s = %s; want %s", at.what, at.got, at.want)
		}
	}
	refs, err := v.Images[0].PackagesFor(arch.ARM64)
	if err != nil || len(refs) != 3 || refs[2].Name != "libweb-arm64" || refs[2].Suite != "trixie-backports" || refs[2].Key != "images.web.packages[2]" {
		t.Errorf("PackagesFor(arm64) = %+v, %v; want three, the last libweb-arm64/trixie-backports", refs, err)
	}
}

func TestParsePackagesImagesErrors(t *testing.T) {
	t.Parallel()
	const (
		list  = `packages: [base-passwd, web-server, "libweb-{arch}/trixie-backports"]`
		entry = `entrypoint: [/usr/sbin/web, -g, "", "daemon off;\n"]`
		clean = ` is not a clean absolute path (begin with /; no . or .., no //, no / at the end, and not / itself)`
		user  = ` is not a user (write numbers, UID or UID:GID, such as 33:33)`
		owner = ` is not an owner (write numbers, UID or UID:GID, such as 33:33)`
	)
	for _, test := range []struct {
		name     string
		old, new string // what is replaced in validPackagesImages, once
		want     string
	}{
		{"name", "  web:\n", "  web_1:\n", `v.yaml:5:5: images.web_1: "web_1" is not the name of an image here (lower-case words of letters and digits, joined by hyphens)`},
		{"no reference", "    reference: bake.local/shell:1\n", "", "v.yaml:27:3: images.shell.reference: missing (add it)"},
		{"host of assembled images", "bake.local/web:1.2", "bake.invalid/web:1.2", "v.yaml:5:16: images.web.reference: bake.invalid is where images are that bake assembles in place of a registry's (write the name that the image has at its registry, or for one of packages another host, such as bake.local)"},
		{"digest", "bake.local/shell:1\n", "bake.local/shell:1\n    digest: sha256:" + sumA + "\n", "v.yaml:27:3: images.shell: packages excludes digest (remove one: an image of packages is made here, and not fetched)"},
		{"program", "bake.local/shell:1\n", "bake.local/shell:1\n    program: pause\n", "v.yaml:27:3: images.shell: packages excludes program (remove one: an image is assembled from one of them)"},
		{"no packages, no digest", "    packages: [shell]\n    command: [/bin/sh]\n", "", "v.yaml:27:3: images.shell.digest: missing (add it)"},
		{"keys of images of packages", "    packages: [shell]\n", "    digest: sha256:" + sumA + "\n", "v.yaml:30:5: images.shell.command: command is for images of packages (add packages, or remove it)"},

		{"empty list", list, "packages: []", "v.yaml:6:15: images.web.packages: empty (name a package)"},
		{"packages of text", list, "packages: nginx", `v.yaml:6:15: images.web.packages: want a list, found "nginx"`},
		{"packages of nothing", list, "packages:", "v.yaml:6:14: images.web.packages: want a list, found nothing"},
		{"package name", "web-server", "Web", `v.yaml:6:29: images.web.packages[1]: "Web" is not a Debian package name (lower-case letters, digits, + - and .)`},
		{"package twice", "web-server", "base-passwd/trixie", "v.yaml:6:29: images.web.packages[1]: package base-passwd stands twice, first on line 6 (remove one)"},
		{"suite", "trixie-backports", "Trixie", `v.yaml:6:41: images.web.packages[2]: "Trixie" is not the name of a Debian suite, such as trixie or bookworm-backports`},
		{"placeholder", "{arch}", "{os}", `v.yaml:6:41: images.web.packages[2]: unknown placeholder {os} (known here: {arch})`},

		{"empty entrypoint", entry, "entrypoint: []", "v.yaml:14:17: images.web.entrypoint: empty (write a list such as [/usr/bin/tool, -v], or remove the key)"},
		{"entrypoint of a shell", entry, "entrypoint: web -g", `v.yaml:14:17: images.web.entrypoint: want a list, found "web -g"`},
		{"entrypoint of an empty text", entry, `entrypoint: ["", x]`, "v.yaml:14:18: images.web.entrypoint[0]: empty (write a program or an argument)"},
		{"NUL in an argument", "daemon off;", `daemon\0off;`, "v.yaml:14:41: images.web.entrypoint[3]: an argument can't have a NUL byte (remove it)"},
		{"argument that is a number", `"80"`, "80", "v.yaml:15:23: images.web.command[1]: want text, found the number 80 (put it in quotes)"},
		{"empty command", "command: [/bin/sh]", "command: []", "v.yaml:30:14: images.shell.command: empty (write a list such as [/usr/bin/tool, -v], or remove the key)"},

		{"user by name", `"33:34"`, "www-data", `v.yaml:16:11: images.web.user: "www-data"` + user},
		{"user that is a number", `"33:34"`, "33", "v.yaml:16:11: images.web.user: want text, found the number 33 (put it in quotes)"},
		{"user without group", `"33:34"`, `"33:"`, `v.yaml:16:11: images.web.user: "33:"` + user},
		{"user with zeros", `"33:34"`, `"033"`, `v.yaml:16:11: images.web.user: "033"` + user},
		{"user -1", `"33:34"`, `"4294967295"`, `v.yaml:16:11: images.web.user: "4294967295"` + user},
		{"three numbers", `"33:34"`, `"1:2:3"`, `v.yaml:16:11: images.web.user: "1:2:3"` + user},
		{"empty user", `user: "33:34"`, `user: ""`, "v.yaml:16:11: images.web.user: empty (write a value, or remove the key)"},

		{"environment list", "environment:\n      TZ: UTC\n      _empty1: \"\"\n      A: \"a=b\\nc\"\n", "environment: [TZ=UTC]\n", "v.yaml:17:18: images.web.environment: want a mapping, found a list"},
		{"variable name", "TZ: UTC", "1TZ: UTC", "v.yaml:18:7: images.web.environment.1TZ: 1TZ is not the name of a variable (letters, digits and _, no digit first)"},
		{"variable name with =", "TZ: UTC", "TZ=: UTC", "v.yaml:18:7: images.web.environment.TZ=: TZ= is not the name of a variable (letters, digits and _, no digit first)"},
		{"variable twice", "_empty1", "TZ", "v.yaml:19:7: images.web.environment.TZ: duplicate key, first on line 18 (remove one)"},
		{"variable of a number", "TZ: UTC", "TZ: 1", "v.yaml:18:11: images.web.environment.TZ: want text, found the number 1 (put it in quotes)"},
		{"NUL in a variable", `a=b\nc`, `a\0c`, "v.yaml:20:10: images.web.environment.A: a variable can't have a NUL byte (remove it)"},

		{"no path", "{path: /run}", "{mode: 0755}", "v.yaml:24:9: images.web.paths[2].path: missing (add it)"},
		{"relative path", "{path: /run}", "{path: run}", `v.yaml:24:16: images.web.paths[2].path: "run"` + clean},
		{"root", "{path: /run}", "{path: /}", `v.yaml:24:16: images.web.paths[2].path: "/"` + clean},
		{"..", "{path: /run}", "{path: /run/../etc}", `v.yaml:24:16: images.web.paths[2].path: "/run/../etc"` + clean},
		{"/ at the end", "{path: /run}", "{path: /run/}", `v.yaml:24:16: images.web.paths[2].path: "/run/"` + clean},
		{"line break", "{path: /run}", `{path: "/run\n"}`, "v.yaml:24:16: images.web.paths[2].path: text has a line break or another control character (write it on one line)"},
		{"whiteout", "{path: /run}", "{path: /run/.wh.x/y}", `v.yaml:24:16: images.web.paths[2].path: "/run/.wh.x/y": in an image a name that begins with .wh. deletes another file (use another name)`},
		{"path twice", "{path: /run}", "{path: /srv}", "v.yaml:24:16: images.web.paths[2].path: /srv stands twice, first on line 23 (remove one)"},
		{"path of a program", "{path: /run}", "{path: /opt/m}", "v.yaml:24:16: images.web.paths[2].path: /opt/m stands twice, first on line 13 (remove one)"},
		{"below a link", "{path: /run}", "{path: /bin/m/x}", "v.yaml:24:9: images.web.paths[2]: /bin/m/x is below /bin/m, which is no directory by line 26 (give one of them another path)"},
		{"below a program", "{path: /run}", "{path: /opt/m/x/y}", "v.yaml:24:9: images.web.paths[2]: /opt/m/x/y is below /opt/m, which is no directory by line 13 (give one of them another path)"},
		{"program below a link", "path: /bin/m, link", "path: /opt, link", "v.yaml:13:11: images.web.module.programs: /opt/m is below /opt, which is no directory by line 26 (give one of them another path)"},
		{"program that is a whiteout", "path: /opt/m}", "path: /opt/.wh.m}", `v.yaml:13:11: images.web.module.programs: "/opt/.wh.m": in an image a name that begins with .wh. deletes another file (use another name)`},
		{"empty link", `"../opt/m"`, `""`, "v.yaml:26:30: images.web.paths[4].link: empty (write a value, or remove the key)"},
		{"long link", `"../opt/m"`, strings.Repeat("x", 4096), "v.yaml:26:30: images.web.paths[4].link: a link's text has at most 4095 bytes, this one has 4096 (shorten it)"},
		{"mode of a link", `"../opt/m"`, "../opt/m, mode: 0755", "v.yaml:26:46: images.web.paths[4].mode: a link has no mode (remove it)"},
		{"owner of a link", `"../opt/m"`, `../opt/m, owner: "1"`, "v.yaml:26:47: images.web.paths[4].owner: a link has no owner (remove it)"},
		{"mode", "2750", "2750x", `v.yaml:22:36: images.web.paths[0].mode: want a mode of four octal digits such as 0755, found "2750x"`},
		{"owner by name", `owner: "33:34"`, "owner: root", `v.yaml:22:49: images.web.paths[0].owner: "root"` + owner},
		{"key of a path", "{path: /run}", "{path: /run, target: x}", "v.yaml:24:22: images.web.paths[2].target: unknown key (known here: link, mode, owner, path)"},
		{"paths of text", "{path: /run}", "/run", `v.yaml:24:9: images.web.paths[2]: want a mapping, found "/run"`},
		{"misspelt key", "entrypoint:", "entry-point:", `v.yaml:14:5: images.web.entry-point: unknown key (did you mean "entrypoint"?)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(validPackagesImages, test.old) {
				t.Fatalf("the valid file has no %q", test.old)
			}
			v, err := ParseVersions("v.yaml", []byte(strings.Replace(validPackagesImages, test.old, test.new, 1)))
			if got := text(err); got != test.want {
				t.Errorf("ParseVersions with %q for %q:\n got %s\nwant %s", test.new, test.old, got, test.want)
			}
			if v != nil {
				t.Error("ParseVersions returned a value with its error")
			}
		})
	}
}
