#!/usr/bin/env bash
# The real plug-in on a driver that is missing, too old or does not start: each is named, with what to do,
# and the CPU still works. labels: cudasim
set -euo pipefail
if [ -e /dev/nvidiactl ] || [ -e /proc/driver/nvidia/version ] || [ -e /dev/dxg ]; then
    echo "there is a driver: a stand-in must not come before it"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/stand-in" "$work/broken"
"$FLAMBEAU_CC" -shared -fPIC -o "$work/stand-in/libcuda.so.1" "$FLAMBEAU_SOURCE/tests/core/cuda/driver.c"
echo "no library" >"$work/broken/libcuda.so.1"
"$FLAMBEAU_CC" -shared -fPIC -o "$work/loaded.so" "$FLAMBEAU_SOURCE/tests/core/cuda/loaded.c" -ldl
needs=$(sed -n 's/.*built with CUDA \([0-9.]*\),.*/\1/p' < <("$FLAMBEAU_BUILD/bin/flambeau" doctor))

expect() { # text, settings: a program that asks for a card and the doctor both say it
    local text=$1
    shift
    if env "$@" FLAMBEAU_DEVICE=cuda "$FLAMBEAU_BUILD/bin/hello" >"$work/out" 2>&1; then
        echo "$*: a card was used"; exit 1
    fi
    grep -qE "device \"cuda\": $text.*; or use \"cpu\"" "$work/out" ||
        { echo "$*: no \"$text\" in:"; cat "$work/out"; exit 1; }
    env "$@" "$FLAMBEAU_BUILD/bin/flambeau" doctor >"$work/out" 2>&1
    grep -qE "^-- +CUDA +no card is used: $text" "$work/out" ||
        { echo "$*: the doctor does not say \"$text\":"; cat "$work/out"; exit 1; }
    env "$@" FLAMBEAU_DEVICE=cpu "$FLAMBEAU_BUILD/bin/hello" >"$work/out" 2>&1
    env "$@" "$FLAMBEAU_BUILD/bin/hello" >"$work/out" 2>&1 # nobody asks for a card
    grep -q loss "$work/out"
}
falls_back() { # text, settings: with the driver loaded, nobody asks for a card; the CPU computes and says why
    local text=$1
    shift
    env "$@" LD_PRELOAD="$work/loaded.so" "$FLAMBEAU_BUILD/bin/hello" >"$work/out" 2>&1
    if ! grep -q loss "$work/out" || ! grep -qE "^flambeau: context: .*, but the CPU computes: $text" "$work/out"; then
        echo "$*: no \"$text\" in:"; cat "$work/out"; exit 1
    fi
}
unset FLAMBEAU_DEVICE
stand_in=LD_LIBRARY_PATH=$work/stand-in
expect "no NVIDIA driver is loaded: install it" A=b
expect "no NVIDIA driver is loaded: install it" LD_LIBRARY_PATH="$work/broken"
expect "the driver serves CUDA 11.8, this build needs $needs: install a newer driver" "$stand_in" DRIVER_VERSION=11080
expect "cudaErrorNoDevice .*look at nvidia-smi and CUDA_VISIBLE_DEVICES" "$stand_in" DRIVER_VERSION=99000 DRIVER_INIT=100
expect "cudaErrorSystemDriverMismatch .*restart the machine or the container" "$stand_in" DRIVER_VERSION=99000 DRIVER_INIT=803
expect "cudaErrorSystemNotReady .*nvidia-fabricmanager" "$stand_in" DRIVER_VERSION=99000 DRIVER_INIT=802
expect "cudaErrorOperatingSystem .*/dev/nvidia" "$stand_in" DRIVER_VERSION=99000 DRIVER_INIT=304
expect "cudaErrorDevicesUnavailable .*nvidia-smi names the process .*FLAMBEAU_DEVICE=cpu" "$stand_in" DRIVER_VERSION=99000 DRIVER_INIT=46
expect "cudaErrorStubLibrary .*toolkit's stub" "$stand_in" DRIVER_VERSION=99000 DRIVER_INIT=34
expect "cudaErrorCompatNotSupportedOnDevice .*cuda-compat" "$stand_in" DRIVER_VERSION=99000 DRIVER_INIT=804
expect "cudaErrorMpsConnectionFailed .*nvidia-cuda-mps-control" "$stand_in" DRIVER_VERSION=99000 DRIVER_INIT=805
expect "cudaErrorUnknown .*look at nvidia-smi" "$stand_in" DRIVER_VERSION=99000 DRIVER_INIT=999

falls_back "the driver is loaded, but libcuda.so.1 is not found: .*--gpus all" A=b
falls_back "the driver serves CUDA 11.8, this build needs $needs: install a newer driver" "$stand_in" DRIVER_VERSION=11080
falls_back "cudaErrorNoDevice .*look at nvidia-smi" "$stand_in" DRIVER_VERSION=99000 DRIVER_INIT=100

# What the doctor says of a driver's version.
env "$stand_in" DRIVER_VERSION=11080 "$FLAMBEAU_BUILD/bin/flambeau" doctor >"$work/out"
grep -qE "^-- +CUDA +the driver serves CUDA 11.8, this build needs $needs" "$work/out"
env "$stand_in" DRIVER_VERSION=99000 DRIVER_INIT=100 "$FLAMBEAU_BUILD/bin/flambeau" doctor >"$work/out"
grep -qE "^ok +CUDA +the driver serves CUDA 99.0, this build needs $needs" "$work/out"
