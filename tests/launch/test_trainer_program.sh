#!/usr/bin/env bash
# timeout: 300
# The program of launch/README.md is a whole training: it compiles against public headers, trains on two ranks, takes
# its options from a file and the command line, and says what is wrong once, by place and nearest name. The
# examples take the trainer's options beside their own.
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
once() { # text
    [ "$(grep -cF -- "$1" out)" = 1 ] || { echo "not once: \"$1\""; cat out; exit 1; }
}

# Forty-eight images of noise and their labels.
{ printf '\0\0\x08\x03\0\0\0\x30\0\0\0\x1c\0\0\0\x1c'; head -c $((48 * 28 * 28)) "$bin/flambeau"; } > images
{ printf '\0\0\x08\x01\0\0\0\x30'; for i in 0 1 2 3; do printf '\0\1\2\3\4\5\6\7\x8\x9\0\1'; done; } > labels
for name in train test; do
    "$bin/flambeau" data import idx --images images --labels labels $name.h5 > out
done

awk '/^```c/ {on = 1; next} /^```/ {on = 0} on' "$FLAMBEAU_SOURCE/launch/README.md" > program.c
grep -q 'fb_trainer_fit' program.c
sanitize=()
[ -z "${FLAMBEAU_SANITIZE:-}" ] || sanitize=("-fsanitize=$FLAMBEAU_SANITIZE")
"$FLAMBEAU_CC" -std=c11 -Wall -Wextra -Wpedantic -Werror "${sanitize[@]}" -I "$FLAMBEAU_BUILD/include" program.c -o program \
    -L "$FLAMBEAU_BUILD/lib" -lflambeau -Wl,-rpath,"$FLAMBEAU_BUILD/lib"
run() { "$bin/flambeau" run -n 2 ./program "$@"; }
expect 0 "step 6/6 loss " run --set trainer.max_epochs=2 --set model.width=24 --set trainer.log_every=2
once "epoch 2: val loss "
expect 0 "step 6/6 loss " run --set trainer.max_epochs=1 --set data.global_batch=8 --set data.threads=2 \
    --set data.shuffle=no --set data.cache="$work/cache" --set trainer.log_every=2
expect x "data.threads: \"2000\": a whole number from 0 to 1024 is needed" run --set data.threads=2000
expect x "loader: a batch of 64 is larger than dataset train.h5" run --set data.global_batch=64
cat > options.yaml <<'YAML'
trainer:
  max_steps: 5
  checkpoint: runs
  log_file: log
model: {width: 16}
YAML
expect 0 "step 5/5 loss " run --config options.yaml --set trainer.log_every=5
[ -e runs/step-000000005/manifest.json ]
expect 0 "trainer: goes on after step 5" run --config options.yaml --set trainer.max_steps=7
once "trainer: goes on after step 5"
python3 - <<'PY'
import json
rows = [json.loads(line) for line in open("log")]
assert [r["step"] for r in rows if "loss" in r] == [5, 7], rows
assert [r["step"] for r in rows if "val_loss" in r] == [3, 5, 6, 7], rows
PY
expect 0 "trainer: max_time of 1e-09 s is over after step 1" run --set trainer.max_time=1e-9
expect 0 "trainer.max_steps=N " ./program --help
expect 0 "data.cache=TEXT " ./program --help
grep -qF -- "model.width=N" out
expect 0 "trainer.patience=N " run --set help
once "options of \"model\":"

echo 'trainer: {max_step: 5}' > bad.yaml
expect 1 'trainer: bad.yaml:1: there is no option "trainer.max_step": did you mean "max_steps"?' run --config bad.yaml
once "did you mean"
expect 1 'trainer: --set model.width=0: model.width: "0": a whole number from 1 to 4096 is needed' \
    run --set model.width=0
expect 1 "trainer: --colour: there is no such argument" run --colour
printf 'model:\n  width: 3\n  width: 4\n' > twice.yaml
expect 1 'twice.yaml:3: model.width is given twice' run --config twice.yaml

# The examples: their own options and the trainer's.
expect 0 "trainer.overfit_batches=N " "$bin/fashion" --data . --set help
expect 0 "step 2/2 loss " "$bin/fashion" --data . --batch 16 --threads 1 --set trainer.max_steps=2
expect 1 'trainer: --set trainer.maxsteps=2: there is no option "trainer.maxsteps": did you mean "max_steps"?' \
    "$bin/fashion" --data . --set trainer.maxsteps=2
head -c 2000 "$0" > text
expect 0 "loss over the last 10 %: " "$bin/chargpt" --text text --layers 1 --width 16 --context 8 --steps 3 --sample 4 \
    --set trainer.log_every=1
grep -q "^step 3/3 loss " out
