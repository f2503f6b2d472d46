package nvme

import (
	"strings"
	"testing"
	"unsafe"
)

// identify is Identify Namespace data with text in the vendor's part.
func identify(text string) []byte {
	data := make([]byte, identifySize)
	data[0] = 0x80 // the namespace's size
	copy(data[vendorOffset:], text)
	return data
}

func TestDeviceName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text, model string
		nsid        uint32
		want, err   string
	}{
		{text: `{"device_name":"data-1","disk_type":"PERSISTENT"}`, model: "nvme_card-pd", nsid: 2, want: "data-1"},
		{text: `{"disk_type":"PERSISTENT"}`, model: "nvme_card-pd", nsid: 2},
		{text: "{\"device_name\":\"a\"}\x00rest", model: "nvme_card13", nsid: 1, want: "a"},
		{model: "nvme_card-pd", nsid: 1},
		{model: "QEMU NVMe Ctrl", nsid: 1},
		{model: "nvme_card", nsid: 3, want: "local-nvme-ssd-2"},
		{model: "nvme_card", err: "namespace 0"},
		{text: `{"device_name":"../../sda"}`, model: "nvme_card-pd", nsid: 1, err: `device name "../../sda" can't be that of a link`},
		{text: `{"device_name":"` + strings.Repeat("a", 64) + `"}`, model: "nvme_card-pd", nsid: 1, err: "can't be that of a link"},
		{text: `{"device_name":"a b"}`, model: "nvme_card-pd", nsid: 1, err: "can't be that of a link"},
		{text: "{\"device_name\":\"a\\nX=1\"}", model: "nvme_card-pd", nsid: 1, err: "can't be that of a link"},
		{text: `{"device_name":`, model: "nvme_card-pd", nsid: 1, err: "the vendor's part of the identify data: "},
		{text: `{"device_name":7}`, model: "nvme_card-pd", nsid: 1, err: "the vendor's part of the identify data: "},
	} {
		got, err := deviceName(identify(test.text), test.model, test.nsid)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("deviceName(%q, %q, %d) = %q, %v; want %q and %q", test.text, test.model, test.nsid, got, err, test.want, test.err)
		}
	}
	if _, err := deviceName(make([]byte, 512), "nvme_card-pd", 1); err == nil {
		t.Error("deviceName of 512 bytes = nil; want an error")
	}
}

// TestCommandSize holds the kernel's: it is part of the ioctl's number.
func TestCommandSize(t *testing.T) {
	if got := unsafe.Sizeof(adminCommand{}); got != ioctlAdmin>>16&0x3fff {
		t.Errorf("the command has %d bytes; want %d", got, ioctlAdmin>>16&0x3fff)
	}
}

func FuzzDeviceName(f *testing.F) {
	f.Add([]byte(`{"device_name":"data-1"}`), "nvme_card-pd")
	f.Fuzz(func(t *testing.T, text []byte, model string) {
		found, err := deviceName(identify(string(text)), model, 1)
		if err == nil && found != "" && (strings.ContainsAny(found, "/\n= ") || found[0] == '.') {
			t.Errorf("deviceName(%q) = %q", text, found)
		}
	})
}
