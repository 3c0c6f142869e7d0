#!/usr/bin/env bash
# timeout: 300
# A little of "launch/test --long healthy".
exec "${FLAMBEAU_SOURCE:?}/tests/long/healthy" --minutes 0.2 --pause 4 --seed 1 --no-row
