#!/usr/bin/env bash
# timeout: 600
# First contact, as far as it goes without a card: packed, unpacked, and from there, with the system's MPI, HDF5 and
# CMake hidden, every step on cudasim with the programs of this build.
set -euo pipefail
if [ ! -e "$FLAMBEAU_BUILD/lib/libflambeau_cudasim.so" ]; then
    echo "this build has no simulated card: no CUDA toolkit was found"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tests=(core/ops/half core/ops/index core/ops/loss)
"$FLAMBEAU_SOURCE/tests/gpu/first_contact" --dry-run --out "$work" --built --build "$FLAMBEAU_BUILD" \
    --python "$FLAMBEAU_PYTHON" --harness "${tests[@]}" || { cat "$work/report.md"; exit 1; }
expect() {
    grep -qE -- "$1" "$work/report.md" || { echo "the report has no line /$1/:"; cat "$work/report.md"; exit 1; }
}
expect 'First contact \(dry run on cudasim\)'
expect "commit $(git -c safe.directory='*' -C "$FLAMBEAU_SOURCE" rev-parse --short HEAD)"
expect 'brought MPI and HDF5|own MPI and HDF5'
[ "$(id -u)" != 0 ] || expect 'brought MPI and HDF5'
expect ' 0 steps failed'
for step in environment build doctor hello harness "fashion, twice" chargpt "bench mlp" "bench cnn" "bench gpt2" \
    "bench resnet50"; do
    expect "^\| $step \| passed \|"
done
expect '^\| harness \| passed \| .* tests in 3 programs'
expect '^\| memcheck \| skipped \|'

# What goes wrong is told with the end of its log, and the other steps are made.
code=0
"$FLAMBEAU_SOURCE/tests/gpu/first_contact" --device cudasim --out "$work/bad" --built --build "$FLAMBEAU_BUILD" \
    --only doctor hello >"$work/bad.txt" 2>&1 </dev/null || code=$?
[ "$code" = 0 ] || { echo "without a fault the exit code is $code"; cat "$work/bad.txt"; exit 1; }
mkdir -p "$work/broken/bin" "$work/broken/lib"
printf '#!/bin/sh\necho "loss is not a number"\nexit 3\n' >"$work/broken/bin/hello"
printf '#!/bin/sh\nexit 0\n' >"$work/broken/bin/flambeau"
chmod +x "$work"/broken/bin/*
"$FLAMBEAU_SOURCE/tests/gpu/first_contact" --device cudasim --out "$work/bad" --built --build "$work/broken" \
    --only hello doctor >"$work/bad.txt" 2>&1 && { echo "a failing step was not told"; exit 1; }
cp "$work/bad/report.md" "$work/report.md"
expect '^\| hello \| FAILED \| .*`hello` ended with 3'
expect '^loss is not a number'
expect '1 of 2 checks passed'

# With a card by name only (this nvidia-smi), or none at all, the report says what is wrong with it.
visit() { # folder of nvidia-smi, steps
    local smi=$1
    shift
    PATH="$smi:$PATH" "$FLAMBEAU_SOURCE/tests/gpu/first_contact" --out "$work/card" --built --build "$FLAMBEAU_BUILD" \
        --only "$@" >"$work/bad.txt" 2>&1 && { echo "a machine without a card passes"; exit 1; }
    cp "$work/card/report.md" "$work/report.md"
}
mkdir "$work/none" "$work/one"
printf '#!/bin/sh\nexit 9\n' >"$work/none/nvidia-smi"
printf '#!/bin/sh\n[ $# = 0 ] || echo "NVIDIA H200, 580.65.06, 143771 MiB, 9.0"\n' >"$work/one/nvidia-smi"
chmod +x "$work"/{none,one}/nvidia-smi
visit "$work/none" environment hello
expect '^\| environment \| FAILED \| .*nvidia-smi names no card: no driver, or a container started without its cards'
if grep '^| hello' "$work/report.md"; then echo "steps are made without a card"; exit 1; fi
if [ -e "$FLAMBEAU_BUILD/lib/libflambeau_cuda.so" ] && [ ! -e /dev/nvidiactl ]; then
    visit "$work/one" environment doctor hello
    expect '^- 1 x NVIDIA H200, 143771 MiB, compute capability 9.0, driver 580.65.06$'
    expect '^\| doctor \| FAILED \| .*no card is used: no NVIDIA driver is loaded'
    expect '^flambeau: context_open: .* device "cuda": no NVIDIA driver is loaded: install it'
    expect '^- `last run on a card: [0-9a-f]+.*, NVIDIA H200, 1/3 \('
fi
