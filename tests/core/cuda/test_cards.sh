#!/usr/bin/env bash
# What is said of cards on a machine that has some: the simulated runtime takes the place of the plug-in "cuda", and a
# preloaded file makes the driver seem loaded. The doctor, a program that asks for a card, and one that does not.
# labels: cudasim
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir plugins
ln -s "$FLAMBEAU_BUILD/lib/libflambeau_cudasim.so" plugins/libflambeau_cuda.so
"$FLAMBEAU_CC" -shared -fPIC -o loaded.so "$FLAMBEAU_SOURCE/tests/core/cuda/loaded.c" -ldl
bin=$FLAMBEAU_BUILD/bin
export FLAMBEAU_PLUGINS=$work/plugins
unset FLAMBEAU_DEVICE

wants() { # pattern: it is in out
    grep -qE -- "$1" out || { echo "no \"$1\" in:"; cat out; exit 1; }
}
lacks() {
    if grep -E -- "$1" out; then echo "\"$1\" is in:"; cat out; exit 1; fi
}
doctor() { env "$@" "$bin/flambeau" doctor >out 2>&1; } # a card that is not there is nothing that is needed
fails() {
    if env "$@" >out 2>&1; then echo "$*: no error"; cat out; exit 1; fi
}
works() { env "$@" >out 2>&1 || { echo "$*: an error"; cat out; exit 1; }; }

# Two cards.
doctor A=b
wants '^ok +CUDA +the driver serves CUDA [0-9.]+, this build needs [0-9.]+$'
wants '^ok +CUDA +cudasim:0 cudasim device, sm_90, 1.0 of 1.0 GiB free; linked to 1$'
wants '^ok +CUDA +cudasim:1 cudasim device, sm_90, 1.0 of 1.0 GiB free; linked to 0$'
works LD_PRELOAD="$work/loaded.so" "$bin/hello" # nobody asks for a card, and it is taken
wants '^loss '
lacks 'context:'
fails LD_PRELOAD="$work/loaded.so" CUDASIM_FAIL=kernel:700 "$bin/hello"
wants 'cuda:0: .*cudaErrorIllegalAddress .*a kernel touched memory that is not its own'
works "$bin/hello" # no driver: the plug-in is not even opened
lacks 'context:'

# Busy: who asks for it hears it, and nobody is moved to the CPU in silence.
busy='cudaErrorDevicesUnavailable .*: the card is busy or in exclusive mode: nvidia-smi names the process .*or use the CPU'
doctor CUDASIM_FAIL=cudaSetDevice:46
wants "^-- +CUDA +cudasim:0 cudasim device, sm_90, cannot be used: $busy"
fails CUDASIM_FAIL=cudaSetDevice:46 FLAMBEAU_DEVICE=cuda "$bin/hello"
wants "cuda:0: $busy"
fails CUDASIM_FAIL=cudaSetDevice:46 LD_PRELOAD="$work/loaded.so" "$bin/hello"
wants "cuda:0: $busy"
works CUDASIM_FAIL=cudaSetDevice:46 LD_PRELOAD="$work/loaded.so" FLAMBEAU_DEVICE=cpu "$bin/hello"

# None that can be used: the CPU computes, and it is said once.
cpu='^flambeau: context: an NVIDIA driver is loaded, but the CPU computes: '
none='cudaErrorNoDevice .*: no card is visible: look at nvidia-smi and CUDA_VISIBLE_DEVICES'
old='this build has kernels for sm_90, the first card is sm_75: configure with -DFLAMBEAU_CUDA_ARCHITECTURES=75, or choose another'
doctor CUDASIM_DEVICES=0
wants "^-- +CUDA +no card is used: $none"
doctor CUDASIM_CAPABILITY=75
wants "^-- +CUDA +no card is used: $old"
for settings in "CUDASIM_DEVICES=0 $none" "CUDASIM_CAPABILITY=75 $old"; do
    works "${settings%% *}" LD_PRELOAD="$work/loaded.so" "$bin/hello"
    wants "$cpu${settings#* }.* \(FLAMBEAU_DEVICE=cpu chooses it without this line\)$"
    wants '^loss '
    [ "$(grep -cE "$cpu" out)" = 1 ]
    works "${settings%% *}" LD_PRELOAD="$work/loaded.so" FLAMBEAU_DEVICE=cpu "$bin/hello"
    lacks 'context:'
    fails "${settings%% *}" FLAMBEAU_DEVICE=cuda:0 "$bin/hello"
    wants "context: device \"cuda:0\": ${settings#* }.*; or use \"cpu\""
done
works CUDASIM_CAPABILITY=100 FLAMBEAU_DEVICE=cuda "$bin/hello" # the last architecture is there for all later ones, too
mkdir empty
works FLAMBEAU_PLUGINS="$work/empty" LD_PRELOAD="$work/loaded.so" "$bin/hello"
wants '^loss '

# In a job one rank of each machine says it.

head -c 400 "$0" >text
works CUDASIM_DEVICES=0 "$bin/flambeau" run -n 2 env LD_PRELOAD="$work/loaded.so" "$bin/chargpt" --text text --steps 1 \
    --layers 1 --width 16 --heads 2 --context 8 --batch 2 --sample 0
[ "$(grep -cE 'an NVIDIA driver is loaded, but the CPU computes' out)" = 1 ] || { cat out; exit 1; }

# Memory.
fails FLAMBEAU_DEVICE=cuda CUDASIM_MEM=9000000 OMP_NUM_THREADS=1 "$bin/chargpt" --text text --steps 1 --layers 1 \
    --width 256 --heads 2 --context 16 --batch 8 --sample 0
wants 'memory: .* wanted by .* on cuda:0: .*use a smaller micro-batch'
