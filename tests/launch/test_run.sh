#!/usr/bin/env bash
# timeout: 300 slots: 2
# flambeau run in batch jobs (what it starts there, by their environments and files) and as a supervisor:
# restarts, what is final, when it stops; output in files; a killed launcher; two jobs on one run directory.
set -euo pipefail
flambeau=${FLAMBEAU_BUILD:?}/bin/flambeau
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset "${!SLURM_@}" "${!PBS_@}" "${!LSB_@}" OMP_NUM_THREADS
source "${FLAMBEAU_SOURCE:?}/tests/expect.sh"
mkdir tools
printf '#!/bin/sh\nexit 0\n' >tools/srun
cp tools/srun tools/blaunch
cp tools/srun tools/pbs_tmrsh
chmod +x tools/*
PATH=$PWD/tools:$PATH

# Slurm: its short lists of nodes and tasks; what the job has room for; which launcher
slurm() { # nodes, tasks a node, options
    env SLURM_JOB_ID=812 SLURM_JOB_NODELIST="$1" SLURM_TASKS_PER_NODE="$2" SLURM_CPUS_ON_NODE=8 \
        "$flambeau" run --dry-run "${@:3}" train
}
expect 0 "srun --mpi=pmix --nodes=2 --ntasks=4 --ntasks-per-node=2 --distribution=block --nodelist n1,n2 " \
    slurm "n[1-2]" "2(x2)"
expect 0 "OMP_NUM_THREADS=4 " slurm "n[1-2]" "2(x2)"
expect 0 "--ntasks=3 --ntasks-per-node=2 --distribution=block --nodelist n1,n2 " slurm n1,n2 2,1
expect 0 "--nodelist g08-a,g09-a,g10-a,x7 --cpu-bind=none --kill-on-bad-exit=1" slurm "g[08-10]-a,x7" "1(x4)"
expect 0 "--nodelist r1c1,r1c3,r2c1,r2c3 " slurm "r[1-2]c[1,3]" 4
expect 0 "--nodes=1 --ntasks=2 --ntasks-per-node=2 --distribution=block --nodelist n1 " slurm "n[1-3]" 4 -n 2
expect 0 "--nodes=2 --ntasks=2 --ntasks-per-node=1 --distribution=block --nodelist n1,n2 " slurm "n[1-3]" 4 -N 2 -n 2
expect 0 "--nodes=2 --ntasks=8 --ntasks-per-node=4 " slurm "n[1-2]" 1 --gpus 4
expect 0 "--gpus-per-node=4 --gpu-bind=none" slurm "n[1-2]" 1 --gpus 4
expect 0 "--cpu-bind=none --cpus-per-task=6 " env SLURM_CPUS_PER_TASK=6 bash -c "$(declare -f slurm); flambeau=$flambeau; slurm n1 1"
expect 0 "--gpu-bind=none" env SLURM_GPUS_ON_NODE=2 bash -c "$(declare -f slurm); flambeau=$flambeau; slurm n1 2"
expect 0 "mpirun -n 4 --bind-to none --oversubscribe --map-by slot --host n1:2,n2:2 " slurm "n[1-2]" 2 --launcher mpirun
for list in "n[1-2" "n[2-1]" "n[x]" "n[1-2]x]y[" "n[-3]" ","; do
    expect 1 "SLURM_JOB_NODELIST: this is no list of nodes" slurm "$list" 1
done
expect 1 "SLURM_JOB_NODELIST: this is no list of nodes" slurm n1 "2(x"
expect 1 "-N 3: there are 2 hosts (Slurm)" slurm "n[1-2]" 2 -N 3
expect 1 "SLURM_JOB_ID is set, SLURM_JOB_NODELIST is not" env SLURM_JOB_ID=3 "$flambeau" run --dry-run train
expect 1 "--launcher srun: this is no Slurm job" "$flambeau" run -n 2 --launcher srun /bin/true
expect 2 "--launcher: srun or mpirun is needed" "$flambeau" run -n 2 --launcher ssh /bin/true

# PBS: a line of its file for each rank
printf 'a.site\na.site\nb.site\nb.site\n' >pbs
expect 0 "mpirun -n 4 --bind-to none --oversubscribe --map-by slot --host a.site:2,b.site:2 " \
    env PBS_JOBID=7.server PBS_NODEFILE=pbs "$flambeau" run --dry-run train
expect 0 "OMPI_MCA_plm_rsh_agent=pbs_tmrsh " env PBS_JOBID=7.server PBS_NODEFILE=pbs "$flambeau" run --dry-run train
expect 0 "OMPI_MCA_oob_tcp_keepalive_time=5 " env PBS_JOBID=7.server PBS_NODEFILE=pbs "$flambeau" run --dry-run train
expect 1 "PBS_NODEFILE absent: No such file" env PBS_JOBID=7 PBS_NODEFILE=absent "$flambeau" run --dry-run train
: >empty
expect 1 "PBS_NODEFILE empty: there is no host in it" env PBS_JOBID=7 PBS_NODEFILE=empty "$flambeau" run --dry-run train

# LSF: a file like that, or a list
expect 0 "--host a.site:2,b.site:2 " env LSB_JOBID=9 LSB_DJOB_HOSTFILE=pbs "$flambeau" run --dry-run train
expect 0 "OMPI_MCA_plm_rsh_agent=blaunch " env LSB_JOBID=9 LSB_MCPU_HOSTS="a 3 b 1" "$flambeau" run --dry-run train
expect 0 "mpirun -n 4 --bind-to none --oversubscribe --map-by slot --host a:3,b:1 " \
    env LSB_JOBID=9 LSB_MCPU_HOSTS="a 3 b 1" "$flambeau" run --dry-run train
expect 1 "LSB_MCPU_HOSTS: hosts and their slots are needed" env LSB_JOBID=9 LSB_MCPU_HOSTS="a b" "$flambeau" run --dry-run train
expect 1 "LSB_DJOB_HOSTFILE and LSB_MCPU_HOSTS are not" env LSB_JOBID=9 "$flambeau" run --dry-run train

# a hostfile wins over the batch system
printf 'h1 slots=2\nh2 slots=2\n' >hosts
expect 0 "--host h1:2,h2:1 " env PBS_JOBID=7.server PBS_NODEFILE=pbs "$flambeau" run -n 3 --hostfile hosts --dry-run train
expect 0 "--host h1:4,h2:4 " "$flambeau" run -n 8 --hostfile hosts --dry-run train
expect 0 "--host h1:2,h2:2 " "$flambeau" run --elastic 2:8 --dir run --hostfile hosts --dry-run train
printf 'h1 slots=2\nh2 slots=none\n' >bad
expect 1 "bad:2: a host and its slots are needed" "$flambeau" run -n 3 --hostfile bad --dry-run train

# what makes no sense
expect 2 "--restart needs --dir" "$flambeau" run -n 2 --restart 3 /bin/true
expect 2 "--elastic needs --dir" "$flambeau" run --elastic 1:2 /bin/true
expect 2 "--elastic 3:2: the least number of ranks comes first" "$flambeau" run --elastic 3:2 --dir run /bin/true
expect 2 "--elastic x: a whole number" "$flambeau" run --elastic x:2 --dir run /bin/true
expect 2 "-n and --elastic: one of them" "$flambeau" run -n 2 --elastic 1:2 --dir run /bin/true
expect 2 "5 ranks, but 4 shards" "$flambeau" run --elastic 2:5 --shards 4 --dir run /bin/true
expect 2 "--stop-after soon: a number is needed" "$flambeau" run -n 1 --stop-after soon /bin/true
: >file
expect 1 "--dir file/run: cannot make the folder" "$flambeau" run -n 1 --dir file/run /bin/true

# restarts: a program of sh that saves what the test says. It notes its attempts in a file.
cat >program <<'PROGRAM'
#!/bin/bash
# codes of its attempts, "5s" = with a newer checkpoint first
n=$(($(cat tries 2>/dev/null || echo 0) + 1))
[ "${OMPI_COMM_WORLD_RANK:-0}" = 0 ] || { echo "rank $OMPI_COMM_WORLD_RANK says $n"; exit 0; }
echo $n >tries
echo "attempt $n${FLAMBEAU_RUN_AGAIN:+ again}"
codes=($CODES)
code=${codes[$((n - 1))]}
[ "${code%s}" = "$code" ] || echo "{\"step\": $n, \"path\": \"p\"}" >"$FLAMBEAU_RUN_DIR/saved.json"
code=${code%s}
[ "$code" != kill ] || kill -KILL $$
[ "$code" != wait ] || { trap 'exit 75' USR1; for i in $(seq 400); do sleep 0.1; done; }
exit "$code"
PROGRAM
chmod +x program
try() { # exit code, text, codes, options
    rm -rf run tries
    export CODES=$3
    expect "$1" "$2" "$flambeau" run -n 1 --dir run "${@:4}" ./program
}
tries() { [ "$(cat tries)" = "$1" ] || { echo "$(cat tries) attempts, not $1"; cat out; exit 1; }; }
try 0 "attempt 1" "0"
tries 1
if grep -q again out; then cat out; exit 1; fi
expect 0 "FLAMBEAU_RUN_AGAIN=1 " env SLURM_RESTART_COUNT=1 bash -c \
    "$(declare -f slurm); flambeau=$flambeau; slurm n1 2 --dir run3 -n 1"
try 137 "" "kill"
tries 1
try 0 "s, no checkpoint yet: restart 1 of 2" "kill 0" --restart 2
grep -q "attempt 2 again" out # trainer.fresh is for the first
tries 2
try 0 "s, newest checkpoint: step 1: restart 1 of 1" "75s 0" --restart 1
tries 2
try 7 "s, newest checkpoint: step 2: all 1 restarts are used" "7s 7s 0" --restart 1
tries 2
try 7 "3 restarts in a row have ended without a newer checkpoint" "7s 7 7 7 0" --restart 9
tries 4
try 12 "this exit code is final" "12 0" --restart 9
tries 1
try 1 "this exit code is final" "1 0" --restart 9
tries 1
try 0 "restart 1 of 9" "1s 0" --restart 9
tries 2
grep -q "exit code 1 after .* restart 1 of 9" run/launcher.txt
[ "$(cat run/logs/attempt-00001/rank-00000.txt)" = "attempt 1" ] || grep -q "attempt 1" run/logs/attempt-00001/rank-00000.txt
grep -q "attempt 2" run/logs/attempt-00002/rank-00000.txt
grep -q '"generation": 2' run/lease.json

# the time is over: they are asked to stop, and nothing is started again
try 75 "2 s are over: the ranks are asked to save and to stop" "wait 0" --stop-after 2 --restart 5
tries 1
try 75 "--requeue: this is no batch job" "wait 0" --stop-after 2 --requeue

# rank 0 on the terminal, all in files
rm -rf run tries
export CODES=0
expect 0 "attempt 1" "$flambeau" run -n 3 --dir run ./program
if grep -q "rank 1 says" out; then cat out; exit 1; fi
grep -q "rank 1 says" run/logs/attempt-00001/rank-00001.txt
grep -q "rank 2 says" run/logs/attempt-00001/rank-00002.txt

# SIGTERM asks for a save, too, and is no reason to start again
rm -rf run tries
CODES="wait 0" "$flambeau" run -n 1 --dir run --restart 5 ./program >term 2>&1 &
launcher=$!
for _ in $(seq 300); do grep -q "attempt 1" term 2>/dev/null && break; sleep 0.1; done
kill -TERM $launcher
code=0
wait $launcher || code=$?
[ $code = 75 ] || { echo "SIGTERM: exit code $code"; cat term; exit 1; }
tries 1

# A killed launcher, started again with the same command: the ranks of the first are gone within 5 s.
cat >sleeper <<'SLEEPER'
#!/bin/bash
echo $$ >>pids
trap '' TERM USR1
for i in $(seq 600); do sleep 0.1; done
SLEEPER
chmod +x sleeper
alive() { local s; s=$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) && [ "$s" != Z ]; }
await() { # file, lines
    for _ in $(seq 200); do [ "$(wc -l <"$1" 2>/dev/null || echo 0)" -ge "$2" ] && return; sleep 0.05; done
    echo "$1 has fewer than $2 lines"
    cat out
    exit 1
}
ends() { # pids: within 5 s
    local pid
    for _ in $(seq 50); do
        for pid; do alive "$pid" && { sleep 0.1; continue 2; }; done
        return 0
    done
    echo "$* live"
    return 1
}
rm -rf run
: >pids
for kill in launcher mpirun both; do
    "$flambeau" run -n 2 --dir run ./sleeper >out 2>&1 &
    launcher=$!
    await pids 2
    mapfile -t ranks <pids
    : >pids
    mpirun=$(pgrep -P $launcher -x mpirun)
    [ $kill = mpirun ] || kill -KILL $launcher
    [ $kill = launcher ] || kill -KILL "$mpirun"
    "$flambeau" run -n 2 --dir run ./sleeper >again 2>&1 &
    second=$!
    ends "${ranks[@]}" || { echo "$kill was killed: old ranks live"; exit 1; }
    wait $launcher 2>/dev/null || true
    await pids 2
    mapfile -t ranks <pids
    : >pids
    kill -KILL $second
    wait $second 2>/dev/null || true
    ends "${ranks[@]}" || { echo "the launcher was killed: its ranks live"; exit 1; }
done

# Two jobs on one run directory: the older stops and says why.
"$flambeau" run -n 1 --dir run ./sleeper >older 2>&1 &
older=$!
await pids 1
"$flambeau" run -n 1 --dir run ./sleeper >newer 2>&1 &
newer=$!
code=0
wait $older || code=$?
[ $code = 12 ] || { echo "the older job: exit code $code"; cat older; exit 1; }
grep -q "process $newer on .* has taken over (generation" older
await pids 2
alive "$(tail -n 1 pids)" || { echo "the newer job does not live"; exit 1; }
kill -KILL $newer
wait $newer 2>/dev/null || true
ends "$(tail -n 1 pids)"
# Who is told to stop does not wait for a host that does not answer (10 s).
mkdir slow
cat >slow/mpirun <<'MPIRUN'
#!/bin/bash
[ "${!#}" != true ] || exec sleep 30
exit 137
MPIRUN
chmod +x slow/mpirun
printf 'h1 slots=1\nh2 slots=1\n' >hosts
PATH=$PWD/slow:$PATH "$flambeau" run -n 2 --dir probed --hostfile hosts --restart 5 ./program >probed.txt 2>&1 &
launcher=$!
for _ in $(seq 100); do pgrep -P $launcher -x sleep >/dev/null && break; sleep 0.1; done
kill -TERM $launcher
for _ in $(seq 40); do alive $launcher || break; sleep 0.1; done
! alive $launcher || { echo "told to stop, and still waiting for hosts"; exit 1; }
code=0
wait $launcher || code=$?
[ $code = 75 ] || { echo "told to stop: exit code $code"; cat probed.txt; exit 1; }
! grep -q "does not answer" probed.txt || { cat probed.txt; exit 1; }
echo "run: all of it"
