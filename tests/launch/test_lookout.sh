#!/usr/bin/env bash
# timeout: 300 slots: 2
# Three hosts (namespaces on one machine) under flambeau run, which looks after the ranks: what becomes of rank 0, alone
# on its host, is told by the launcher on another one; a host whose link is cut ends its ranks by itself, and the others
# get one verdict. Skipped (77) where namespaces are not allowed.
set -euo pipefail
bin=${FLAMBEAU_BUILD:?}/bin
. "${FLAMBEAU_SOURCE:?}/tests/hosts.sh"
work=$(mktemp -d /tmp/lookout.XXXXXX)
trap 'hosts_finish; rm -rf "$work"' EXIT
hosts_up 3 || exit $?
export FLAMBEAU_STOPPED_SECONDS=1 FLAMBEAU_TIMEOUT_SECONDS=4 FLAMBEAU_SILENT_SECONDS=4
flags=()
[ -z "${FLAMBEAU_SANITIZE:-}" ] || flags=("-fsanitize=$FLAMBEAU_SANITIZE")
"${FLAMBEAU_CC:-cc}" -g -O1 -std=gnu11 -rdynamic -I "$FLAMBEAU_BUILD/include" "$FLAMBEAU_SOURCE/tests/comm/faults.c" \
    -o "$work/faults" -L "$FLAMBEAU_BUILD/lib" -lflambeau -Wl,-rpath,"$FLAMBEAU_BUILD/lib" "${flags[@]}"
fail() {
    echo "FAILED: $*"
    cat "$work/out" "$work"/run/verdict*.json 2>/dev/null || :
    exit 1
}
await() { # seconds, what, command...
    local i
    for ((i = 0; i < 10 * $1; i++)); do
        ! "${@:3}" || return 0
        sleep 0.1
    done
    fail "$2 within $1 s"
}
run() { # launcher's host, hosts of the ranks, one on each; arguments of faults
    rm -rf "$work/run"
    printf '%s slots=1\n' $2 >"$work/hostfile"
    at "$1" timeout -k 5 100 "$bin/flambeau" run --dir "$work/run" --hostfile "$work/hostfile" "$work/faults" "${@:3}" \
        </dev/null >"$work/out" 2>&1
}
gives() { # kind, rank, text of the verdict; as run
    ! run "${@:4}" || fail "$*: ended well"
    grep -q "\"verdict\": \"$1\"" "$work/run/verdict.json" || fail "$*: not $1"
    grep -q "\"rank\": $2," "$work/run/verdict.json" || fail "$*: another rank"
    grep -qE "$3" "$work/run/verdict.json" || fail "$*: no $3"
    echo "lookout: ${*:6}: $1"
}

gives unreachable 0 'rank 0 \(host1, pid [0-9]+\) has not been heard of for [45] s' host3 "host1 host2" trial stopped 0 5
gives stopped 0 'rank 0 \(host1, pid [0-9]+\) has been stopped' host1 "host1 host2 host3" trial stopped 0 5
gives dead 0 'rank 0 \(host2, pid [0-9]+\) is dead' host1 "host2 host3" trial killed 0 5
gives stuck 2 'rank 2 \(host3, pid [0-9]+\) is stuck' host1 "host1 host2 host3" trial endless 2 5
run host1 "host1 host2 host3" trial nothing 0 0 || fail "a healthy job"
[ ! -e "$work/run/verdict.json" ] || fail "a verdict on a healthy job"

living() { # ranks of our program, on all hosts
    local f n=0
    for f in /proc/[0-9]*; do
        [ "$(readlink "$f/exe" 2>/dev/null)" != "$work/faults" ] || n=$((n + 1))
    done
    echo $n
}
have_started() { [ -e "$work/run/started.0" ] && [ -e "$work/run/started.2" ]; }
have_ended() { [ "$(living)" = 0 ]; }
run host1 "host1 host2 host3" forever &
await 60 "no start" have_started
! grep -q '[F]LAMBEAU_CONTROL=' /proc/[0-9]*/cmdline 2>/dev/null || fail "the token can be read by anybody"
grep -q '[F]LAMBEAU_CONTROL' /proc/[0-9]*/cmdline 2>/dev/null || fail "nobody tells the other hosts"
at switch ip link set port3 down
await 30 "ranks of a host that is cut off, and the others, do not end" have_ended
# mpirun alone would wait for ever.
await 40 "the launcher does not end" grep -q "mpirun has not ended 20 s after the verdict: ended by force" "$work/out"
wait $! && fail "a cut link: ended well"
[ "$(grep -c '"verdict": "unreachable"' "$work/run/verdict.json")" = 1 ] || fail "the verdict on a cut link"
at switch ip link set port3 up
echo "lookout: a cut link: $(sed -n 's/.*"text": //p' "$work/run/verdict.json")"
