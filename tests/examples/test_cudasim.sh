#!/usr/bin/env bash
# labels: cudasim
# The examples on simulated cards, one for each rank: the same bits for 1, 2 and 4 ranks whatever the order of
# the queues, a checkpoint of two ranks goes on with one, and too few cards are named.
set -euo pipefail
bin=${FLAMBEAU_BUILD:?}/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export FLAMBEAU_DEVICE=cudasim FLAMBEAU_PLUGINS=$FLAMBEAU_BUILD/lib CUDASIM_DEVICES=4 OMP_NUM_THREADS=1
fail() {
    echo "$1"
    exit 1
}
same() { # file, file, what
    if ! cmp "$1" "$2"; then
        diff "$1" "$2" | head -5
        fail "$3: the bits differ"
    fi
    echo "$3: same bits"
}

# Sixteen images of noise and their labels.
{ printf '\0\0\x08\x03\0\0\0\x10\0\0\0\x1c\0\0\0\x1c'; head -c $((16 * 28 * 28)) "$bin/fashion"; } > images
printf '\0\0\x08\x01\0\0\0\x10\0\1\2\3\4\5\6\7\x8\x9\0\1\2\3\4\5' > labels
for name in train test; do
    "$bin/flambeau" data import idx --images images --labels labels $name.h5 > imported
done
fashion() { # ranks, seed of the simulator, options
    local ranks=$1 seed=$2
    shift 2
    CUDASIM_SEED=$seed "$bin/flambeau" run -n "$ranks" "$bin/fashion" --data . --batch 8 --shards 4 --threads 1 \
        --print-bits "$@"
}
chargpt() { # ranks, seed of the simulator
    rm -rf run
    CUDASIM_SEED=$2 "$bin/flambeau" run -n "$1" "$bin/chargpt" --text text --layers 1 --heads 2 --width 16 \
        --context 8 --batch 4 --steps 2 --sample 4 --dropout 0.1 --shards 4 --threads 1 --checkpoint run > said # its sample is drawn by rank
    grep -h '"digest"' run/*/manifest.json
}

"$bin/hello" | grep -q '^loss [0-9.]*$' || fail "hello: no loss"

fashion 1 1 --steps 2 > one
grep -q '^digest [0-9a-f]*$' one || fail "fashion: no digest"
for ranks in 2 4; do
    for seed in 1 7; do
        fashion $ranks $seed --steps 2 > many
        same one many "fashion, $ranks ranks, seed $seed"
    done
done
fashion 2 1 --steps 2 --checkpoint run --stop-after 1 | grep -v digest > resumed
fashion 1 7 --steps 2 --checkpoint run >> resumed
same one resumed "fashion, stopped on 2 ranks, resumed on 1"

head -c 300 "$0" > text
chargpt 1 1 > one
grep -q '"digest": "[0-9a-f]*"' one || fail "chargpt: no digest"
for ranks in 2 4; do
    chargpt $ranks $((ranks + 5)) > many
    same one many "chargpt, $ranks ranks"
done

if CUDASIM_DEVICES=1 "$bin/flambeau" run -n 2 "$bin/fashion" --data . > out 2>&1; then
    fail "two ranks on one card that nobody named"
fi
grep -qE 'world_open: 2 ranks on [^ ]+, but only 1 card \(cudasim\): start no more than 1 there, or use the CPU \(FLAMBEAU_DEVICE=cpu\), or name the card that each is to use \(FLAMBEAU_DEVICE=cudasim:0: ranks may share one\)' out || {
    cat out
    fail "too few cards are not named"
}
CUDASIM_DEVICES=1 FLAMBEAU_DEVICE=cudasim:0 fashion 2 1 --steps 1 | grep -q '^digest' || fail "two ranks cannot share a card"
