#!/bin/sh
# Every test: those without a window side by side, those with one alone. Both results count.
set -u
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

run() {
  .venv/bin/python -m pytest "$@"
  status=$?
  [ "$status" -eq 5 ] && return 0 # nothing was selected
  return "$status"
}

result=0
run -n "${JOBS:-2}" -m "not gui and not study" || result=1
run -m "gui and not study" || result=1
exit "$result"
