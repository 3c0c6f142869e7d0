#!/usr/bin/env bash
# A profiler sees operators, backward passes and optimizer steps as ranges, if one is there or asked for.
# labels: cudasim
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
toolkit=$(sed -n 's/^FLAMBEAU_nvtx_INCLUDE:PATH=//p' "$FLAMBEAU_BUILD/CMakeCache.txt")
case $toolkit in *NOTFOUND) echo "this toolkit has no NVTX"; exit 77 ;; esac
"$FLAMBEAU_CC" -shared -fPIC -isystem "$toolkit" -o "$work/listener.so" \
    "$FLAMBEAU_SOURCE/tests/core/cuda/listener.c"
hello() { # settings
    env FLAMBEAU_DEVICE=cudasim FLAMBEAU_PLUGINS="$FLAMBEAU_BUILD/lib" "$@" "$FLAMBEAU_BUILD/bin/hello" \
        2>"$work/ranges" >"$work/out"
    grep -q loss "$work/out"
}
wants() {
    grep -qE "$1" "$work/ranges" || { echo "no \"$1\" in:"; cat "$work/ranges"; exit 1; }
}
wants_none() {
    if grep '^range' "$work/ranges"; then exit 1; fi
}
hello NVTX_INJECTION64_PATH="$work/listener.so"
wants '^range 0 cross_entropy$'
wants '^range 0 backward$'
wants '^range 1 cross_entropy$'
wants '^range 0 optim_step$'
wants '^ranges left open: 0$'
hello NVTX_INJECTION64_PATH="$work/listener.so" FLAMBEAU_NVTX=0
wants_none
hello FLAMBEAU_NVTX=1 # nobody listens
wants_none
hello
