#!/usr/bin/env bash
# Hooks of mmdebstrap: `debian.sh before ROOT` once the essential packages are
# there, `debian.sh after ROOT` when all are. What is set here is what Debian's
# builder of cloud images (debian-cloud-images, config_space/13) sets for its
# image for Compute Engine; the path in a comment is the file's there.
# ROOT_PARTUUID, ROOT_UUID and ESP_PARTUUID come from the caller.
set -Eeuo pipefail
shopt -s inherit_errexit
trap 'echo "$0:$LINENO: this ended with $?: $BASH_COMMAND" >&2' ERR
stage=$1 root=$2

write() { # write MODE PATH <content
  mkdir -p "$root$(dirname "$2")"
  cat >"$root$2"
  chmod "$1" "$root$2"
}

before() {
  # files/etc/kernel-img.conf
  echo 'do_symlinks = no' | write 644 /etc/kernel-img.conf
}

after() {
  # The guide: apt-get -y install socat conntrack ipset. The builder wants no
  # recommended packages, a person's apt does.
  APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -q -y -o DPkg::Chroot-Directory="$root" -o APT::Install-Recommends=true \
    install socat conntrack ipset

  # files/etc/default/locale, files/etc/modprobe.d/blacklist.conf
  echo LANG=C.UTF-8 | write 644 /etc/default/locale
  printf 'blacklist pcspkr\nblacklist floppy\n' | write 644 /etc/modprobe.d/blacklist.conf
  # files/etc/netplan/90-default.yaml
  {
    printf 'network:\n  version: 2\n  ethernets:\n'
    for kind in en eth; do
      printf '    all-%s:\n      match: {name: "%s*"}\n' $kind $kind
      printf '      dhcp4: true\n      dhcp4-overrides: {use-domains: true}\n'
      printf '      dhcp6: true\n      dhcp6-overrides: {use-domains: true}\n'
    done
  } | write 600 /etc/netplan/90-default.yaml
  # files/etc/systemd/timesyncd.conf.d
  printf '[Time]\nFallbackNTP=metadata.google.internal\n' | write 644 /etc/systemd/timesyncd.conf.d/01_debian_cloud.conf
  # files/etc/fstab
  {
    echo "PARTUUID=$ROOT_PARTUUID / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1"
    echo "PARTUUID=$ESP_PARTUUID /boot/efi vfat defaults,umask=077 0 2"
  } | write 644 /etc/fstab
  mkdir -p "$root/boot/efi"
  # files/etc/apt/sources.list.d/debian.sources, with addresses of nobody in place of
  # the list of mirrors that they are in there
  rm -f "$root/etc/apt/sources.list" "$root/etc/apt/apt.conf.d/99mmdebstrap"
  {
    printf 'Types: deb deb-src\nURIs: https://mirror.example/debian\nSuites: trixie trixie-updates trixie-backports\nComponents: main\n'
    printf 'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n'
    printf 'Types: deb deb-src\nURIs: https://mirror.example/debian-security\nSuites: trixie-security\nComponents: main\n'
    printf 'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n'
  } | write 644 /etc/apt/sources.list.d/debian.sources
  # scripts/DEBIAN/11-misc
  sed -i -e 's/^#PasswordAuthentication yes/PasswordAuthentication no/' -e 's/^PermitRootLogin .*/PermitRootLogin without-password/' "$root/etc/ssh/sshd_config"
  echo 'ClientAliveInterval 120' >>"$root/etc/ssh/sshd_config"
  # scripts/SYSTEM_BOOT
  chroot "$root" systemctl enable systemd-networkd.service systemd-resolved.service
  ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
  grub
  # scripts/LAST/10-cleanup
  rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/apt "$root"/var/log/bootstrap.log "$root"/var/log/dpkg.log
  rm -f "$root"/var/lib/dbus/machine-id "$root"/etc/ssh/ssh_host_*
  : >"$root/etc/machine-id"
}

# The menu that grub-mkconfig writes. It asks grub-probe about disks, of which
# there are none here: one that gives the right answers stands in for it.
grub() {
  # files/etc/default/grub.d
  printf 'GRUB_DISABLE_LINUX_UUID=true\nGRUB_DISABLE_LINUX_PARTUUID=\n' | write 644 /etc/default/grub.d/10_cloud.cfg
  # shellcheck disable=SC2016 # GRUB expands it
  echo 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX intel_iommu=off"' | write 644 /etc/default/grub.d/10_cloud_gce_intel_iommu.cfg
  echo 'GRUB_TIMEOUT=0' | write 644 /etc/default/grub.d/15_timeout.cfg
  # What grub-install puts there.
  mkdir -p "$root/boot/grub/x86_64-efi" "$root/boot/grub/fonts"
  cp "$root"/usr/lib/grub/x86_64-efi/*.mod "$root"/usr/lib/grub/x86_64-efi/*.lst "$root/boot/grub/x86_64-efi/"
  cp "$root/usr/share/grub/unicode.pf2" "$root/boot/grub/fonts/"
  mv "$root/usr/sbin/grub-probe" "$root/usr/sbin/grub-probe.real"
  write 755 /usr/sbin/grub-probe <<EOF
#!/bin/sh
while [ \$# -gt 0 ]; do
  case \$1 in
  --target=*) target=\${1#--target=} ;;
  --target | -t) target=\$2; shift ;;
  esac
  shift
done
case \$target in
compatibility_hint) echo hd0,gpt1 ;;
device) echo PARTUUID=$ROOT_PARTUUID ;;
fs) echo ext2 ;;
fs_uuid) echo $ROOT_UUID ;;
hints_string) echo '--hint-bios=hd0,gpt1 --hint-efi=hd0,gpt1 --hint-baremetal=ahci0,gpt1 ' ;;
partmap) echo gpt ;;
partuuid) echo $ROOT_PARTUUID ;;
esac
EOF
  chroot "$root" grub-mkconfig -o /boot/grub/grub.cfg
  mv "$root/usr/sbin/grub-probe.real" "$root/usr/sbin/grub-probe"
}

"$stage"
