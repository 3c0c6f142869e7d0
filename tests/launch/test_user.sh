#!/usr/bin/env bash
# A user who is not root imports, trains on two ranks, is refused where he may not write, and gets the bits that everyone
# gets. Started by root, the test becomes nobody for that, with copies of the programs that nobody may read.
set -euo pipefail
bin=${FLAMBEAU_BUILD:?}/bin
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
mkdir bin lib home
cp "$bin/flambeau" "$bin/fashion" bin/
cp -P "$FLAMBEAU_BUILD"/lib/libflambeau.so* lib/
as=(env)
if [ "$(id -u)" = 0 ]; then
    chown -R 65534:65534 .
    chmod 755 .
    as=(setpriv --reuid=65534 --regid=65534 --clear-groups env)
fi
user() { # command: without root's permissions and mpirun's leave to run as root
    "${as[@]}" -u OMPI_ALLOW_RUN_AS_ROOT -u OMPI_ALLOW_RUN_AS_ROOT_CONFIRM HOME="$folder/home" TMPDIR="$folder" \
        LD_LIBRARY_PATH="$folder/lib" "$@"
}
fail() {
    echo "$1"
    cat ./*.txt
    exit 1
}
images=/usr/share/datasets/fashion-mnist
for part in train t10k; do
    name=train
    [ $part = train ] || name="test"
    user bin/flambeau data import idx --images $images/$part-images-idx3-ubyte.gz \
        --labels $images/$part-labels-idx1-ubyte.gz $name.h5 >import.txt 2>&1 || fail "no import"
done
options=(--data . --limit 512 --shards 4 --steps 6 --print-bits)
user bin/flambeau run -n 2 bin/fashion "${options[@]}" --checkpoint run >user.txt 2>&1 || fail "two ranks: no training"
LD_LIBRARY_PATH=lib bin/flambeau run -n 1 bin/fashion "${options[@]}" >other.txt 2>/dev/null || fail "no training"
digest=$(grep "^digest " user.txt) || fail "no digest"
[ "$digest" = "$(grep "^digest " other.txt)" ] || fail "other bits"

mkdir forbidden
chmod 500 forbidden
[ "$(id -u)" != 0 ] || chown 0:0 forbidden
code=0
user bin/flambeau run -n 2 bin/fashion "${options[@]}" --checkpoint forbidden/run >forbidden.txt 2>&1 || code=$?
grep -q "forbidden/run.*Permission denied" forbidden.txt || fail "nothing says that forbidden/run may not be written"
[ $code != 0 ] || fail "a run that could save nothing ends with 0"
echo "without root: the same bits, and a message where writing is forbidden"
