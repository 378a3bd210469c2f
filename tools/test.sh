#!/usr/bin/env bash
# Every test, in two runs at once: the whole loop with its faults, and everything else, each on a lab site of its own.
# Most system tests wait for somebody, so two runs take little more than half the time of one.
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
start loop testloop tests/system
echo "test: $(date +%T) two runs are under way; follow them in build/test-rooms.log and build/test-loop.log"

status=0
for name in rooms loop; do
  while kill -0 "${pids[$name]}" 2> /dev/null; do
    sleep 20
    echo "test: $(date +%T) rooms $(grep -Eo '\[ *[0-9]+%\]' build/test-rooms.log | tail -n 1 || true) loop $(grep -Eo '\[ *[0-9]+%\]' build/test-loop.log | tail -n 1 || true)"
  done
  wait "${pids[$name]}" || status=1
done
for name in rooms loop; do
  echo "test: build/test-$name.log"
  cat "build/test-$name.log"
done
exit $status
