#!/usr/bin/env bash
# timeout: 500 slots: 2
# Two hosts on one machine: network, host name and /dev/shm of their own, joined by a bridge; mpirun reaches them by
# nsenter. Messages between nodes, and what ranks say there, without pretending. Skipped (77) where that is not allowed.
set -euo pipefail
. "${FLAMBEAU_SOURCE:?}/tests/hosts.sh"
work=$(mktemp -d /tmp/two_hosts.XXXXXX)
trap 'hosts_finish; rm -rf "$work"' EXIT
hosts_up 2 || exit $?

export FLAMBEAU_STOPPED_SECONDS=1 FLAMBEAU_TIMEOUT_SECONDS=4 FLAMBEAU_SILENT_SECONDS=4
limit=60
[ -z "${FLAMBEAU_SANITIZE:-}" ] || limit=180
run() { # ranks, program, arguments: three or four ranks are on two hosts
    at host1 timeout -k 5 "$limit" mpirun --hostfile "$hosts/hostfile" -n "$1" --bind-to none "${@:2}" \
        </dev/null >"$work/out" 2>&1
}
passes() {
    run "$@" || { cat "$work/out"; echo "FAILED: $*"; exit 1; }
    echo "passed on two hosts: ${*:2}"
}
says() { # words that a line of each of the four ranks (of $speakers) has; program, arguments
    if run 4 "${@:2}"; then
        echo "FAILED: ${*:2} ended well"
        exit 1
    fi
    for r in ${speakers:-0 1 2 3}; do
        grep -aE "flambeau: rank $r: .*$1" "$work/out" >/dev/null ||
            { cat "$work/out"; echo "FAILED: ${*:2}: rank $r does not say: $1"; exit 1; }
    done
    echo "all ranks say so on two hosts: ${*:2}"
}

tests=$FLAMBEAU_BUILD/tests
passes 4 "$tests/comm/mpi_collectives"
passes 4 "$tests/comm/mpi_mesh"
passes 4 "$tests/parallel/mpi_commit"
passes 3 "$tests/parallel/mpi_ddp"

# Sums over nodes, of an odd length: each host sends what one rank alone on it would, once to and fro.
sent() { at switch ip -j -s link show port1 | sed -nE 's/.*"rx":\{"bytes":([0-9]+).*/\1/p'; }
echo "16000004 3" >"$work/sums"
before=$(sent)
passes 4 bash -c "exec '$tests/bench/all_reduce' - <'$work/sums'"
sent=$(($(sent) - before)) once=$((3 * 16000004))
[ "$sent" -gt $((once * 9 / 10)) ] && [ "$sent" -lt $((once * 5 / 4)) ] ||
    { echo "FAILED: three sums of 16 MB sent $sent bytes to the other host, not about $once"; exit 1; }
echo "three sums of 16 MB: $sent bytes from host to host"

flags=()
[ -z "${FLAMBEAU_SANITIZE:-}" ] || flags=("-fsanitize=$FLAMBEAU_SANITIZE")
"${FLAMBEAU_CC:-cc}" -g -O1 -std=gnu11 -rdynamic -I "$FLAMBEAU_BUILD/include" "$FLAMBEAU_SOURCE/tests/comm/faults.c" \
    -o "$work/faults" -L "$FLAMBEAU_BUILD/lib" -lflambeau -Wl,-rpath,"$FLAMBEAU_BUILD/lib" "${flags[@]}"
says "rank 1 \(host1\): all_reduce #0 at .* wants F32 \[1001\]" "$work/faults" other_count
says "rank 1 \(host1\) failed before barrier #0 .* on fire" "$work/faults" error_then_collective
speakers="0 1 2"
says "rank 3 \(host2, pid [0-9]+\) has been stopped for 1 s" "$work/faults" trial stopped 3 5
says "rank 3 \(host2, pid [0-9]+\) is stuck" "$work/faults" trial endless 3 5

living() { # ranks of our program, on both hosts
    local f n=0
    for f in /proc/[0-9]*; do
        [ "$(readlink "$f/exe" 2>/dev/null)" != "$work/faults" ] || n=$((n + 1))
    done
    echo $n
}
await() { # seconds, what, command...
    local i
    for ((i = 0; i < 10 * $1; i++)); do
        ! "${@:3}" || return 0
        sleep 0.1
    done
    cat "$work/out"
    echo "FAILED: $2 within $1 s"
    exit 1
}
have_started() { [ -e "$work/run/started.0" ] && [ -e "$work/run/started.3" ]; }
have_ended() { [ "$(living)" = 0 ]; }

# The link is cut in the middle of a sum: both sides end, with one verdict. mpirun itself would wait for ever.
mkdir "$work/run"
export FLAMBEAU_RUN_DIR=$work/run
run 4 "$work/faults" forever &
await "$limit" "no start" have_started
at switch ip link set port2 down
await 30 "ranks of a host that is cut off do not end" have_ended
kill -KILL "$!" 2>/dev/null || :
grep -E '"verdict": "unreachable"' "$work/run/verdict.json" >/dev/null ||
    { cat "$work/run/verdict.json"; echo "FAILED: the verdict on a cut link"; exit 1; }
echo "both sides of a cut link have ended: $(sed -n 's/.*"text": //p' "$work/run/verdict.json")"
