#!/usr/bin/env bash
# Measures bake against what bounds it, and fails where it is slower than it
# should be. What it prints are medians of one run on one machine; the ratios
# are what is judged, the seconds beside them tell the machine.
#
#   test/bench/run.sh [VERSIONS]
#
# VERSIONS is the versions file of the image (default manifests/versions.yaml),
# with its lock beside it. test/bench/variants makes two others of it: in one the
# kubelet has changed and is 5 MB larger, in the other an early small package
# has; the cost of going from one to the other is measured.
#
#   reference  test/bench/reference compresses the bytes of the image's disk
#              that are not holes with the same library, level and processors,
#              in independent 1 MiB blocks, and does nothing else. It is not
#              an archive and verifies nothing: a lower bound.
#   cold       packages are unpacked in the store, nothing is compressed:
#              at most 1.3 times the reference.
#   kubelet    the kubelet changed, the rest is compressed: at most a quarter of
#   package    cold; the same with an early small package.
#   again      nothing changed, into an empty directory: under 1 s.
#   present    nothing changed, the image is there: under 0.5 s, its digest
#              checked.
#   memory     of cold, at its highest: at most 256 MiB.
#
#   peers      test/bench/peers.sh beside it, as root where its tools are.
#
# Building components is not counted: the store is filled first.
# Run it on a quiet machine: a busy one moves the ratios as well as the seconds.
#
# Environment: BENCH_DIR, scratch space of about 6 GB (default: a temporary
# directory); BENCH_CACHE, the store to use (default: bake in the user's cache
# directory), whose compressed ranges are dropped and made again; BENCH_RUNS
# (default 5); BENCH_NO_PEERS, to leave the usual tools out; BENCH_FLAGS, further flags of bake image.
#
# scripts/install-tools installs what it calls, or names it, before anything is measured.
set -Eeuo pipefail
shopt -s inherit_errexit
trap 'echo "$0:$LINENO: this ended with $?: $BASH_COMMAND" >&2' ERR

versions=${1:-manifests/versions.yaml}
variants=(kubelet package)
runs=${BENCH_RUNS:-5}
bake=$PWD/bin/bake

# All that is missing is named now, and not after an hour of measuring.
scripts/install-tools bench
[ -x "$bake" ] || {
	echo "$0: bin/bake is missing: run make in the repository's root, then this from there" >&2
	exit 1
}

if [ -n "${BENCH_DIR:-}" ]; then
	dir=$BENCH_DIR
	mkdir -p "$dir"
else
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
fi
store=${BENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bake}
mkdir -p "$store"

# image prints the command that bakes versions file $1 into directory $2.
image() {
	printf '%q image --quiet --versions %q --cache %q --output %q %s' "$bake" "$1" "$store" "$2" "${BENCH_FLAGS:---build-missing}"
}

echo "filling the store" >&2
rm -rf "$dir/raw" "$dir/out" "$dir"/values.*
eval "$(image "$versions" "$dir/raw")" --format raw >/dev/null
eval "$(image "$versions" "$dir/out")" >/dev/null
go run ./test/bench/variants -bake "$bake" -versions "$versions" -cache "$store" \
	-image "$(find "$dir/out" -name '*.tar.gz')" -to "$dir/variants" >/dev/null
rm -rf "$store/values" "$dir/out"
eval "$(image "$versions" "$dir/out")" >/dev/null
# What the store has compressed for VERSIONS alone. Its entries are never
# written to, so a copy by hard links is a copy.
cp -al "$store/values" "$dir/values.base" 2>/dev/null || cp -a "$store/values" "$dir/values.base"
raw=$(find "$dir/raw" -name '*.raw')

go build -o "$dir/reference" ./test/bench/reference
compressed=$("$dir/reference" "$raw")
echo "reference: $compressed" >&2

# measure NAME PREPARE COMMAND: the median in seconds goes to NAME.json.
measure() {
	hyperfine --runs "$runs" --style basic --command-name "$1" --prepare "$2" --export-json "$dir/$1.json" "$3" >&2
}
median() { jq '.results[0].median' "$dir/$1.json"; }

# The compressed ranges, many files, are moved away and removed at the end:
# removing them right before a measurement would slow it, because ext4 looks for
# other inodes than those that were freed in the last minute. sync keeps what is
# still being written out of the measurement.
mkdir -p "$dir/trash"
drop="rm -rf $(printf %q "$dir/out"); sync"
cold="mv $(printf %q "$store/values") \$(mktemp -d $(printf %q "$dir/trash")/XXXXXX)/ 2>/dev/null || true; $drop"
base="$cold; cp -al $(printf '%q %q' "$dir/values.base" "$store/values") || cp -a $(printf '%q %q' "$dir/values.base" "$store/values")"

measure reference true "$(printf '%q -o %q %q' "$dir/reference" "$dir/reference.out" "$raw")"
measure cold "$cold" "$(image "$versions" "$dir/out")"
measure again "$drop" "$(image "$versions" "$dir/out")"
measure present true "$(image "$versions" "$dir/out")"
for variant in "${variants[@]}"; do
	measure "$variant" "$base" "$(image "$dir/variants/$variant/versions.yaml" "$dir/out")"
done

eval "$cold"
eval "/usr/bin/time -f %M -o $(printf %q "$dir/memory") $(image "$versions" "$dir/out")" >/dev/null
memory=$(tail -n 1 "$dir/memory")

# judge NAME FIGURE UNIT LIMIT: one line, and failure where it is over.
failed=0
judge() {
	local verdict=ok
	if jq -en --argjson a "$2" --argjson b "$4" '$a > $b' >/dev/null; then
		verdict=OVER
		failed=1
	fi
	printf '%-12s %10.3f %-22s limit %-6s %s\n' "$1" "$2" "$3" "$4" "$verdict"
}
ratio() { jq -n --argjson a "$1" --argjson b "$2" '$a / $b'; }

echo
printf '%-12s %10.3f s\n' reference "$(median reference)" cold "$(median cold)"
judge cold "$(ratio "$(median cold)" "$(median reference)")" "times the reference" 1.3
for variant in "${variants[@]}"; do
	printf '%-12s %10.3f s\n' "$variant" "$(median "$variant")"
	judge "$variant" "$(ratio "$(median "$variant")" "$(median cold)")" "times cold" 0.25
done
judge again "$(median again)" s 1
judge present "$(median present)" s 0.5
judge memory "$(ratio "$memory" 1024)" MiB 256

if [ -z "${BENCH_NO_PEERS:-}" ] && [ "$(id -u)" = 0 ]; then
	eval "$(image "$versions" "$dir/out")" >/dev/null
	BENCH_CACHE=$store test/bench/peers.sh "$(find "$dir/out" -name '*.tar.gz')"
else
	echo "the mmdebstrap pipeline is not measured: it needs root, and no BENCH_NO_PEERS"
fi
exit $failed
