#!/usr/bin/env bash
# timeout: 240
# Killed in the middle of a save, wherever: an earlier or the new checkpoint is whole, and a resumed run
# ends with the bits of an undisturbed one. Here at every fsync, rename, unlink, mkdir and rmdir, and at
# some of the many writes; at every one by "launch/test --long kills".
set -euo pipefail
. "$(dirname "$0")/faults.sh"
prepare
measure
# Of each file's writes the first, the last and one in between.
mapfile -t events < <(awk '{if ($2 != "write" || $3 != last) {if (n > 2) print from + int(n / 2) "\n" from + n - 1
                            print $1; from = $1; n = 0} n++; last = $2 == "write" ? $3 : ""}' "$folder/events" | sort -nu)
for event in "${events[@]}"; do
    kill_at 1 "$event"
done
mapfile -t some < <(awk '$2 == "rename" || $2 == "unlink" {print $1}' "$folder/events" | tail -n 3)
for event in "${some[@]}"; do
    kill_at 2 "$event"
done
echo "killed at ${#events[@]} of $(wc -l < "$folder/events") events, and at ${#some[@]} with two ranks: every resume has the same bits"
