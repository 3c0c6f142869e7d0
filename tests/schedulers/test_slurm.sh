#!/usr/bin/env bash
# timeout: 500 slots: 1
# A real Slurm of two virtual nodes, thrown away afterwards: what `flambeau submit slurm` makes runs on both, is told to
# stop, is requeued, goes on, and ends at the digest of an undisturbed run; scancel ends it for good; a lost node is
# survived. Skipped (77) where there is no Slurm, or no right to start one. FLAMBEAU_LONG=1: the time limit, too.
set -euo pipefail
skip() { echo "skipped: $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root"
for tool in slurmctld slurmd munged srun ss unshare; do
    command -v $tool >/dev/null || skip "no $tool (launch/setup --cluster)"
done
bin=${FLAMBEAU_BUILD:?}/bin sandbox=${FLAMBEAU_SOURCE:?}/tests/schedulers/slurm_sandbox.sh
work=$(mktemp -d /tmp/slurm.XXXXXX)
finish() {
    [ ! -e "$work/slurm/slurm.conf" ] || "$sandbox" stop "$work/slurm" || :
    rm -rf "$work"
}
trap finish EXIT
chmod 755 "$work"
cd "$work"
unset "${!SLURM_@}"
unset OMPI_MCA_btl OMPI_MCA_plm # messages between nodes go over TCP
unshare -u -m true 2>/dev/null || skip "no namespaces here"
"$sandbox" start -N 2 -c 2 -g 0 -d "$work/slurm" >start.txt 2>&1 || { cat start.txt; exit 1; }
. "$work/slurm/env.sh"

images=/usr/share/datasets/fashion-mnist
for part in train t10k; do
    name=train
    [ $part = train ] || name="test"
    "$bin/flambeau" data import idx --images $images/$part-images-idx3-ubyte.gz \
        --labels $images/$part-labels-idx1-ubyte.gz $name.h5 >import.txt
done
fashion=("$bin/fashion" --data . --limit 1024 --shards 2 --print-bits --save-every 4)
steps=60
want=$("$bin/flambeau" run -n 1 "${fashion[@]}" --steps $steps 2>/dev/null | tail -n 1)

fail() {
    echo "FAILED: $*"
    squeue
    tail -n 30 run*/slurm-*.txt run*/launcher.txt || :
    exit 1
}
submit() { # folder, options ...: the job's number
    "$bin/flambeau" submit slurm --nodes 2 --dir "$1" --name fashion "${@:2}" "${fashion[@]}" --steps $steps |
        sed 's/.* //'
}
output() { cat "$1"/slurm-*.txt 2>/dev/null; }
await() { # folder, pattern, seconds
    for _ in $(seq $(($3 * 5))); do
        output "$1" | grep -qE "$2" && return
        sleep 0.2
    done
    fail "$1: no \"$2\" after $3 s"
}
state() { scontrol show job "$1" | sed -nE 's/.*JobState=([A-Z]+).*/\1/p'; }
await_state() { # job, state, seconds
    for _ in $(seq $(($3 * 5))); do
        [ "$(state "$1")" != "$2" ] || return 0
        sleep 0.2
    done
    fail "job $1 is $(state "$1"), not $2, after $3 s"
}
digest() { output "$1" | grep '^digest' | tail -n 1; }

# Told to stop as before a time limit: saved once, requeued, and on.
job=$(submit run1)
await run1 '^step 8 ' 60
scancel --batch --signal=USR1 "$job"
await run1 "run: Slurm job $job goes back into the queue" 30
await run1 "^step $steps " 90
await_state "$job" COMPLETED 30
scontrol show job "$job" | grep -q "Restarts=1" || fail "not started again"
[ "$(digest run1)" = "$want" ] || fail "requeued: $(digest run1), undisturbed $want"
[ "$(output run1 | grep -c '^step ')" = "$steps" ] || fail "a step was done twice, or not at all"
grep -q "^step" run1/logs/attempt-00001/rank-00000.txt
[ -e run1/logs/attempt-00002/rank-00001.txt ] || fail "no file for rank 1"
echo "slurm: requeued, same digest"

# Cancelled: it saves, ends, and does not come back.
job=$(submit run2)
await run2 '^step 8 ' 60
scancel "$job"
await_state "$job" CANCELLED 30
ls run2/checkpoints/step-* >/dev/null || fail "nothing was saved"
! output run2 | grep -q "goes back into the queue" || fail "a cancelled job was requeued"
[ "$(digest run2)" != "$want" ] || fail "it was not cancelled at all"
echo "slurm: cancelled"

# A rank dies: the launcher starts it again within the job.
job=$(submit run3)
await run3 '^step 8 ' 60
victim=''
for pid in $(pgrep -x fashion); do
    if tr '\0' '\n' <"/proc/$pid/environ" | grep -qx SLURM_PROCID=1; then victim=$pid; fi
done
[ -n "$victim" ] || fail "no rank 1"
kill -KILL "$victim"
await run3 "restart 1 of 3" 60
await_state "$job" COMPLETED 120
[ "$(digest run3)" = "$want" ] || fail "after a rank's death: $(digest run3), undisturbed $want"
echo "slurm: a rank died, same digest"

# A node is lost: whoever notices it first, the launcher or Slurm, puts the job back into the queue; it goes on when the
# node is there again.
job=$(submit run4)
await run4 '^step 8 ' 60
"$sandbox" crash "$work/slurm" node2
for _ in $(seq 600); do
    scontrol show job "$job" | grep -qE "Restarts=[1-9]" && break
    sleep 0.2
done
scontrol show job "$job" | grep -qE "Restarts=[1-9]" || fail "the lost node was not noticed"
"$sandbox" revive "$work/slurm" node2
await_state "$job" COMPLETED 120
[ "$(digest run4)" = "$want" ] || fail "after a node's loss: $(digest run4), undisturbed $want"
echo "slurm: a node was lost and came back, same digest"

# The same with --elastic: it goes on at once on the other node.
job=$(submit run5 --elastic 1:2)
await run5 '^step 8 ' 60
"$sandbox" crash "$work/slurm" node2
await run5 "^step $steps " 120
await_state "$job" COMPLETED 60
[ "$(digest run5)" = "$want" ] || fail "without node 2: $(digest run5), undisturbed $want"
echo "slurm: a node was lost, the other went on, same digest"

[ -n "${FLAMBEAU_LONG:-}" ] || exit 0
steps=100000
"$sandbox" revive "$work/slurm" node2
job=$(submit run6 --time 1:00 --warn 20)
await run6 "goes back into the queue" 100
saved=$(sed -nE 's/.*"step": ([0-9]+).*/\1/p' run6/saved.json)
[ "${saved:-0}" -gt 0 ] || fail "nothing was saved"
await run6 "^step $((saved + 1)) " 60
[ "$(output run6 | grep -c "^step $saved ")" = 1 ] || fail "step $saved was done twice"
scancel "$job"
echo "slurm: the time was over, saved, requeued and on from there"
