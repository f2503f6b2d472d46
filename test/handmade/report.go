package handmade

import "encoding/base64"

// reportUnit waits until kubelet has said why it is not ready, and prints that
// and how long the boot took on the console.
const reportUnit = `[Unit]
After=multi-user.target
[Service]
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c 'until l=$$(journalctl -b -u kubelet --no-pager -o cat | grep -m1 -E "10.240.0.1:|Unable to register|Successfully registered"); do sleep 1; done; \
  echo "HANDMADE kubelet $$l"; systemctl is-system-running --wait; systemctl --failed --no-pager --no-legend; systemd-analyze blame --no-pager | head -30; \
  for u in containerd kubelet kube-proxy; do systemctl status $$u --no-pager -n 0; done; df -h /; ls -la /etc/ssh/*key /etc/machine-id; \
  systemd-analyze critical-chain --no-pager; journalctl -b -p warning --no-pager | tail -n 60; \
  echo "HANDMADE analyze $$(systemd-analyze time | head -n 1)"'
`

// Report returns SMBIOS strings by which the machine reports its boot on the
// console, nothing being installed on it for that.
func Report() []string {
	credential := func(name, value string) string {
		return "io.systemd.credential.binary:" + name + "=" + base64.StdEncoding.EncodeToString([]byte(value))
	}
	return []string{
		credential("systemd.extra-unit.report.service", reportUnit),
		credential("systemd.unit-dropin.multi-user.target", "[Unit]\nWants=report.service\n"),
	}
}
