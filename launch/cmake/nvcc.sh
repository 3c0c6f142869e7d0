#!/bin/sh
# nvcc.sh LOG nvcc ...: nvcc -Xptxas -v. What ptxas says of each kernel (registers, spills) goes to LOG,
# for tests/core/cuda/test_spills.py; everything else to the terminal.
log=$1
shift
"$@" -Xptxas -v 2>"$log"
code=$?
grep -vE '^ptxas info |^ +[0-9]+ bytes stack frame' "$log" >&2
exit $code
