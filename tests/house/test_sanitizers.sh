#!/usr/bin/env bash
# labels: sanitizers
# A leak and a race planted in calls of our own code are found, and nothing suppressed is ours.
set -euo pipefail
case $FLAMBEAU_SANITIZE in
*thread*) plant=race says='data race.*' where=fb_memory_reset_peak ;;
*address*) plant=leak says='detected memory leaks' where=fb_context_open ;;
*) exit 0 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
lib=$FLAMBEAU_BUILD/lib
"$FLAMBEAU_CC" -g "-fsanitize=$FLAMBEAU_SANITIZE" "$FLAMBEAU_SOURCE/tests/house/planted/$plant.c" \
    -o "$work/$plant" -I "$FLAMBEAU_BUILD/include" -L "$lib" -lflambeau -Wl,-rpath,"$lib"
if mpirun --oversubscribe -n 1 "$work/$plant" >"$work/out" 2>&1; then
    echo "the planted $plant was not found"
    cat "$work/out"
    exit 1
fi
if ! grep -q "$says" "$work/out" || ! grep -q "$where" "$work/out"; then
    echo "the planted $plant was reported differently:"
    cat "$work/out"
    exit 1
fi
if grep -hv '^#' "$FLAMBEAU_SOURCE"/tests/suppressions/*.txt | grep -E 'fb_|fbi_|flambeau'; then
    echo "a suppression names our own code"
    exit 1
fi
