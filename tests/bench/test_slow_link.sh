#!/usr/bin/env bash
# timeout: 300
# Two hosts on one machine, one rank each; the link between them is limited (tc tbf) so that the sums of a step take half
# of a backward. A line of JSON says what a step takes with sums during backward and after it; here it is only looked at
# whether both train the same weights. `launch/test --long overlap` holds the times to account. Skipped (77) where
# namespaces or tc are not allowed.    test_slow_link.sh [BATCH [WINDOWS]]
set -euo pipefail
. "${FLAMBEAU_SOURCE:?}/tests/hosts.sh"
work=$(mktemp -d /tmp/slow_link.XXXXXX)
trap 'hosts_finish; rm -rf "$work"' EXIT
batch=${1:-2} windows=${2:-1}
hosts_up 2 || exit $?
command -v tc >/dev/null || { echo "skipped: no tc (launch/setup --cluster)"; exit 77; }

run() { # arguments
    at host1 timeout -k 5 250 mpirun --hostfile "$hosts/hostfile" --map-by node -n 2 --bind-to none \
        "$FLAMBEAU_BUILD/tests/bench/slow_link" "$@" </dev/null 2>"$work/errors" ||
        { cat "$work/errors"; echo "FAILED: slow_link $*"; exit 1; }
}
read -r bytes backward < <(run probe "$batch")
# Each rank sends and gets as many bytes as there are.
rate=$(awk -v n="$bytes" -v s="$backward" 'BEGIN { printf "%.0f", 8 * n / (s / 2) }')
burst=$((rate / 800 > 65536 ? rate / 800 : 65536))
for host in host1 host2; do
    at $host tc qdisc add dev eth0 root tbf rate "${rate}bit" burst "$burst" latency 100ms 2>"$work/errors" ||
        { echo "skipped: no tbf here: $(cat "$work/errors")"; exit 77; }
done
run measure "$batch" "$windows" | tee "$work/line"
"${FLAMBEAU_PYTHON:-python3}" - "$work/line" <<'EOF'
import json
import sys

with open(sys.argv[1], encoding="utf-8") as f:
    found = json.load(f)
first, second = found["digests"]
if first != second or len(first) != 16:
    sys.exit(f"FAILED: sums during backward and after it train other weights: {first}, {second}")
if not found["early"] > 0:
    sys.exit("FAILED: no sum began while backward ran")
EOF
echo "on a link of $((rate / 1000000)) Mbit/s both ways train the same weights"
