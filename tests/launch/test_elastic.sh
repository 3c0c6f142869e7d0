#!/usr/bin/env bash
# timeout: 300 slots: 2
# flambeau run --elastic on two hosts (namespaces on one machine): one is lost, the job goes on on the other with fewer
# ranks; it comes back, the job goes on on both; the digest is that of an undisturbed run. Without --elastic a lost host
# ends the job, with a word. Skipped (77) where namespaces are not allowed.
set -euo pipefail
bin=${FLAMBEAU_BUILD:?}/bin
. "${FLAMBEAU_SOURCE:?}/tests/hosts.sh"
work=$(mktemp -d /tmp/elastic.XXXXXX)
trap 'hosts_finish; rm -rf "$work"' EXIT
cd "$work"
images=/usr/share/datasets/fashion-mnist
for part in train t10k; do
    name=train
    [ $part = train ] || name="test"
    "$bin/flambeau" data import idx --images $images/$part-images-idx3-ubyte.gz \
        --labels $images/$part-labels-idx1-ubyte.gz $name.h5 >import.txt
done
fashion=("$bin/fashion" --data "$work" --limit 1024 --shards 4 --print-bits --save-every 4)
want=$("$bin/flambeau" run -n 1 "${fashion[@]}" --steps 400 2>/dev/null | tail -n 1)
hosts_up 2 || exit $?
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
steps() { grep -c '^step ' out || :; }

: >out
FLAMBEAU_PROBE_SECONDS=2 at host1 "$bin/flambeau" run --elastic 1:4 --restart 5 --dir "$work/run" \
    --hostfile "$hosts/hostfile" "${fashion[@]}" --steps 400 </dev/null >out 2>&1 &
job=$!
await '^step 8 ' 60
[ -e run/logs/attempt-00001/rank-00003.txt ] || fail "it has not begun with four ranks"
host_down host2
await 'host host2 does not answer: it is left out' 60
await 'restart 1 of 5' 10
at_loss=$(steps)
for _ in $(seq 300); do [ "$(steps)" -gt $((at_loss + 4)) ] && break; sleep 0.1; done
[ ! -e run/logs/attempt-00002/rank-00002.txt ] || fail "it has not gone on with two ranks"
host_back host2
await 'host host2 answers again' 60
await 'goes on with more ranks' 60
code=0
wait $job || code=$?
[ $code = 0 ] || fail "exit code $code"
[ -e run/logs/attempt-00003/rank-00003.txt ] || fail "it has not gone on with four ranks"
[ "$(grep '^digest' out | tail -n 1)" = "$want" ] || fail "another digest than $want"
echo "elastic: 4 ranks, 2, 4: same digest"

: >out
at host1 "$bin/flambeau" run -n 4 --restart 5 --dir "$work/fixed" --hostfile "$hosts/hostfile" \
    "${fashion[@]}" --steps 10000 </dev/null >out 2>&1 &
job=$!
await '^step 8 ' 60
host_down host2
code=0
wait $job || code=$?
[ $code = 1 ] || fail "exit code $code"
grep -q "the hosts that answer have room for 2 of 4 ranks: --elastic MIN:MAX would go on with fewer" out || fail "no word"
echo "without --elastic: ended with a word"
