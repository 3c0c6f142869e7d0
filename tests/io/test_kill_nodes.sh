#!/usr/bin/env bash
# timeout: 400 slots: 2
# Two ranks, each a node that writes a share of the values: the second dies in the middle of a save by threads, the first
# says so, the save before stays, and a resumed run has the bits of an undisturbed one.
set -euo pipefail
exec "${FLAMBEAU_SOURCE:?}/tests/long/kills" --async --nodes --events some --moments 0 --seed 3 --no-row
