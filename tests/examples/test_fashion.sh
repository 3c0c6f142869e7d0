#!/usr/bin/env bash
# timeout: 300
# The promise of fixed-order sums, on the real example: losses and digest have the same bits for 1 to 4
# ranks, through an interruption, and for another way of exchanging; another seed gives others.
set -euo pipefail
bin=${FLAMBEAU_BUILD:?}/bin
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
images=/usr/share/datasets/fashion-mnist
for part in train t10k; do
    name=train
    [ "$part" = train ] || name="test"
    "$bin/flambeau" data import idx --images "$images/$part-images-idx3-ubyte.gz" \
        --labels "$images/$part-labels-idx1-ubyte.gz" "$folder/$name.h5" > "$folder/import.txt"
done

fashion() { # ranks, output file, options
    local ranks=$1 out=$2
    shift 2
    "$bin/flambeau" run -n "$ranks" "$bin/fashion" --data "$folder" --limit 603 --batch 128 --threads 1 \
        --print-bits "$@" > "$folder/$out"
}
same() { # file, file, what
    if ! cmp -s "$folder/$1" "$folder/$2"; then
        echo "$3: the bits differ"
        diff "$folder/$1" "$folder/$2" | head -5
        exit 1
    fi
    echo "$3: same bits"
}

steps=12
for shards in 4 6; do
    fashion 1 "one-$shards" --shards $shards --steps $steps
    for ranks in 2 3 4; do
        fashion $ranks "many" --shards $shards --steps $steps
        same "one-$shards" many "$ranks ranks, $shards shards"
    done
done
FLAMBEAU_COMM=messages fashion 3 many --shards 4 --steps $steps
same one-4 many "3 ranks by messages"

fashion 4 first --shards 4 --steps $steps --checkpoint "$folder/run" --stop-after 7
fashion 3 second --shards 4 --steps $steps --checkpoint "$folder/run"
grep -v digest "$folder/first" > "$folder/resumed"
cat "$folder/second" >> "$folder/resumed"
same one-4 resumed "stopped after 7 steps on 4 ranks, resumed on 3"

fashion 1 moved --shards 4 --steps $steps --augment
fashion 3 many --shards 4 --steps $steps --augment
same moved many "3 ranks, images moved and mirrored"
if cmp -s "$folder/moved" "$folder/one-4"; then
    echo "--augment changes nothing"
    exit 1
fi

fashion 2 other --shards 4 --steps $steps --seed 5
if [ "$(tail -n 1 "$folder/other")" = "$(tail -n 1 "$folder/one-4")" ]; then
    echo "another seed gives the same digest"
    exit 1
fi

"$bin/flambeau" run -n 3 "$bin/fashion" --data "$folder" --limit 300 --batch 100 --shards 4 --steps 3 \
    --trace --print-bits | grep -o 'sample [0-9]*' | sort | uniq -c | awk '$1 != 1' > "$folder/twice"
[ ! -s "$folder/twice" ] || { echo "samples computed more than once:"; head "$folder/twice"; exit 1; }
echo "each sample is computed by one rank"
