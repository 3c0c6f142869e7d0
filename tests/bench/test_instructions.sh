#!/usr/bin/env bash
# timeout: 300
# labels: bench
# Recording an operator, and recording it and going back through it, take no more instructions than
# this: counts do not depend on how busy a machine is, so CI can hold them, where a time it could not.
set -euo pipefail

skip() { # why
    echo "instructions are not counted: $1"
    exit 77
}
[ -z "${FLAMBEAU_SANITIZE:-}" ] || skip "a sanitizer adds its own"
command -v valgrind >/dev/null || skip "there is no valgrind"
grep -q '^flags.* avx2 ' /proc/cpuinfo || skip "the limits are those of kernels for x86-64-v3"

# Of `workloads 1` after one line; valgrind 3.19 knows no AVX-512.
instructions() { # line
    echo "$1" | FB_ISA=v3 OMP_NUM_THREADS=1 valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        "$FLAMBEAU_BUILD/tests/bench/workloads" 1 2>&1 | sed -nE 's/.*Collected : ([0-9]+).*/\1/p'
}

# The limit is what gcc 12 -O3 makes of it and 8 % more, for other compilers.
check() { # workload, what it does, limit
    local few many each
    few=$(instructions "$1 1000")
    many=$(instructions "$1 6000")
    [ -n "$few" ] && [ -n "$many" ] || { echo "$1: callgrind collected nothing"; exit 1; }
    each=$(((many - few) / 5000))
    echo "$2: $each instructions an operator, at most $3"
    [ "$each" -le "$3" ] && [ "$each" -gt 0 ] || failed=1
}

failed=0
check record "recording" 1600
check chain "recording, and back" 2450
[ $failed = 0 ] || { echo "more than the limit: what did the change add to every operator?"; exit 1; }
