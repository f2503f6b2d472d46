#!/usr/bin/env bash
# disk.sh TAR DOWNLOADS DISK: unpacks the root file system, has guide.sh work on
# it, and puts it on a disk laid out as Debian's builder lays one out (see
# hooks/partition.AMD64 there), with the boot loader where grub-install puts it.
# It needs the right to make files of other owners.
set -Eeuo pipefail
shopt -s inherit_errexit
trap 'echo "$0:$LINENO: this ended with $?: $BASH_COMMAND" >&2' ERR
here=$(dirname "$0") tar=$1 downloads=$2 disk=$3
PATH=$PATH:/usr/sbin:/sbin
scratch=$downloads/scratch
root=$scratch/root
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$root"
# Without device nodes, which Debian's builder deletes too.
tar -x --numeric-owner --xattrs --xattrs-include='*' -p -C "$root" --exclude='./dev/*' -f "$tar"
"$here/guide.sh" "$root" "$downloads"

rm -f "$disk"
truncate -s "$SIZE" "$disk"
sgdisk --zap-all "$disk" >/dev/null
sgdisk \
  -n 14:2048:8191 -t 14:ef02 \
  -n 15:8192:262143 -t 15:ef00 -u "15:$ESP_PARTUUID" \
  -n 1:262144:0 -t 1:8304 -u "1:$ROOT_PARTUUID" "$disk" >/dev/null

esp=$scratch/esp
truncate -s $((253952 * 512)) "$esp"
mkfs.vfat "$esp" >/dev/null
# Debian's signed GRUB has its modules inside and reads EFI/debian/grub.cfg.
cat >"$scratch/grub.cfg" <<EOF
search.fs_uuid $ROOT_UUID root
set prefix=(\$root)'/boot/grub'
configfile \$prefix/grub.cfg
EOF
mmd -i "$esp" ::EFI ::EFI/BOOT ::EFI/debian
mcopy -i "$esp" "$root/usr/lib/shim/shimx64.efi.signed" ::EFI/BOOT/BOOTX64.EFI
mcopy -i "$esp" "$root/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" ::EFI/BOOT/grubx64.efi
mcopy -i "$esp" "$scratch/grub.cfg" ::EFI/debian/grub.cfg
dd if="$esp" of="$disk" bs=1M seek=4 conv=notrunc,sparse status=none
rm "$esp"

# shellcheck disable=SC2017 # whole blocks of 4 KiB, in KiB
mke2fs -q -t ext4 -F -U "$ROOT_UUID" -d "$root" \
  -O none,sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr,has_journal,extent,huge_file,flex_bg,metadata_csum,metadata_csum_seed,64bit,dir_nlink,extra_isize,orphan_file \
  -E offset=$((262144 * 512)) "$disk" $(((SIZE / 512 - 262144 - 33) / 8 * 4))k
