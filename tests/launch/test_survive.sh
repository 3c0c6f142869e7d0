#!/usr/bin/env bash
# timeout: 500 slots: 2
# A little of "launch/test --long survive": a rank, mpirun, a host and the launcher of one run are killed, each after a
# new checkpoint, and a second launcher ends the first: the digest is that of an undisturbed run.
exec "${FLAMBEAU_SOURCE:?}/tests/long/survive" --kills 5 --seed 1 --no-row
