#!/usr/bin/env bash
# timeout: 200 slots: 2
# A run directory on a disk that is full, or where writing is forbidden: a job that begins there is refused, one whose
# disk fills later still ends with its verdict in words and is not started again without a lease, and nothing is
# submitted. Skipped (77) without the right to mount.
set -euo pipefail
bin=${FLAMBEAU_BUILD:?}/bin
[ "$(id -u)" = 0 ] || { echo "skipped: needs root"; exit 77; }
work=$(mktemp -d /tmp/full.XXXXXX)
trap 'umount "$work/disk" 2>/dev/null || :; rm -rf "$work"' EXIT
cd "$work"
mkdir disk
mount -t tmpfs -o size=256k none disk 2>out || { echo "skipped: $(cat out)"; exit 77; }
. "$FLAMBEAU_SOURCE/tests/expect.sh"
fill() { dd if=/dev/zero of=disk/filler bs=4k 2>/dev/null || :; }
flags=()
[ -z "${FLAMBEAU_SANITIZE:-}" ] || flags=("-fsanitize=$FLAMBEAU_SANITIZE")
"${FLAMBEAU_CC:-cc}" -g -O1 -std=gnu11 -rdynamic -I "$FLAMBEAU_BUILD/include" "$FLAMBEAU_SOURCE/tests/comm/faults.c" \
    -o faults -L "$FLAMBEAU_BUILD/lib" -lflambeau -Wl,-rpath,"$FLAMBEAU_BUILD/lib" "${flags[@]}"

# It fills while the job runs: the verdict is told, the file is not there, and no other attempt begins.
"$bin/flambeau" run -n 2 --dir disk/run --restart 3 ./faults forever </dev/null >job 2>&1 &
job=$!
for _ in $(seq 300); do [ -e disk/run/started.0 ] && [ -e disk/run/started.1 ] && break; sleep 0.1; done
fill
for exe in /proc/[0-9]*/exe; do # the last one
    pid=${exe//[!0-9]/}
    [ "$(readlink "$exe" 2>/dev/null)" = "$work/faults" ] && victim=$pid
done
kill -KILL "$victim"
code=0
wait $job || code=$?
says() { grep -qE -- "$1" job || { echo "no \"$1\" in:"; cat job; exit 1; }; }
says 'rank [01]: rank [01] \(.* is dead: killed'
says 'disk/run/verdict.json: the verdict cannot be written: No space left on device'
says 'run: --dir disk/run: its lease cannot be written: No space left on device: free space, or name another folder'
[ $code = 1 ] || { echo "exit code $code"; cat job; exit 1; }
[ ! -e disk/run/verdict.json ] || { echo "a piece of a verdict"; exit 1; }
grep -q '"generation": 1' disk/run/lease.json || { echo "the lease is not what it was"; exit 1; }

# It is full before.
expect 1 "run: --dir disk/new: its lease cannot be written: No space left on device" \
    "$bin/flambeau" run -n 1 --dir disk/new /bin/true

# Nothing is submitted: a script that is cut off would run half of a job.
mkdir fake
printf '#!/bin/sh\ntouch "%s/submitted"\n' "$work" >fake/sbatch
chmod +x fake/sbatch
export PATH=$work/fake:$PATH
expect 1 "job.sh: cannot be written: No space left on device: nothing was submitted" \
    "$bin/flambeau" submit slurm --dir disk/run /bin/true
[ ! -e disk/run/job.sh ] || { echo "a piece of a script"; exit 1; }
rm disk/filler
mount -o remount,ro disk
expect 1 "job.sh: cannot be written: Read-only file system: nothing was submitted" \
    "$bin/flambeau" submit slurm --dir disk/run /bin/true
expect 1 "run: --dir disk/run: its lease cannot be written: Read-only file system" \
    "$bin/flambeau" run -n 1 --dir disk/run /bin/true
mount -o remount,rw disk
[ ! -e submitted ] || { echo "submitted all the same"; exit 1; }
expect 0 "" "$bin/flambeau" submit slurm --dir disk/run /bin/true
[ -e submitted ] || { echo "not submitted"; exit 1; }
echo "full disks and forbidden ones: words, and nothing by halves"
