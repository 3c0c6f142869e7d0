#!/usr/bin/env bash
# timeout: 600 labels: cudasim
# cuDNN's plans for every shape of the examples, where there is no card: convolutions with both gradients, attention
# with its backward. A stand-in for the driver lets them be finished; what they compute is not run here.
set -euo pipefail
if [ -e /dev/nvidiactl ] || [ -e /proc/driver/nvidia/version ] || [ -e /dev/dxg ]; then
    echo "there is a driver: a stand-in must not come before it"
    exit 77
fi
plans=$FLAMBEAU_BUILD/tests/core/cuda/plans
include=$(sed -n 's/^FLAMBEAU_cuda_INCLUDE:PATH=//p' "$FLAMBEAU_BUILD/CMakeCache.txt")
stub=$(ls "$include"/../lib*/stubs/libcuda.so "$include"/../targets/*/lib/stubs/libcuda.so 2>/dev/null | head -1) || true
if [ ! -x "$plans" ] || [ -z "$stub" ]; then
    echo "cuDNN's headers, or the toolkit's list of the driver's functions, are not there"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Every function that the driver has and plan_driver.c has not answers CUDA_ERROR_STUB_LIBRARY.
"$FLAMBEAU_CC" -O1 -fPIC -c -o "$work/own.o" "$FLAMBEAU_SOURCE/tests/core/cuda/plan_driver.c"
names() { nm "$@" | sed -n 's/^[0-9a-f]* T \(cu[A-Za-z0-9_]*\)$/\1/p' | sort; }
{
    echo 'int fbi_stub_answer(void) { return 34; }'
    comm -23 <(names -D "$stub") <(names "$work/own.o") |
        sed 's/.*/int &(void) __attribute__((alias("fbi_stub_answer")));/'
} >"$work/others.c"
"$FLAMBEAU_CC" -O1 -fPIC -fno-builtin -shared -o "$work/libcuda.so.1" "$work/others.c" "$work/own.o"

ask() { # part: what the program says of it, in $work/PART
    local code=0
    LD_LIBRARY_PATH=$work${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} timeout 300 "$plans" "$1" >"$work/$1" 2>&1 || code=$?
    if [ "$code" = 77 ]; then
        cat "$work/$1"
        exit 77
    fi
    tail -1 "$work/$1" | sed "s/^/$1: /"
    [ "$code" = 0 ] || { cat "$work/$1"; exit 1; }
}
# Nothing that should be there is refused; what may be refused is named by the caller.
wants() { # part, pattern of what may be refused
    ask "$1"
    if grep '^none: ' "$work/$1" | grep -vE "${2:-^$}"; then
        echo "$1: cuDNN has no plan for these"
        exit 1
    fi
    grep -q '^plan: ' "$work/$1"
}
wants chargpt
wants gpt2
wants kinds
wants fashion
wants resnet18
wants resnet50
