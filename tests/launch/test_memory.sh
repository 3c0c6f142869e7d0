#!/usr/bin/env bash
# timeout: 300 slots: 2
# flambeau run goes on from copies in memory: after a rank is killed, and on two hosts (namespaces on one machine) after
# one of them dies with its /dev/shm: first the other one, then the launcher's. At most one step is lost each time, the
# digest is that of an undisturbed run, and nothing stays in memory. A node without room says so.
set -euo pipefail
bin=${FLAMBEAU_BUILD:?}/bin
. "${FLAMBEAU_SOURCE:?}/tests/hosts.sh"
work=$(mktemp -d /tmp/memory.XXXXXX)
trap 'hosts_finish; rm -rf "$work"' EXIT
cd "$work"
images=/usr/share/datasets/fashion-mnist
for part in train t10k; do
    name=train
    [ $part = train ] || name="test"
    "$bin/flambeau" data import idx --images $images/$part-images-idx3-ubyte.gz \
        --labels $images/$part-labels-idx1-ubyte.gz $name.h5 >import.txt
done
# Nothing is saved on disk before the end.
steps=800
fashion=("$bin/fashion" --data "$work" --limit 1024 --batch 64 --shards 4 --threads 1 --print-bits
    --set trainer.save_every=-1 --steps $steps)
want=$("$bin/flambeau" run -n 1 "${fashion[@]}" --checkpoint "$work/alone" 2>/dev/null | tail -n 1)
fashion+=(--set trainer.memory_checkpoint=1)
fail() {
    echo "FAILED: $*"
    tail -n 40 out
    exit 1
}
await() { # pattern of a line, seconds
    for _ in $(seq $(($2 * 10))); do
        grep -qE "$1" out && return
        sleep 0.1
    done
    fail "no \"$1\" after $2 s"
}
goes_on() { # so many times, each from the last step whose loss was printed, or the one before
    awk '/^step [0-9]+ loss / && $2 > last { last = $2 }
        match($0, /copy of step [0-9]+ in the memory of/) {
            n++
            split(substr($0, RSTART), words, " ")
            if (words[4] < last - 1) { print "step " last " was done, copy of step " words[4]; exit 1 }
        }
        END { if (n != '"$1"') { print n + 0 " times from memory"; exit 1 } }' out || fail "not $1 times from memory"
    [ "$(grep -a '^digest' out | tail -n 1)" = "$want" ] || fail "another digest than $want"
}

export FLAMBEAU_MEMORY_DIR=$work/shm
mkdir shm
: >out
"$bin/flambeau" run -n 2 --restart 5 --dir "$work/run" "${fashion[@]}" </dev/null >out 2>&1 &
job=$!
for attempt in 1 2; do
    await "^step ${attempt}00 " 60
    for exe in /proc/[0-9]*/exe; do # the last rank of the job
        pid=${exe//[!0-9]/}
        [ "$(readlink "$exe" 2>/dev/null)" = "$bin/fashion" ] && tr '\0' '\n' <"/proc/$pid/environ" |
            grep -qx "FLAMBEAU_RUN_DIR=$work/run" && victim=$pid
    done
    kill -KILL "$victim"
    await "newest checkpoint: step [0-9]+: restart $attempt of 5" 60
done
code=0
wait $job || code=$?
[ $code = 0 ] || fail "exit code $code"
goes_on 2
[ -z "$(ls shm)" ] || fail "left in memory: $(ls shm)"
echo "memory: a rank is killed twice: at most one step is lost each time, same digest"

# No room: a tmpfs that is too small for two copies.
mkdir small
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=6m none small 2>out; then
    FLAMBEAU_MEMORY_DIR=$work/small "$bin/flambeau" run -n 2 "${fashion[@]}" --steps 4 --checkpoint b >out 2>&1 || :
    umount small
    grep -qE "checkpoints in memory: .*/small on .* has room for [0-9.]+ MB more, and two copies of [0-9.]+ MB" out ||
        fail "no word of the room"
    grep -qa '^digest' out || fail "it has not gone on"
    echo "memory: no room is a warning"
fi

# Hosts that die with their /dev/shm.
unset FLAMBEAU_MEMORY_DIR
hosts_up 2 || exit $?
start() { # on a host
    FLAMBEAU_PROBE_SECONDS=2 at "$1" "$bin/flambeau" run --elastic 1:4 --restart 5 --dir "$work/hosts" \
        --hostfile "$hosts/hostfile" "${fashion[@]}" </dev/null >>out 2>&1 &
    job=$!
}
: >out
start host1
await '^step 60 ' 60
[ -e hosts/logs/attempt-00001/rank-00003.txt ] || fail "it has not begun with four ranks"
host_dies host2
await 'host host2 does not answer: it is left out' 60
await 'goes on from the copy of step [0-9]+ in the memory of host1' 60
host_back host2
await 'goes on with more ranks' 60
from=$(sed -n 's/.*newest checkpoint: step \([0-9]*\)$/\1/p' out | tail -n 1)
await "^step $((from + 20)) " 60
host_dies host1 # with rank 0 and the launcher
host_back host1
wait $job || :
start host2
await 'goes on from the copy of step [0-9]+ in the memory of host2' 60
code=0
wait $job || code=$?
[ $code = 0 ] || fail "exit code $code"
goes_on 2
for host in host1 host2; do
    left=$(at $host find /dev/shm -name 'flambeau-*')
    [ -z "$left" ] || fail "left in memory: $left"
done
echo "memory: each of two hosts dies with its memory: at most one step is lost, same digest"
