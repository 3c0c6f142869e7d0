#!/usr/bin/env bash
# slots: 2
# The flambeau command: what it starts, what it refuses and why, exit codes, signals.
set -euo pipefail
flambeau=$FLAMBEAU_BUILD/bin/flambeau
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
source "${FLAMBEAU_SOURCE:?}/tests/expect.sh"
expect 0 "doctor" "$flambeau" help
expect 2 "doctor" "$flambeau"
expect 2 'no command "trane"' "$flambeau" trane
expect 0 "flambeau 0.1.0" "$flambeau" version
expect 0 "flambeau 0.1.0" "$flambeau" --version
expect 0 "-n RANKS" "$flambeau" help run
for command in run submit data checkpoint doctor ops; do
    expect 0 "flambeau $command" "$flambeau" $command --help
done
expect 0 "softmax" "$flambeau" ops

# ops: columns are operator, inputs, outputs, devices, dtypes, derivatives, samples that work and that do not
row() { "$flambeau" ops --inner | awk -v name="$1" '$1 == name { $1 = $1; print; exit }'; }
is() { # operator, what its row begins with
    case $(row "$1") in
    "$1 $2"*) ;;
    *) echo "flambeau ops: \"$(row "$1")\", not \"$1 $2\"" && exit 1 ;;
    esac
}
is softmax "1 1 cpu cuda floats twice"
is add "2 1 cpu cuda floats integers BOOL twice"
is bitwise_and "2 1 cpu cuda integers BOOL none"
is where "3 1 cpu cuda floats integers BOOL twice"
is argmax "1 1 cpu cuda floats integers BOOL none"
is ctc_loss "4 1 cpu cuda floats twice"
is cholesky_solve "2 1 cpu "
is zeros "0 1 cpu cuda as asked none"
is softmax_bwd "2 1 cpu cuda"
"$flambeau" ops >out
[ "$(grep -c ' cpu  ' out)" = "$(sed -n '/^without a kernel on cards:/,$p' out | tail -1 | cut -d' ' -f1)" ]
[ "$(sed '1d; /operators$/,$d' out | wc -l)" = "$("$flambeau" ops --count)" ]
if sed '1d; /operators$/,$d' out | awk '{ for (i = 5; i < NF; i++) if ($i ~ /^(none|once|twice)$/) n += $(i + 1) == 0 } END { exit !n }'; then
    echo "flambeau ops: an operator has no sample that works" && exit 1
fi
if grep -w once out; then
    echo "flambeau ops: an operator can be differentiated once only" && exit 1
fi
expect 0 "kernels" "$flambeau" doctor

# run: what it refuses
expect 2 "no -n RANKS given" "$flambeau" run true
expect 2 "no program given" "$flambeau" run -n 2
expect 2 "-n two: a whole number from 1" "$flambeau" run -n two true
expect 2 "-n 0: a whole number from 1" "$flambeau" run -n 0 true
expect 2 "5 ranks, but 4 shards" "$flambeau" run -n 5 --shards 4 true
expect 2 "unrecognized option" "$flambeau" run --ranks 2 --colour true
expect 1 "./absent: no such program" "$flambeau" run -n 2 ./absent
expect 1 "is it built?" "$flambeau" run -n 2 "$work"
expect 1 "no mpirun in PATH" env PATH=/nowhere "$flambeau" run -n 2 /bin/true

# run: what it would start
expect 0 "mpirun -n 3 --bind-to none" "$flambeau" run -n 3 --dry-run /bin/echo --n 7
expect 0 "/bin/echo --n 7" "$flambeau" run -n 3 --dry-run /bin/echo --n 7
expect 0 "FLAMBEAU_SHARDS=6" "$flambeau" run -n 3 --shards 6 --dry-run /bin/true
expect 0 "FLAMBEAU_THREADS=2" "$flambeau" run -n 3 --threads 2 --dry-run /bin/true
printf 'a slots=2\nb:1 # and so on\n\n' >nodes
expect 0 "--map-by slot --host a:2,b:1 " "$flambeau" run -n 3 --hostfile nodes --dry-run train
expect 1 "--hostfile absent: No such file" "$flambeau" run -n 3 --hostfile absent --dry-run train
for name in FLAMBEAU_DEVICE NCCL_SOCKET_IFNAME OMP_NUM_THREADS; do # other nodes get them
    expect 0 "-x $name " env "$name=1" "$flambeau" run -n 3 --hostfile nodes --dry-run train
done
if CUDA_VISIBLE_DEVICES=0 "$flambeau" run -n 3 --hostfile nodes --dry-run train | grep CUDA; then exit 1; fi

# run: what it starts
expect 0 "4 7" "$flambeau" run -n 1 -V 4 -t 7 /bin/sh -c 'echo $FLAMBEAU_SHARDS $FLAMBEAU_THREADS'
[ "$("$flambeau" run -n 3 /bin/sh -c 'echo rank' | grep -c rank)" = 3 ]
expect 75 "" "$flambeau" run -n 2 /bin/sh -c 'exit 75'
expect 0 "" "$flambeau" run -n 1 /bin/true

# run: an mpirun that does not end after its last rank has ended
mkdir locked
printf '#!/bin/sh\n/bin/sleep 1\nexec sleep 300\n' >locked/mpirun
chmod +x locked/mpirun
expect 1 "all ranks have ended, but mpirun has not for 10 s" env PATH="$PWD/locked:$PATH" \
    "$flambeau" run -n 2 /bin/true

# A signal to the launcher reaches the program, and the launcher waits for it.
cat >traps.sh <<'TRAPS'
trap 'echo told; exit 3' USR1
echo ready
for _ in $(seq 200); do sleep 0.1; done
TRAPS
"$flambeau" run -n 1 /bin/bash traps.sh >signal.out 2>&1 &
launcher=$!
for _ in $(seq 200); do grep -q ready signal.out && break; sleep 0.1; done
kill -USR1 $launcher
code=0
wait $launcher || code=$?
grep -q told signal.out && [ $code = 3 ] || { echo "USR1: exit code $code"; cat signal.out; exit 1; }

# When the launcher is killed, the job ends as well.
"$flambeau" run -n 1 /bin/bash -c 'echo $$ >pid; exec sleep 60' >kill.out 2>&1 &
launcher=$!
for _ in $(seq 200); do [ -s pid ] && break; sleep 0.1; done
kill -KILL $launcher
wait $launcher 2>/dev/null || true
for _ in $(seq 100); do kill -0 "$(cat pid)" 2>/dev/null || exit 0; sleep 0.1; done
echo "the program outlived its launcher"
exit 1
