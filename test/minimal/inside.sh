#!/usr/bin/env bash
# Run as root of a minimal Debian system with a clone in /src: README's set-up,
# and then every program that it should have brought.
set -Eeuo pipefail
shopt -s inherit_errexit
trap 'echo "$0:$LINENO: this ended with $?: $BASH_COMMAND" >&2' ERR
cd /src
stages=(go build lint test qemu bench)

echo "--- nothing is here: a user without rights is told what to install"
if said=$(setpriv --reuid 65534 --clear-groups scripts/install-tools "${stages[@]}" 2>&1); then
  echo "install-tools found everything on a machine that has nothing"
  exit 1
fi
echo "$said"
grep -q '^install-tools: this machine lacks .*golang-go .*hyperfine .*ovmf .*qemu-system-x86 .*shellcheck ' <<<"$said"

echo "--- make bin/bake"
make --no-print-directory bin/bake
bin/bake version

echo "--- the tools of every stage"
scripts/install-tools "${stages[@]}"
again=$(scripts/install-tools "${stages[@]}" 2>&1)
[ -z "$again" ] || { echo "installed already, install-tools says: $again"; exit 1; }

export PATH=$PATH:/usr/sbin:/sbin
commands=$(scripts/install-tools --list "${stages[@]}")
while read -r -a command; do
  version=$("${command[@]}" 2>&1 </dev/null)
  echo "${command[0]}: $(sed -n 1p <<<"$version")"
done <<<"$commands"
echo "set up"
