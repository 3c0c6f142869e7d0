#!/usr/bin/env bash
# timeout: 500 slots: 1
# PBS and LSF from end to end, with a qsub and a bsub of our own that do what is written of theirs: environment, node
# files, requeueing. A job that is told to stop goes back into the queue and on, to the digest of an undisturbed run.
set -euo pipefail
bin=${FLAMBEAU_BUILD:?}/bin
work=$(mktemp -d)
. "${FLAMBEAU_SOURCE:?}/tests/hosts.sh"
finish() {
    local pid
    hosts_finish
    for pid in $(cat "$work"/*.pid 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || :; done
    rm -rf "$work"
}
trap finish EXIT
cd "$work"
unset "${!SLURM_@}" "${!PBS_@}" "${!LSB_@}"
mkdir tools queue
export PATH=$PWD/tools:$PATH QUEUE=$PWD/queue

# qsub [-v VARIABLE=VALUE] [-W depend=afterany:JOB] SCRIPT: jobs begin at once, or after another. As many lines in the node file as the
# script asks for ranks, on two nodes of one name: this machine.
cat >tools/qsub <<'QSUB'
#!/bin/bash
set -e
after=''
if [ "$1" = -v ]; then export "${2?}"; shift 2; fi
if [ "$1" = -W ]; then after=${2#depend=afterany:}; shift 2; fi
n=$(($(cat "$QUEUE/last" 2>/dev/null || echo 0) + 1))
echo $n >"$QUEUE/last"
export PBS_JOBID=$n.fake PBS_NODEFILE=$QUEUE/nodes.$n PBS_O_WORKDIR=$PWD
lines=$(sed -nE 's/^#PBS -l select=([0-9]+):.*mpiprocs=([0-9]+).*/\1*\2/p' "$1")
for _ in $(seq $((lines))); do echo localhost; done >"$PBS_NODEFILE"
(
    cd /
    while [ -n "$after" ] && [ ! -e "$QUEUE/done.$after" ]; do sleep 0.1; done
    code=0
    setsid bash "$1" >>"$QUEUE/out.$PBS_JOBID" 2>&1 </dev/null &
    echo $! >"$QUEUE/$PBS_JOBID.pid"
    wait $! || code=$?
    echo $code >"$QUEUE/done.$PBS_JOBID"
) >/dev/null 2>&1 &
echo "$PBS_JOBID"
QSUB
# Only operators may.
printf '#!/bin/sh\necho "qrerun: Unauthorized Request $1" >&2\nexit 159\n' >tools/qrerun
# bsub <SCRIPT: exit codes of -Q bring the job back.
cat >tools/bsub <<'BSUB'
#!/bin/bash
set -e
export LSB_JOBID=77 LSB_DJOB_HOSTFILE=$QUEUE/lsf.nodes
cat >"$QUEUE/lsf.sh"
again=$(sed -nE 's/^#BSUB -Q "(.*)"/\1/p' "$QUEUE/lsf.sh")
for _ in $(seq "$(sed -nE 's/^#BSUB -n //p' "$QUEUE/lsf.sh")"); do echo localhost; done >"$LSB_DJOB_HOSTFILE"
(
    code=$again
    for ((runs = 0; code == again; runs++)); do
        setsid bash "$QUEUE/lsf.sh" >>"$QUEUE/out.77" 2>&1 </dev/null &
        echo $! >"$QUEUE/lsf.pid"
        code=0
        wait $! || code=$?
    done
    echo "$runs $code" >"$QUEUE/done.77"
) >/dev/null 2>&1 &
echo "Job <77> is submitted to default queue <normal>."
BSUB
chmod +x tools/*

images=/usr/share/datasets/fashion-mnist
for part in train t10k; do
    name=train
    [ $part = train ] || name="test"
    "$bin/flambeau" data import idx --images $images/$part-images-idx3-ubyte.gz \
        --labels $images/$part-labels-idx1-ubyte.gz $name.h5 >import.txt
done
fashion=("$bin/fashion" --data . --limit 1024 --shards 2 --print-bits --save-every 4 --steps)
fail() {
    echo "FAILED: $*"
    tail -n 40 "$QUEUE"/out.* run*/launcher.txt || :
    exit 1
}
await() { # file, seconds
    for _ in $(seq $(($2 * 5))); do
        [ ! -s "$1" ] || return 0
        sleep 0.2
    done
    fail "no $1 after $2 s"
}

# PBS: the launcher counts the time. qrerun is refused, so the script is submitted once more, to begin after this job.
# Two ranks, which may be twice as fast as one, are still at work after 7 s.
undisturbed() { "$bin/flambeau" run -n 1 "${fashion[@]}" "$1" 2>/dev/null | tail -n 1; }
steps=160 begun=$(date +%s%3N)
want=$(undisturbed $steps)
took=$(($(date +%s%3N) - begun))
if [ $took -lt 16000 ]; then
    steps=$((steps * 16000 / took))
    want=$(undisturbed $steps)
fi
[ "$("$bin/flambeau" submit pbs -n 2 --dir run1 --time 60 --warn 53 "${fashion[@]}" $steps)" = 1.fake ] || fail "no job"
await "$QUEUE/done.2.fake" 120
jobs=2
while [ "$(cat "$QUEUE/done.$jobs.fake")" = 75 ]; do # a slow machine needs more of them
    jobs=$((jobs + 1))
    await "$QUEUE/done.$jobs.fake" 60
done
[ "$(cat "$QUEUE/done.1.fake")" = 75 ] || fail "the first job ended with $(cat "$QUEUE/done.1.fake")"
grep -q "7 s are over: the ranks are asked to save and to stop" "$QUEUE/out.1.fake" || fail "nobody was asked"
grep -q "PBS job 1.fake goes back into the queue" "$QUEUE/out.1.fake" || fail "not requeued"
[ "$(grep "^digest" "$QUEUE/out.$jobs.fake")" = "$want" ] || fail "PBS: another digest than $want"
[ "$(cat "$QUEUE"/out.*.fake | grep -c '^step ')" = $steps ] || fail "a step was done twice, or not at all"
[ -e run1/logs/attempt-00002/rank-00001.txt ] || fail "no file for rank 1"
echo "PBS: $jobs jobs, same digest"

# LSF: it sends the signal of -wa, and its -Q brings the job back.
"$bin/flambeau" submit lsf -n 2 --dir run2 --time 60:00 "${fashion[@]}" $steps | grep -q "Job <77>" || fail "no job"
for _ in $(seq 300); do grep -q '^step 8 ' "$QUEUE/out.77" 2>/dev/null && break; sleep 0.2; done
kill -USR1 "$(cat "$QUEUE/lsf.pid")"
await "$QUEUE/done.77" 120
[ "$(cat "$QUEUE/done.77")" = "2 0" ] || fail "runs and exit code: $(cat "$QUEUE/done.77")"
[ "$(grep '^digest' "$QUEUE/out.77" | tail -n 1)" = "$want" ] || fail "LSF: another digest than $want"
[ "$(grep -c '^step ' "$QUEUE/out.77")" = $steps ] || fail "a step was done twice, or not at all"
echo "LSF: requeued, same digest"

# Deleted: both send signals to all processes of a job, mpirun and ranks too, some seconds before SIGKILL. It saves, and does
# not come back by itself; who submits it again goes on from there.
await_step() { # output, number
    for _ in $(seq 300); do
        ! grep -q "^step $2 " "$1" 2>/dev/null || return 0
        sleep 0.2
    done
    fail "$1: no step $2"
}
saved() { # run directory, exit code: of a job that was deleted
    [ "$2" = 75 ] || fail "$1: deleted, exit code $2"
    ls "$1"/checkpoints/step-*/manifest.json >/dev/null || fail "$1: nothing was saved"
    [ ! -e "$1/verdict.json" ] || fail "$1: $(cat "$1/verdict.json")"
}
job=$("$bin/flambeau" submit pbs -n 2 --dir run3 "${fashion[@]}" $steps)
await_step "$QUEUE/out.$job" 5
pkill -TERM -s "$(cat "$QUEUE/$job.pid")"
await "$QUEUE/done.$job" 60
saved run3 "$(cat "$QUEUE/done.$job")"
! grep -q "goes back into the queue" "$QUEUE/out.$job" || fail "a deleted job was requeued"
next=$("$bin/flambeau" submit pbs -n 2 --dir run3 "${fashion[@]}" $steps)
await "$QUEUE/done.$next" 120
[ "$(grep '^digest' "$QUEUE/out.$next")" = "$want" ] || fail "PBS: deleted and submitted again: another digest than $want"
[ "$(cat "$QUEUE/out.$job" "$QUEUE/out.$next" | grep -c '^step ')" = $steps ] || fail "a step was done twice, or not at all"
rm "$QUEUE/done.77" "$QUEUE/out.77"
"$bin/flambeau" submit lsf -n 2 --once --dir run4 "${fashion[@]}" $steps >/dev/null
await_step "$QUEUE/out.77" 5
pkill -INT -s "$(cat "$QUEUE/lsf.pid")"
pkill -TERM -s "$(cat "$QUEUE/lsf.pid")" || : # 10 s later, unless it has ended
await "$QUEUE/done.77" 60
saved run4 "$(sed 's/.* //' "$QUEUE/done.77")"
echo "PBS, LSF: deleted, saved before the end"

# The same on two hosts: the daemon of mpirun on the other one gets the signal, too.
hosts_up 2 || exit 0
printf '%s\n' host1 host2 >nodes
fashion[2]=$work # hosts begin in other folders
at host1 env PBS_JOBID=9.fake PBS_NODEFILE="$work/nodes" "$bin/flambeau" run --dir "$work/run5" "${fashion[@]}" $steps \
    >two.txt 2>&1 </dev/null &
two=$!
await_step two.txt 5
kill -TERM $(host_processes host2) $(host_processes host1)
code=0
wait $two || code=$?
cat two.txt >"$QUEUE/out.two"
saved run5 $code
echo "PBS: deleted on two hosts, saved before the end"
