#!/usr/bin/env bash
# The examples' command lines: --help is complete, what makes no sense is refused by name; progress is a line
# that rewrites itself for a person and plain lines in a log.
set -euo pipefail
bin=${FLAMBEAU_BUILD:?}/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
expect() { # exit code (x: any but 0), text that must be printed, command
    local want=$1 text=$2 code=0
    shift 2
    "$@" > out 2>&1 || code=$?
    [ "$want" != x ] || [ "$code" = 0 ] || want=$code
    if [ "$code" != "$want" ] || ! grep -qF -- "$text" out; then
        echo "\"$*\": exit code $code (wanted $want), no \"$text\" in:"
        cat out
        exit 1
    fi
}
for program in fashion chargpt; do
    expect 0 "usage: $program --" "$bin/$program" --help
    # Every option that the source has is in its help.
    grep -oE '\{"[a-z-]+", OPTION_' "$FLAMBEAU_SOURCE/examples/$program/$program.c" | cut -d'"' -f2 > names
    [ "$(wc -l < names)" -gt 10 ]
    while read -r name; do
        grep -qE "^  --$name " out || { echo "$program --help has no --$name"; exit 1; }
    done < names
    expect 2 "$program: --colour: there is no such option, or its value is missing" "$bin/$program" --colour
    expect 2 "--batch 0: a whole number of at least 1 is needed" "$bin/$program" --batch 0
    expect 2 "--lr fast: a number of at least 0 is needed" "$bin/$program" --lr fast
    expect 2 "red: every argument begins with --" "$bin/$program" red
done
expect 2 "fashion: --data FOLDER is needed" "$bin/fashion"
expect x "dataset nowhere/train.h5: No such file" "$bin/fashion" --data nowhere
expect 2 "chargpt: --text FILE is needed" "$bin/chargpt"
expect 1 "chargpt: nowhere: No such file" "$bin/chargpt" --text nowhere
expect 2 "--width 10 is no multiple of --heads 4" "$bin/chargpt" --text nowhere --width 10
expect 2 "--dropout 2: a number from 0 to 0.99 is needed" "$bin/chargpt" --text nowhere --dropout 2
echo short > short
expect 1 "chargpt: short: 6 characters are too few for a context of 64" "$bin/chargpt" --text short
expect 0 "loss" "$bin/hello"

# Twelve images of noise and their labels.
{ printf '\0\0\x08\x03\0\0\0\x0c\0\0\0\x1c\0\0\0\x1c'; head -c $((12 * 28 * 28)) "$bin/fashion"; } > images
printf '\0\0\x08\x01\0\0\0\x0c\0\1\2\3\4\5\6\7\x8\x9\0\1' > labels
for name in train test; do
    "$bin/flambeau" data import idx --images images --labels labels $name.h5 > out
done
expect x "a batch of 20 is larger than dataset ./train.h5 with its 12 samples: ask for a smaller batch" \
    "$bin/fashion" --data . --batch 20
expect 0 "epoch 2: test accuracy " "$bin/fashion" --data . --batch 5 --epochs 2 --threads 1
grep -qE "^step 6/6 loss [0-9.]+, [0-9]+ samples/s, [0-9]+:[0-9][0-9] left$" out
FLAMBEAU_TERMINAL=1 "$bin/fashion" --data . --batch 5 --epochs 2 --threads 1 > out
grep -q $'\r\e\\[Kstep 6/6 loss' out || { echo "no progress line"; cat -A out; exit 1; }
