#!/bin/sh
# Tests: those without a window side by side, those with one alone. Both results count.
# `run_tests.sh slow` runs those that `make test` leaves out, because they take more than some ten seconds.
set -u
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

run() {
  cache="-o cache_dir=.pytest_cache/$1" # which of them failed is remembered apart
  shift
  .venv/bin/python -m pytest $cache "$@"
  status=$?
  if [ "$status" -eq 1 ]; then
    echo "== Those that failed, once more and one at a time. Who fails again has failed; who passes now depends"
    echo "== on what else the computer did: its name stands above, and it wants mending."
    .venv/bin/python -m pytest $cache --last-failed --last-failed-no-failures none "$@" -n 0
    status=$?
  fi
  [ "$status" -eq 5 ] && return 0 # nothing was selected
  return "$status"
}

which="not slow"
[ "${1:-}" = slow ] && which=slow
result=0
run others -n "${JOBS:-2}" -m "not gui and not study and not browser and $which" || result=1
run windows -m "gui and not study and $which" || result=1
exit "$result"
