#!/usr/bin/env bash
# timeout: 400 slots: 2
# A little of "launch/test --long kills": a rank dies in the middle of a save, and at random moments of runs under
# mpirun; the others say so, and a resumed run has the bits of an undisturbed one.
set -euo pipefail
"${FLAMBEAU_SOURCE:?}/tests/long/kills" --events few --moments 5 --seed 1 --no-row
exec "$FLAMBEAU_SOURCE/tests/long/kills" --async --events some --moments 0 --seed 2 --no-row
