#!/usr/bin/env bash
# launch/setup says what is missing and what to do, on Debian and elsewhere; it installs nothing here.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
setup=$FLAMBEAU_SOURCE/launch/setup
fails_with() { # text, command
    local code=0
    "${@:2}" >"$work/out" 2>&1 || code=$?
    [ $code != 0 ] && grep -qF -- "$1" "$work/out" && return 0
    echo "exit code $code, no \"$1\" in:"
    cat "$work/out"
    exit 1
}
# A PATH that holds the tools of a script, and what a test adds to them.
mkdir "$work/bin"
for tool in bash dirname awk cat sed grep id; do
    ln -s "$(command -v $tool)" "$work/bin/$tool"
done
fails_with "this is not a Debian system" env PATH="$work/bin" bash "$setup"
fails_with "libhdf5-dev" env PATH="$work/bin" bash "$setup"

printf '#!/bin/sh\nexit 1\n' >"$work/bin/dpkg-query" # no package is installed
printf '#!/bin/sh\necho no apt-get in this test; exit 1\n' >"$work/bin/apt-get"
printf '#!/bin/sh\necho 1000\n' >"$work/id"
chmod +x "$work/bin/dpkg-query" "$work/bin/apt-get" "$work/id"
env PATH="$work/bin" bash "$setup" --dry-run >"$work/out"
grep -q "missing:.*libdnnl-dev.*dataset-fashion-mnist" "$work/out"
env PATH="$work/bin" bash "$setup" --minimal --dry-run >"$work/out"
grep -q "missing:.*libdnnl-dev" "$work/out"
! grep -q "clang-format" "$work/out"
env PATH="$work/bin" bash "$setup" --cluster --dry-run >"$work/out"
grep -q "missing:.*clang-format.*slurmctld" "$work/out"
env PATH="$work/bin" bash "$setup" --fuzz --dry-run >"$work/out"
grep -q "missing:.*clang-format.*libclang-rt-14-dev" "$work/out"
mv "$work/id" "$work/bin/id" # not root, and no sudo
fails_with "apt-get install gcc" env PATH="$work/bin" bash "$setup"
fails_with "--minimal" env PATH="$work/bin" bash "$setup" --minimall
