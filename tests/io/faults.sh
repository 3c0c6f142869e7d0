# For the fault tests here: a small dataset, one run of fashion that nothing disturbs,
# and runs that the preloaded shim.c disturbs. Sourced; needs FLAMBEAU_BUILD and FLAMBEAU_SOURCE.
bin=${FLAMBEAU_BUILD:?}/bin
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
run=$folder/run
more=() # options of every run

fail() {
    echo "$*" >&2
    exit 1
}

prepare() {
    local part name images=/usr/share/datasets/fashion-mnist
    if [ -n "${FLAMBEAU_SANITIZE:-}" ]; then
        echo "preloading a library does not go with sanitizers: nothing done"
        exit 0
    fi
    "${FLAMBEAU_CC:-cc}" -O1 -shared -fPIC -o "$folder/shim.so" "${FLAMBEAU_SOURCE:?}/tests/io/shim.c" -ldl
    for part in train t10k; do
        name=train
        [ "$part" = train ] || name="test"
        "$bin/flambeau" data import idx --images "$images/$part-images-idx3-ubyte.gz" \
            --labels "$images/$part-labels-idx1-ubyte.gz" "$folder/$name.h5" > "$folder/import.txt"
    done
}

# Three saves; the third removes the first. Arguments: ranks, then options of fashion.
fashion() {
    local ranks=$1 start=()
    shift
    [ "$ranks" = 1 ] || start=("$bin/flambeau" run -n "$ranks")
    "${start[@]}" "$bin/fashion" --data "$folder" --limit 64 --batch 16 --shards 4 --threads 1 --steps 6 \
        --save-every 2 --print-bits --checkpoint "$run" "${more[@]}" "$@"
}

# The same with the shim. Arguments: ranks, then settings of the shim (SHIM_AT=...).
disturbed() {
    local ranks=$1
    shift
    (
        export SHIM_FOLDER="$run" SHIM_RANK=0 LD_PRELOAD="$folder/shim.so" "$@"
        fashion "$ranks"
    ) > "$folder/out.txt" 2> "$folder/err.txt"
}

# Runs undisturbed, keeps its digest, and lists the events of a run in $folder/events.
measure() {
    rm -rf "$run"
    disturbed 1 SHIM_LOG="$folder/events" || fail "the undisturbed run failed: $(cat "$folder/err.txt")"
    digest=$(tail -n 1 "$folder/out.txt")
    [[ $digest == digest\ ???????????????? ]] || fail "no digest: $(cat "$folder/out.txt")"
}
