#!/usr/bin/env bash
# flambeau data and flambeau checkpoint: what they make, what they refuse, and that a stranger is told why.
set -euo pipefail
flambeau=$FLAMBEAU_BUILD/bin/flambeau
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
expect() { # exit code, text that must be printed ("": any), command
    local want=$1 text=$2 code=0
    shift 2
    "$@" > out 2>&1 || code=$?
    if [ "$code" != "$want" ] || { [ -n "$text" ] && ! grep -qF -- "$text" out; }; then
        echo "\"$*\": exit code $code (wanted $want), no \"$text\" in:"
        cat out
        exit 1
    fi
}
idx() { expect "$1" "$2" "$flambeau" data import idx --images "$3" --labels "$4" "${@:5}" idx.h5; }
csv() { expect "$1" "$2" "$flambeau" data import csv --target "$3" "${@:4}" csv.h5; }
npy() { expect "$1" "$2" "$flambeau" data import npy --input "$3" --target "$4" npy.h5; }

# The command line
expect 2 "flambeau data --help" "$flambeau" data
expect 2 "flambeau data --help" "$flambeau" data import
expect 2 "flambeau data --help" "$flambeau" data show
expect 0 "may be compressed with gzip" "$flambeau" data --help
expect 2 "data import xml: idx, csv, npy, images, sound, text and hdf5 can be imported" "$flambeau" data import xml a b
expect 2 "--images FILE, --labels FILE and OUT.h5 are needed" "$flambeau" data import idx --images a out.h5
expect 2 "--target COLUMN, FILE and OUT.h5 are needed" "$flambeau" data import csv --target a b
expect 2 "unrecognized option '--scale'" "$flambeau" data import csv --target a --scale 2 in.csv out.h5
idx 2 "--scale two: a number is needed" a b --scale two
idx 2 "--shard-samples 0: a whole number from 1" a b --shard-samples 0
csv 2 "--labels-are colour: int or float is needed" a b.csv --labels-are colour

# IDX: three images of 2 x 2 and their labels
printf '\0\0\x08\x03\0\0\0\x03\0\0\0\x02\0\0\0\x02abcdefghijkl' > images
printf '\0\0\x08\x01\0\0\0\x03\x05\x06\x07' > labels
idx 0 "3 samples, 1 shard" images labels
grep -qF "input        U8 [2, 2], loaded as F32 [1, 2, 2], x * 0.00392157 + 0" out
grep -qF "target       U8 []" out
expect 0 "every shard is as it was written" "$flambeau" data check idx.h5
gzip -k images
idx 0 "3 samples, 2 shards" images.gz labels --scale 2 --shift -1 --shard-samples 2
grep -qF "x * 2 + -1" out
[ "$(ls idx-*.h5 | wc -l)" = 2 ] || { echo "old shards were left behind"; ls; exit 1; }
idx 1 "import nowhere: cannot open it: No such file" nowhere labels
idx 1 "labels have one: are these the images?" images images
head -c 30 images.gz > cut.gz
idx 1 "import cut.gz: is a damaged or cut gzip file" cut.gz labels
head -c 20 images > short
idx 1 "import short: ends before its 3 samples: copy or download it again" short labels
printf '\0\0\x08\x02\0\0\0\x02\x74\0\0\x3d' > large # 4 GB of samples: no memory is asked for
idx 1 "import large: ends before its 2 samples: copy or download it again" large labels
gzip -k large
idx 1 "import large.gz: ends before its 2 samples" large.gz labels
head -c 6 images > shorter
idx 1 "import shorter: ends within its head" shorter labels
cat images labels > long
idx 1 "import long: has more bytes than its head says" long labels
echo "hello, world" > text
idx 1 "import text: is no IDX file: it begins with 68 65 6c 6c, IDX with 00 00" text labels
printf '\0\0\x0d\x03\0\0\0\x03' > floats
idx 1 "IDX type 0x0d with 3 dimensions; bytes (0x08)" floats labels
printf '\0\0\x08\x01\0\0\0\x02\x05\x06' > two
idx 1 "import: images has 3 samples, two has 2" images two
printf '\0\0\x08\x01\0\0\0\0' > none
idx 1 "no samples were appended" none none
expect 0 "3 samples, 2 shards" "$flambeau" data show idx.h5 # the failures have not touched it
expect 1 "cannot write nowhere/x-" "$flambeau" data import idx --images images --labels labels nowhere/x.h5

# CSV
printf '\xef\xbb\xbfwidth, "kind" ,height\r\n1.5,2,3\n\n4, 0 ,-5e-1\n' > good.csv
csv 0 "2 samples" kind good.csv
grep -qF "input        F32 [2]" out && grep -qF "target       I64 []" out
csv 0 "target       F32 []" width good.csv --labels-are float
csv 1 "no column \"colour\" beside others in its first line, which begins: width" colour good.csv
csv 1 "line 2, column 1 (width): \"1.5\" is no whole number: use --labels-are float" width good.csv
csv 1 "import nowhere.csv: No such file" a nowhere.csv
: > empty.csv
csv 1 "import empty.csv: is empty" a empty.csv
printf 'a,b\n1,2\n3,four\n' > word.csv
csv 1 "import word.csv: line 3, column 2 (b): \"four\" is no number: use --category if" a word.csv
printf 'a,b\n1,\n' > gap.csv
csv 1 "line 2, column 2 (b): \"\" is missing: use --missing nan, mean or skip" a gap.csv
printf 'a,b\n1,nan\n' > nan.csv
csv 1 "line 2, column 2 (b): \"nan\" is missing" a nan.csv
printf 'a,b\n1,2\n3,inf\n' > inf.csv
csv 1 '"inf" is no number' b inf.csv
printf 'a,b\n1,2,3\n' > wide.csv
csv 1 "line 2 has 3 columns, the first line names 2" a wide.csv
printf 'a,b\n1\n' > narrow.csv
csv 1 "line 2 has 1 columns, the first line names 2" a narrow.csv
printf 'a,b\n' > head.csv
csv 1 "no samples were appended" a head.csv
expect 0 "2 samples" "$flambeau" data show csv.h5
[ "$(ls csv-*.h5 | wc -l)" = 1 ] || { echo "shards of failed imports were left behind"; ls; exit 1; }

# NPY; array NAME DESCR ORDER SHAPE BYTES
array() {
    local head="{'descr': '$2', 'fortran_order': $3, 'shape': ($4), }"
    { printf '\x93NUMPY\x01\0'; printf "\\x$(printf %02x ${#head})\\0"; printf '%s' "$head$5"; } > "$1"
}
array x.npy '|u1' False '3, 2' abcdef
array y.npy '|i1' False '3,' xyz
array f.npy '|u1' True '3, 2' acebdf
array short.npy '|u1' False '4, 2' abcdef
array big.npy '>u2' False '3,' abcdef
array scalar.npy '|u1' False '' a
npy 0 "3 samples" x.npy y.npy
grep -qF "input        U8 [2]" out && grep -qF "target       I8 []" out
"$flambeau" data import npy --input f.npy --target y.npy fortran.h5 > out
cmp <(h5dump -d input npy.h5 | tail -n +2) <(h5dump -d input fortran.h5 | tail -n +2)
npy 1 "npy nowhere.npy: No such file" nowhere.npy y.npy
npy 1 "npy text: is no NumPy array" text y.npy
npy 1 "its header speaks of 2 more: copy it again" short.npy y.npy
npy 0 "input        U16 []" big.npy y.npy
array complex.npy '<c8' False '1,' abcdefgh
npy 1 "dtype '<c8' cannot be read: save it in NumPy as float, integer or bool" complex.npy y.npy
npy 1 "import: scalar.npy is [], y.npy is [3]: they must have the same first size" scalar.npy y.npy

# Looking at what is no dataset
expect 1 "dataset nowhere.h5: No such file" "$flambeau" data show nowhere.h5
expect 1 "dataset text: is not an HDF5 file, or is damaged" "$flambeau" data show text
expect 1 "open the dataset's head instead" "$flambeau" data show "$(ls npy-*.h5)"

# Checkpoints
expect 2 "usage: flambeau checkpoint" "$flambeau" checkpoint show
expect 1 "flambeau checkpoint: nowhere: No such file" "$flambeau" checkpoint show nowhere
mkdir run
expect 1 "run: there is no checkpoint that verifies in it" "$flambeau" checkpoint verify run
"$FLAMBEAU_BUILD/bin/chargpt" --text "$FLAMBEAU_SOURCE/README.md" --steps 2 --layers 1 --width 8 --heads 2 --context 8 \
    --sample 0 --threads 1 --seed 5 --checkpoint run > out
expect 0 "is whole" "$flambeau" checkpoint verify run
expect 0 "checkpoint run/step-000000002: step 2, saved 2" "$flambeau" checkpoint show run
grep -qE "^  threads +1$" out && grep -qE "^  seed +5$" out && grep -qE "^  kernels +v" out
grep -qE "model/wte.weight +F32 +\[" out && grep -qE "data/step +2$" out
expect 0 "is in other, its values in 3 files" "$flambeau" checkpoint reshard run other 3
expect 0 "is whole" "$flambeau" checkpoint verify other
expect 0 "0 entries differ" "$flambeau" checkpoint diff run other
expect 1 "is there already: name another folder" "$flambeau" checkpoint reshard run other 2
expect 2 "N zero: a whole number from 1 to 4096 is needed" "$flambeau" checkpoint reshard run other zero
expect 1 "nowhere: No such file" "$flambeau" checkpoint diff run nowhere
"$FLAMBEAU_BUILD/bin/chargpt" --text "$FLAMBEAU_SOURCE/README.md" --steps 3 --layers 1 --width 16 --heads 2 --context 8 \
    --sample 0 --threads 1 --seed 5 --checkpoint wider > out
expect 1 "entries differ, 3 are equal" "$flambeau" checkpoint diff run wider
grep -qE "data/step +2, and 3$" out
grep -qE "model/wte.weight +F32 \[[0-9]+, 8\], and F32 \[[0-9]+, 16\]" out
"$FLAMBEAU_BUILD/bin/chargpt" --text "$FLAMBEAU_SOURCE/README.md" --steps 2 --layers 1 --width 8 --heads 2 --context 8 \
    --sample 0 --threads 1 --seed 6 --checkpoint seed > out
expect 1 "run: seed was 5, is 6" "$flambeau" checkpoint diff run seed
grep -qE "model/wte.weight +[0-9]+ of [0-9]+ elements differ, by at most 0\.[0-9]+" out
truncate -s 100 run/step-000000002/data.h5
expect 1 "data.h5 is 100 bytes, the manifest says" "$flambeau" checkpoint verify run/step-000000002
expect 1 "there is no checkpoint that verifies in it" "$flambeau" checkpoint show run
echo hello > run/step-000000002/manifest.json
expect 1 "manifest.json: " "$flambeau" checkpoint show run/step-000000002
