#!/usr/bin/env bash
# timeout: 200
# What CMake says when it is asked for what it cannot do, and what it makes of a machine without
# CUDA, oneDNN or OpenMP.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
configure() { # options; output, with CMake's line breaks removed, in $work/log
    local code=0
    cmake -S "$FLAMBEAU_SOURCE" -B "$work/b" -DFLAMBEAU_TESTS=OFF "$@" >"$work/raw" 2>&1 || code=$?
    tr -s '\n ' ' ' <"$work/raw" >"$work/log"
    return $code
}
says() { grep -qF "$1" "$work/log" || { echo "no \"$1\" in:"; cat "$work/raw"; exit 1; }; }
refused() { # text, options
    if configure "${@:2}"; then
        echo "accepted: ${*:2}"
        exit 1
    fi
    says "$1"
}
accepted() { # text, options
    configure "${@:2}" || { cat "$work/raw"; exit 1; }
    says "$1"
}
refused "no toolkit found; configure with" -DFLAMBEAU_CUDA=ON -DFLAMBEAU_NVCC=
refused "use AUTO, ON or OFF" -DFLAMBEAU_CUDA=perhaps
accepted "CUDA no toolkit found" -DFLAMBEAU_CUDA=AUTO -DFLAMBEAU_NVCC= # as where there is none
plugins() { cmake --build "$work/b" --target help | grep flambeau_cuda; }
accepted "CUDA off" -DFLAMBEAU_CUDA=OFF
if plugins; then
    echo "CUDA is off, and yet there is something to build for it"
    exit 1
fi
accepted "oneDNN none" -DFLAMBEAU_ONEDNN=OFF
refused "oneDNN not found: install libdnnl-dev" -DFLAMBEAU_ONEDNN=AUTO \
    -DFLAMBEAU_ONEDNN_ROOT="$work/nowhere"
accepted "OpenMP OFF" -DFLAMBEAU_ONEDNN=AUTO -DFLAMBEAU_ONEDNN_ROOT= -DFLAMBEAU_SANITIZE=thread
