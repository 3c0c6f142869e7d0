#!/usr/bin/env bash
# A job that is told to stop saves one checkpoint that all ranks agree on and exits with 75; started
# again, on another number of ranks, it ends at the digest of an undisturbed run.
set -euo pipefail
bin=${FLAMBEAU_BUILD:?}/bin
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
images=/usr/share/datasets/fashion-mnist
"$bin/flambeau" data import idx --images $images/train-images-idx3-ubyte.gz \
    --labels $images/train-labels-idx1-ubyte.gz train.h5 >import.txt
"$bin/flambeau" data import idx --images $images/t10k-images-idx3-ubyte.gz \
    --labels $images/t10k-labels-idx1-ubyte.gz test.h5 >import.txt

fail() {
    echo "$1"
    cat told.txt again.txt 2>/dev/null
    exit 1
}
fashion() { # ranks, options
    local ranks=$1
    shift
    exec "$bin/flambeau" run -n "$ranks" "$bin/fashion" --data . --limit 1024 --shards 4 --print-bits \
        --steps 12 "$@"
}
(fashion 3) >plain.txt 2>/dev/null
for ranks in 1 3; do
    rm -rf run
    fashion $ranks --checkpoint run >told.txt 2>&1 &
    job=$!
    for _ in $(seq 600); do
        grep -q "^step 3 " told.txt && break
        sleep 0.05
    done
    kill -USR1 $job
    code=0
    wait $job || code=$?
    [ $code = 75 ] || fail "$ranks ranks told to stop: exit code $code"
    saved=(run/step-*/manifest.json)
    if [ ${#saved[@]} != 1 ] || [ ! -e "${saved[0]}" ]; then fail "$ranks ranks told to stop saved: ${saved[*]}"; fi
    [ ! -e run/step-000000012 ] || fail "$ranks ranks did not stop"
    (fashion 2 --checkpoint run) >again.txt 2>/dev/null || fail "the job does not go on"
    [ "$(tail -n 1 again.txt)" = "$(tail -n 1 plain.txt)" ] || fail "stopped on $ranks ranks: another digest"
done
grep -q "^digest " plain.txt || fail "no digest"
echo "told to stop, started again: same digest"
