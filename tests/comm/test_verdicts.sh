#!/usr/bin/env bash
# timeout: 900
# A little of "launch/test --long verdicts": each fault once, on one, two and four nodes.
exec "${FLAMBEAU_SOURCE:?}/tests/long/verdicts" --times 1 --seed 1 --no-row
