#!/usr/bin/env bash
# flambeau doctor: what it says of driver, toolkit, CUDA's libraries and cards, of those that are missing
# and of those of another version.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
doctor() { # settings: they end up in out
    env "$@" "$FLAMBEAU_BUILD/bin/flambeau" doctor >out 2>&1 || true
}
wants() { # mark, pattern
    grep -qE -- "^$1 +$2" out || { echo "no \"$1 $2\" in:"; cat out; exit 1; }
}
fake() { # library, C code
    echo "$2" >fake.c
    mkdir -p fakes
    "$FLAMBEAU_CC" -shared -fPIC -o "fakes/$1" fake.c
}

# Wherever this runs: something is said of each.
doctor A=b
grep -qE '^(ok|--) +driver ' out
grep -qE '^(ok|--) +toolkit ' out
grep -qE '^(ok|--) +CUDA ' out

# The batch system, or the job of one; and copies that jobs have left in memory.
mkdir batch
printf '#!/bin/sh\n' >batch/bsub
chmod +x batch/bsub
doctor PATH="$work/batch:$PATH"
wants ok 'batch +.*/batch/bsub: flambeau submit lsf'
doctor PATH=/nowhere
wants -- 'batch +no sbatch, qsub or bsub in PATH: no batch system'
printf 'n1\nn1\nn2\n' >nodes
doctor PBS_JOBID=7.server PBS_NODEFILE="$work/nodes"
wants ok 'batch +this is PBS job 7.server, with 2 hosts'
mkdir shm
doctor FLAMBEAU_MEMORY_DIR="$work/shm"
! grep -q '^-- *copies' out || { cat out; exit 1; }
head -c 2000000 /dev/zero >shm/flambeau-0-0-1-0-0
doctor FLAMBEAU_MEMORY_DIR="$work/shm"
wants -- 'copies +1 copies of states in .*/shm \(flambeau-\*\), 2.0 MB: of jobs that run'

# Without a plug-in of this build, or with one that does not fit, a card is of no use, and it says why.
# A command that has no plug-in beside it is that of a build without CUDA.
mkdir -p alone
cp "$FLAMBEAU_BUILD/bin/flambeau" alone/
alone/flambeau doctor >out 2>&1 || true
wants -- 'CUDA +no card is used: there is no libflambeau_cuda.so in .*this build has no such plug-in'
fake libflambeau_cuda.so 'int nothing;'
doctor FLAMBEAU_PLUGINS="$work/fakes"
wants -- 'CUDA +no card is used: .*/fakes/libflambeau_cuda.so is no plug-in for this library: build and install'
"$FLAMBEAU_CC" -shared -fPIC -o libcublasLt.so.99 -Wl,-soname,libcublasLt.so.99 fake.c
"$FLAMBEAU_CC" -shared -fPIC -Wl,--no-as-needed -o fakes/libflambeau_cuda.so fake.c ./libcublasLt.so.99
rm libcublasLt.so.99
doctor FLAMBEAU_PLUGINS="$work/fakes"
wants -- 'CUDA +no card is used: .* cannot be loaded: libcublasLt.so.99: .*LD_LIBRARY_PATH'
rm fakes/*
[ -e "$FLAMBEAU_BUILD/lib/libflambeau_cuda.so" ] || exit 0

# Libraries that are opened when they are wanted. A build without cuDNN's headers says that instead.
doctor A=b
if grep -q 'cuDNN is not used: this build has found no cudnn.h' out; then
    cudnn() { wants -- 'CUDA +cuDNN is not used: this build has found no cudnn.h: install .* build again; without it'; }
else
    cudnn() { wants "$@"; }
fi
fake libcudnn.so.9 '#include <stddef.h>
size_t cudnnGetVersion(void) { return 8907; }'
fake libnccl.so.2 'int ncclGetVersion(int *v) { *v = 21605; return 0; }'
doctor LD_LIBRARY_PATH="$work/fakes"
cudnn -- 'CUDA +cuDNN is not used: .*/fakes/libcudnn.so.9 is version 8.9.7: install 9.7.0 or newer, but older than 10.0.0'
wants -- 'CUDA +NCCL is not used: .*/fakes/libnccl.so.2 is version 2.16.5: install 2.18.0 or newer'
fake libcudnn.so.9 '#include <stddef.h>
size_t cudnnGetVersion(void) { return 91002; }'
fake libnccl.so.2 'int ncclGetVersion(int *v) { *v = 21800; return 0; }'
doctor LD_LIBRARY_PATH="$work/fakes"
cudnn ok 'CUDA +cuDNN 9.10.2, 9.7.0 or newer is needed'
wants ok 'CUDA +NCCL 2.18.0, 2.18.0 or newer is needed'
fake libcudnn.so.9 'int nothing;'
fake libnccl.so.2 'int nothing;'
doctor LD_LIBRARY_PATH="$work/fakes"
cudnn -- 'CUDA +cuDNN is not used: libcudnn.so.9 does not tell its version'
wants -- 'CUDA +NCCL is not used: libnccl.so.2 does not tell its version'
echo "no library" >fakes/libnccl.so.2
doctor LD_LIBRARY_PATH="$work/fakes"
wants -- 'CUDA +NCCL is not used: .*libnccl.so.2: .*: install NCCL 2.18.0 or newer, .*or name its libnccl.so.2 in FLAMBEAU_NCCL;'
doctor FLAMBEAU_CUDNN="$work/absent.so" FLAMBEAU_NCCL="$work/absent.so"
cudnn -- 'CUDA +cuDNN is not used: .*/absent.so: cannot open .*or name its libcudnn.so.9 in FLAMBEAU_CUDNN;'
wants -- 'CUDA +NCCL is not used: .*/absent.so: cannot open'
doctor FLAMBEAU_CUDNN=off FLAMBEAU_NCCL=off
cudnn -- 'CUDA +cuDNN is not used: FLAMBEAU_CUDNN=off; without it convolutions and attention run on'
wants -- 'CUDA +NCCL is not used: FLAMBEAU_NCCL=off; without it sums over ranks go through host memory'

# cuBLASLt is linked: another one of the same name may be found first, or none that can be loaded.
blas=$(objdump -p "$FLAMBEAU_BUILD/lib/libflambeau_cuda.so" | sed -n 's/.*NEEDED *\(libcublasLt.*\)/\1/p')
functions() { nm -D --undefined-only "$FLAMBEAU_BUILD/lib/libflambeau_cuda.so" | sed -n 's/.* U \(cublasLt[A-Za-z_]*\).*/\1/p'; }
rm fakes/*
{ functions | sed -e '/GetVersion/d' -e 's/.*/int &(void) { return 1; }/'
    echo 'unsigned long cublasLtGetVersion(void) { return 110001; }'; } >fake.c
echo "$blas { *; };" >versions
"$FLAMBEAU_CC" -shared -fPIC -o "fakes/$blas" "-Wl,-soname,$blas,--version-script=versions" fake.c
doctor LD_LIBRARY_PATH="$work/fakes"
wants -- 'CUDA +cuBLASLt 11.0.1, built with [0-9.]+: an older one may lack products that this build asks for: install that'
echo "no library" >"fakes/$blas"
doctor LD_LIBRARY_PATH="$work/fakes"
wants -- "CUDA +no card is used: .*/libflambeau_cuda.so cannot be loaded: .*$blas: .*: install what it names, or put its folder"
grep -q "everything needed to run is there" out
for asked in cuda "cuda:0"; do
    if LD_LIBRARY_PATH="$work/fakes" FLAMBEAU_DEVICE=$asked "$FLAMBEAU_BUILD/bin/hello" >out 2>&1; then exit 1; fi
    grep -q "context: device \"$asked\": .* cannot be loaded: .*$blas.*; or use \"cpu\"" out
done
LD_LIBRARY_PATH="$work/fakes" FLAMBEAU_DEVICE=cpu "$FLAMBEAU_BUILD/bin/hello" | grep -q '^loss'

# No driver.
if [ -e /dev/nvidiactl ] || [ -e /proc/driver/nvidia/version ] || [ -e /dev/dxg ]; then
    echo "there is a driver: what is said without one was not looked at"
    exit 0
fi
doctor A=b
wants -- 'driver +no NVIDIA driver is loaded'
wants ok 'CUDA +built with CUDA [0-9]+\.[0-9], kernels for sm_'
wants ok 'CUDA +cuBLASLt [0-9.]+, built with [0-9.]+$'
wants -- 'CUDA +no card is used: no NVIDIA driver is loaded: install it'
grep -q "everything needed to run is there" out
