#!/usr/bin/env bash
# A profiler sees operators, backward passes, optimizer steps, batches and collectives as ranges, if one is there or asked for.
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

# Two ranks that train on batches: sixteen images of noise.
bin=$FLAMBEAU_BUILD/bin
{ printf '\0\0\x08\x03\0\0\0\x10\0\0\0\x1c\0\0\0\x1c'; head -c $((16 * 28 * 28)) "$bin/fashion"; } >"$work/images"
printf '\0\0\x08\x01\0\0\0\x10\0\1\2\3\4\5\6\7\x8\x9\0\1\2\3\4\5' >"$work/labels"
for name in train test; do
    "$bin/flambeau" data import idx --images "$work/images" --labels "$work/labels" "$work/$name.h5" >"$work/out"
done
env FLAMBEAU_DEVICE=cudasim FLAMBEAU_PLUGINS="$FLAMBEAU_BUILD/lib" CUDASIM_DEVICES=2 OMP_NUM_THREADS=1 \
    NVTX_INJECTION64_PATH="$work/listener.so" "$bin/flambeau" run -n 2 "$bin/fashion" --data "$work" --batch 8 \
    --steps 1 --threads 1 >"$work/ranges" 2>&1
wants '^range 0 loader$'
wants '^range 0 broadcast_$'                # the values of rank 0
wants '^range [1-9][0-9]* sum of gradients$' # while backward runs
wants '^range 1 exchange$'                  # the packet of the step
wants '^ranges left open: 0$'

hello NVTX_INJECTION64_PATH="$work/listener.so" FLAMBEAU_NVTX=0
wants_none
hello FLAMBEAU_NVTX=1 # nobody listens
wants_none
hello
