#!/usr/bin/env bash
# timeout: 240
# A save that fails (disk full, broken disk) is a warning that names the file and the reason; the run
# goes on to the same bits, earlier checkpoints stay whole, and a later save succeeds. If the last one
# fails, the run ends with FB_E_IO.
set -euo pipefail
. "$(dirname "$0")/faults.sh"
prepare
measure
enospc=28 eio=5

fails() { # settings of the shim; the checkpoint that must be newest afterwards; text of the error
    local what="$1 $2"
    rm -rf "$run"
    local code=0 # step 6 is the last save
    disturbed 1 $1 || code=$?
    [ $((code == 0)) = $(($2 == 6)) ] || fail "$what: exit code $code: $(cat "$folder/err.txt")"
    [ "$(tail -n 1 "$folder/out.txt")" = "$digest" ] || fail "$what: other bits"
    grep -q "warning: checkpoint $run/step-.*$3" "$folder/err.txt" ||
        fail "$what: no warning that says so: $(cat "$folder/err.txt")"
    grep -q "training goes on, the next save tries again" "$folder/err.txt" ||
        fail "$what: the warning does not say what happens: $(cat "$folder/err.txt")"
    "$bin/flambeau" checkpoint verify "$run" > "$folder/out.txt" 2>&1 ||
        fail "$what: no checkpoint is whole: $(cat "$folder/out.txt")"
    grep -q "step-00000000$2 is whole" "$folder/out.txt" || fail "$what: $(cat "$folder/out.txt")"
}

# The second save fails at each kind of event, the third succeeds. Counted within the second's folder.
grep step-000000004 "$folder/events" > "$folder/second"
mapfile -t kinds < <(awk '$2 != "unlink" && $2 != "rmdir" && !seen[$2 $3]++ {print NR}' "$folder/second")
for event in "${kinds[@]}"; do
    fails "SHIM_ONLY=step-000000004 SHIM_AT=$event SHIM_ERRNO=$enospc" 6 "No space left on device"
done
# Full in the middle of the data and ever after: what cleans up fails too.
at() { awk -v what="$1" '$2 == what {print $1; exit}' "$folder/second"; }
fails "SHIM_AT=$(at write) SHIM_ERRNO=$enospc" 2 "No space left on device"
fails "SHIM_AT=$(at fsync) SHIM_ERRNO=$eio" 2 "Input/output error"

# A thread that saves: told at the next save.
more=(--set trainer.save_async=true)
before=$digest
measure
[ "$digest" = "$before" ] || fail "a thread that saves changes the bits"
grep step-000000004 "$folder/events" > "$folder/second"
for kind in write fsync rename; do
    event=$(awk -v what=$kind '$2 == what {print NR; exit}' "$folder/second")
    fails "SHIM_ONLY=step-000000004 SHIM_AT=$event SHIM_ERRNO=$enospc" 6 "No space left on device"
done
more=()

# A /dev/shm that is full: HDF5 lays files out in memory of the process.
if unshare --mount sh -c 'mount -t tmpfs -o size=4k none /dev/shm' 2> "$folder/mount.txt"; then
    rm -rf "$run"
    export -f fashion
    export bin folder run
    unshare --mount bash -c 'mount -t tmpfs -o size=4k none /dev/shm; head -c 4096 /dev/zero > /dev/shm/full; more=(); fashion 1' \
        > "$folder/out.txt" 2> "$folder/err.txt" || fail "full /dev/shm: $(cat "$folder/err.txt")"
    [ "$(tail -n 1 "$folder/out.txt")" = "$digest" ] || fail "full /dev/shm: other bits"
    ! grep -q warning "$folder/err.txt" || fail "full /dev/shm: $(cat "$folder/err.txt")"
    "$bin/flambeau" checkpoint verify "$run" > "$folder/out.txt" || fail "full /dev/shm: no checkpoint is whole"
fi

# A disk that is really full, where one may mount.
small=$folder/small
mkdir "$small"
if mount -t tmpfs -o size=12m none "$small" 2> "$folder/mount.txt"; then
    trap 'umount "$small"; rm -rf "$folder"' EXIT
    run=$small/run
    code=0
    fashion 1 > "$folder/out.txt" 2> "$folder/err.txt" || code=$?
    [ "$(tail -n 1 "$folder/out.txt")" = "$digest" ] || fail "full disk: other bits"
    grep -q "No space left on device" "$folder/err.txt" || fail "full disk: $(cat "$folder/err.txt")"
    "$bin/flambeau" checkpoint verify "$run" > "$folder/out.txt" || fail "full disk: no checkpoint is whole"
    last=$(grep -c "step-000000006 is whole" "$folder/out.txt" || true)
    [ $((code == 0)) = "$last" ] || fail "full disk: exit code $code: $(cat "$folder/out.txt" "$folder/err.txt")"
    run=$folder/run
else
    echo "not allowed to mount: without a really full disk"
fi
echo "saves that fail are warnings, and the run goes on"
