#!/usr/bin/env bash
# labels: cudasim
# The examples on simulated cards, one for each rank: the same bits for 1, 2 and 4 ranks whatever the order of
# the queues (FLAMBEAU_TEST_SEEDS, "1 7"), a checkpoint of two ranks goes on with one, trainings whose NCCL fails
# say so, and too few cards are named.
set -euo pipefail
bin=${FLAMBEAU_BUILD:?}/bin
seeds=${FLAMBEAU_TEST_SEEDS:-1 7}
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
equal() { # example, options: every number of ranks under every seed ends as the first run does
    local example=$1 ranks seed
    shift
    rm -f one
    for seed in $seeds; do
        for ranks in 1 2 4; do
            "$example" $ranks "$seed" "$@" > many
            grep -qE '^digest [0-9a-f]{16}$|"digest": "[0-9a-f]+"' many || fail "$example: no digest"
            [ -e one ] || cp many one
            same one many "$example, $ranks ranks, seed $seed"
        done
    done
    echo "$example: $(grep digest one)"
}
breaks() { # fault, what is said
    local fault=$1 said=$2 status=0
    CUDASIM_NCCL_FAULT=$fault FLAMBEAU_LINK_SECONDS=2 fashion 2 1 --steps 2 > out 2>&1 || status=$?
    if [ $status = 0 ] || ! grep -qE "$said" out || grep -q '^cudasim: ' out; then
        cat out
        fail "$fault: exit code $status, or not said: $said"
    fi
    echo "$fault: said"
}

for seed in $seeds; do
    CUDASIM_SEED=$seed "$bin/hello" > many
    grep -q '^loss [0-9.]*$' many || fail "hello: no loss"
    [ -e one ] || cp many one
    same one many "hello, seed $seed"
done

equal fashion --steps 2
seed=${seeds##* }
FLAMBEAU_EXACT_MEMORY=off fashion 2 "$seed" --steps 2 > many
same one many "fashion, 2 ranks, seed $seed, blocks kept as on a card"
fashion 2 "${seeds%% *}" --steps 2 --checkpoint run --stop-after 1 | grep -v digest > resumed
fashion 1 "$seed" --steps 2 --checkpoint run >> resumed
same one resumed "fashion, stopped on 2 ranks, resumed on 1"

# In the middle of a training, NCCL fails on a rank, or does not get on; a rank that never joins is served by the host.
breaks error@1:3 'rank 1 .*NCCL failed in .*: ncclSystemError .* of nccl[A-Za-z ]*: injected: the network is gone'
breaks hang@1:3 'has waited 2 s for its device, last in .*, which every rank has called: NCCL does not get on'
CUDASIM_NCCL_FAULT=absent@1 FLAMBEAU_LINK_SECONDS=2 fashion 2 "$seed" --steps 2 > many 2> said
same one many "fashion, a rank never joins NCCL"
grep -qE 'go between ranks 0 to 1 through host memory: rank 0 .*not all ranks have joined within 2 s' said || {
    cat said
    fail "nobody says that a rank never joined"
}

head -c 300 "$0" > text
equal chargpt
FLAMBEAU_EXACT_MEMORY=off chargpt 2 "$seed" > many
same one many "chargpt, 2 ranks, seed $seed, blocks kept as on a card"

if CUDASIM_DEVICES=1 "$bin/flambeau" run -n 2 "$bin/fashion" --data . > out 2>&1; then
    fail "two ranks on one card that nobody named"
fi
grep -qE 'world_open: 2 ranks on [^ ]+, but only 1 card \(cudasim\): start no more than 1 there, or use the CPU \(FLAMBEAU_DEVICE=cpu\), or name the card that each is to use \(FLAMBEAU_DEVICE=cudasim:0: ranks may share one\)' out || {
    cat out
    fail "too few cards are not named"
}
CUDASIM_DEVICES=1 FLAMBEAU_DEVICE=cudasim:0 fashion 2 1 --steps 1 | grep -q '^digest' || fail "two ranks cannot share a card"

# A launcher that shows each rank one card of its own, as Slurm does: each sees it as number 0, and NCCL serves them. What
# the ranks see is the shell's text, with their number in $r.
sees() {
    "$bin/flambeau" run -n 2 sh -c 'r=$OMPI_COMM_WORLD_LOCAL_RANK CUDA_VISIBLE_DEVICES=0; export CUDA_VISIBLE_DEVICES
        export '"$1"'; exec "$0" --data . --batch 8 --limit 16 --steps 1 --print-bits' "$bin/fashion" > out 2>&1
}
told() {
    grep -qE "$1" out || { cat out; fail "no line \"$1\""; }
}
for cards in 'CUDASIM_DEVICES=1 CUDASIM_FIRST=$r' 'CUDASIM_DEVICES=2 CUDASIM_FIRST=$r' 'CUDASIM_DEVICES=1 CUDASIM_FIRST=$((1 - r))'; do
    sees "$cards" || { cat out; fail "two ranks with a card each do not run: $cards"; }
    told '^digest'
    ! grep 'through host memory' out || fail "NCCL does not serve two ranks with a card each: $cards"
done
! sees 'CUDASIM_DEVICES=1 CUDASIM_FIRST=3' || fail "two ranks that see the same card"
told 'world_open: 2 ranks on [^ ]+, but only 1 card \(cudasim\): start no more than 1 there'
! sees 'CUDASIM_DEVICES=$((2 - r))' || fail "a rank that sees only the other's card"
told 'world_open: 2 ranks on [^ ]+, but only 1 card \(cudasim\)'
sees 'CUDASIM_DEVICES=$((r + 1))' || { cat out; fail "the second of two cards is not taken"; }
sees 'FLAMBEAU_DEVICE=cudasim:0 CUDASIM_DEVICES=1' || fail "a card that both name"
told 'rank 0 \(.*\) and rank 1 \(.*\) use the same card \(0:00:00\), which NCCL refuses: give each rank a card of its own'
