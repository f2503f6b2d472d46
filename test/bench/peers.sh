#!/usr/bin/env bash
# The same image by the usual tools: mmdebstrap, mke2fs -d, sgdisk, GNU tar and
# pigz, from the same .deb files and binaries, all cached. It is what bake's
# time stands beside in docs/performance.md.
#
#   test/bench/peers.sh IMAGE      (root; the record lies beside the image)
#
# The result is no equal of the image: it is not bootable, and two runs do not
# give the same bytes.
#
# Environment: BENCH_CACHE, the store that the image was baked from (default:
# bake in the user's cache directory); BENCH_RUNS (default 1).
#
# It needs what `scripts/install-tools bench` installs.
set -Eeuo pipefail
shopt -s inherit_errexit
trap 'echo "$0:$LINENO: this ended with $?: $BASH_COMMAND" >&2' ERR

image=$1
record=${image%.tar.gz}.json
store=${BENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bake}
[ "$(id -u)" = 0 ] || { echo "$0: mmdebstrap needs root here" >&2; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"

# A flat repository of exactly the image's packages.
mkdir "$dir/repo"
jq -r '.packages[] | "\(.name) \(.sha256)"' "$record" | while read -r name sum; do
	hex=${sum#sha256:}
	cp "$store/files/sha256/${hex:0:2}/$hex" "$dir/repo/$name.deb"
done
(cd "$dir/repo" && dpkg-scanpackages -m . >Packages 2>/dev/null)
packages=$(jq -r '[.packages[].name] | join(",")' "$record")

# The binaries, at their paths.
mkdir "$dir/components"
jq -r '.components[].files[].path' "$record" | while read -r path; do
	mkdir -p "$dir/components$(dirname "$path")"
	bin/bake inspect "$image" --cat "$path" >"$dir/components$path"
done
chmod -R 755 "$dir/components"
cp -r "$dir/components/bin" "$dir/components/usr/" && rm -r "$dir/components/bin"

size=$(jq .disk.size "$record")
start=$(jq '.disk.partitions[] | select(.type == "root") | .start' "$record")
length=$(jq '.disk.partitions[] | select(.type == "root") | .size' "$record")

cat >"$dir/root" <<-EOF
	set -e
	rm -rf "$dir/tree"
	mmdebstrap --quiet --mode=root --variant=custom --include="$packages" \
	  trixie "$dir/tree" "deb [trusted=yes] copy:$dir/repo ./"
EOF
cat >"$dir/pack" <<-EOF
	set -e
	rm -f "$dir/disk.raw" "$dir/root.ext4" "$dir/disk.tar.gz"
	cp -r "$dir/components/." "$dir/tree/"
	mke2fs -q -t ext4 -d "$dir/tree" "$dir/root.ext4" $((length / 1024))k
	truncate -s $size "$dir/disk.raw"
	sgdisk -Z -n 1:1M:+256M -t 1:ef00 -n 2:257M:0 -t 2:8304 "$dir/disk.raw" >/dev/null 2>&1
	dd if="$dir/root.ext4" of="$dir/disk.raw" bs=1M seek=$((start >> 20)) conv=notrunc,sparse status=none
	tar --format=oldgnu -S -C "$dir" -c disk.raw | pigz -6 >"$dir/disk.tar.gz"
EOF
hyperfine --runs "${BENCH_RUNS:-1}" --show-output --export-json "$dir/all.json" --command-name 'all of it' "bash $dir/root && bash $dir/pack"
hyperfine --runs "${BENCH_RUNS:-1}" --show-output --export-json "$dir/pack.json" --command-name 'one binary changed' "bash $dir/pack"
printf '%-34s %7.1f s\n' "mmdebstrap pipeline" "$(jq '.results[0].median' "$dir/all.json")" \
	"the same, one binary changed" "$(jq '.results[0].median' "$dir/pack.json")"
