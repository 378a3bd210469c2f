#!/usr/bin/env bash
# Every test, in three runs at once, each on a lab site of its own: the whole loop, its faults, and everything else.
# Most system tests wait for somebody, so three runs take little more time than the longest of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p build

declare -A pids
start() {  # start NAME SITE ARGUMENTS...
  local name=$1 site=$2
  shift 2
  EDGELOOP_TEST_SITE=$site .venv/bin/python -m pytest --durations=12 "$@" > "build/test-$name.log" 2>&1 &
  pids[$name]=$!
}
stop() { kill -INT "${pids[@]}" 2> /dev/null || true; wait || true; exit 130; }
trap stop INT TERM

start rooms test --ignore tests/system
start loop testloop tests/system --ignore tests/system/test_faults.py
start faults faults tests/system/test_faults.py
echo "test: $(date +%T) three runs are under way; follow them in build/test-{rooms,loop,faults}.log"

status=0
done_of() { grep -Eo '\[ *[0-9]+%\]' "build/test-$1.log" | tail -n 1 || true; }
for name in rooms loop faults; do
  while kill -0 "${pids[$name]}" 2> /dev/null; do
    sleep 20
    echo "test: $(date +%T) rooms $(done_of rooms) loop $(done_of loop) faults $(done_of faults)"
  done
  wait "${pids[$name]}" || status=1
done
for name in rooms loop faults; do
  echo "test: build/test-$name.log"
  cat "build/test-$name.log"
done
exit $status
