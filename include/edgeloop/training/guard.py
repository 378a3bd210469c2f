"""What guards an attempt on the VM itself: its deadline, a stop that was asked for, its memory, its disk.

It is shell text for a POSIX shell and Docker's CLI, detached from every login. It owns nothing: each start of it takes
over from the one before, everything it knows stands in the attempt's folder, and a VM that lost its power has it
started again by whoever looks next. So it may die at any line and run twice.

The attempt's folder holds ``terms`` (deadline by the VM's clock, grace in seconds, allowed KiB), ``cancel`` (a stop
that was asked for: a word of :class:`~edgeloop.training.job.Stop`, then the reason), ``stopping`` (when SIGTERM was
sent), ``late`` (the stop came after the end), ``memory`` (peak in bytes, processes killed for want of memory) and
``watch`` (which watch is the one).
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from edgeloop.training import hold
from edgeloop.training.job import LABEL_ATTEMPT, Stop

if TYPE_CHECKING:
    from edgeloop.training.job import Job

SCARCE_KIB = 256 * 1024
"""Below this much free disk a job that holds more than it declared is stopped before it takes the VM with it."""
LOCK_SECONDS = 120


def lock(folder: str) -> str:
    """Hold the folder until this shell ends, so that submitting and retiring take turns."""
    return f"exec 9<{folder}\nif command -v flock >/dev/null; then flock -w {LOCK_SECONDS} 9; fi"


def container_of(job: Job, more: str = "") -> str:
    """``docker ps`` of the container of attempt ``$n``, whatever its state; no other has its name and label."""
    text = f"docker ps -a --no-trunc --filter 'name=^/?{job.name}$' --filter label={LABEL_ATTEMPT}=$n"
    return f"{text} {more}".strip()


def retire(job: Job) -> str:
    """Keep the log, the state and the outputs of an attempt that ended, and remove its container.

    Twice, or at once with itself, is once; a container that still runs is refused.
    """
    return f"n={job.attempt} here={job.folder} at={job.attempt_folder}\n{_retire(job)}"


def _retire(job: Job) -> str:
    """``docker rm`` without ``-f`` refuses a container that runs."""
    return f"""set -eu
{lock(job.folder)}
id=$({container_of(job, "-q")})
if test -z "$id"; then exit 0; fi
mkdir -p $at
docker logs --timestamps "$id" >$at/log.part 2>&1 || true
mv $at/log.part $at/log
docker container inspect "$id" >$at/container.json
if test -d $here/outputs && ! test -e $at/outputs; then mv -T $here/outputs $at/outputs; fi
rm -f $here/cursor $here/cursor-*
docker rm -v "$id" >/dev/null"""


def guard(job: Job) -> str:
    """The watch of attempt ``$1``, as shell text that runs until the attempt has ended."""
    return f"""n=$1 here={job.folder}
at=$here/attempt-$n
test -d $at || exit 0
me=$$.$(date +%s)
echo $me >$at/watch
until=0 grace={job.grace_seconds:g} allowed=0 peak=0 kills=0 group= round=0 freed=
{{ read -r until grace allowed <$at/terms; read -r peak kills <$at/memory; }} 2>/dev/null
grace=${{grace%.*}}
{_COUNT}
{_ASK}
{_measure()}
{_STOP}
finish() {{
  if test -e $at/stopping || test "$1" = created; then
    case $(cat $at/cancel 2>/dev/null) in {Stop.CANCELLED.value}*) (
{_retire(job)}
    ) ;; esac
  elif test -s $at/cancel; then : >$at/late
  fi
}}
while {{ read -r now <$at/watch; }} 2>/dev/null && test "$now" = $me; do
  count
  now=$(date +%s)
  if test $until -gt 0 && test $now -ge $until; then ask {Stop.DEADLINE.value} 'its time was over'; fi
  if test $((round % 30)) -eq 2; then measure; fi
  over=
  if {hold.waits("$here")}; then over=1; fi
  if test -n "$over" || test -s $at/cancel || test $((round % 5)) -eq 0 || ! test -d "$group"; then
    if state=$({container_of(job, "--format '{{.ID}} {{.State}}'")} 2>/dev/null); then
      id=${{state%% *}} state=${{state#* }}
      case $state in
        '') exit 0 ;;
        exited | dead) finish $state; exit 0 ;;
        created) if test -s $at/cancel; then finish created; exit 0; fi ;;
        *)
          find_group
          if test -n "$over"; then {hold.let_go("$here")}; fi
          if test "$over" = "$freed" && test -s $at/cancel; then stop $state; fi
          freed=$over ;;
      esac
    fi
  fi
  round=$((round + 1))
  sleep 1
done"""


def begin(job: Job, number: str = "") -> str:
    """Start the watch of an attempt, out of reach of this login's end; ``number`` may be a variable of the shell."""
    text = f"sh -c {shlex.quote(guard(job))} watch {number or job.attempt}"
    return f"setsid nohup {text} >/dev/null 2>&1 </dev/null 9<&- &"


def _measure() -> str:
    return f"""measure() {{
  free=$(df -Pk $here | awk 'NR==2 {{print $4}}')
  held=$(du -sk $here/outputs $here/checkpoint 2>/dev/null | awk '{{sum += $1}} END {{print sum + 0}}')
  if test $free -lt {SCARCE_KIB} && test $held -gt $allowed; then
    ask {Stop.DISK.value} "it held $held KiB, declared were $allowed, and the disk had $free KiB left"
  fi
}}"""


_COUNT = """find_group() {
  test -d "$group" && return
  pid=$(docker container inspect --format '{{.State.Pid}}' $id 2>/dev/null) || return
  group=
  while IFS=: read -r _ kinds path; do
    case ,$kinds, in
      *,memory,*) group=/sys/fs/cgroup/memory$path ;;
      ,,) test -n "$group" || group=/sys/fs/cgroup$path ;;
    esac
  done 2>/dev/null </proc/$pid/cgroup
}
count() {
  test -d "$group" || return
  used=0 killed=0
  for one in memory.max_usage_in_bytes memory.peak memory.current; do
    if test -r $group/$one; then { read -r used <$group/$one; } 2>/dev/null; break; fi
  done
  for one in memory.oom_control memory.events; do
    while read -r key value; do if test "$key" = oom_kill; then killed=$value; fi; done 2>/dev/null <$group/$one
  done
  if test $used -gt $peak || test $killed -gt $kills; then
    if test $used -gt $peak; then peak=$used; fi
    if test $killed -gt $kills; then kills=$killed; fi
    echo $peak $kills >$at/memory.part && mv $at/memory.part $at/memory
  fi
}"""
"""cgroup v1 and v2; the group is gone when the container has ended, so it is read while it runs."""

_ASK = """ask() {
  if ! test -s $at/cancel; then echo "$@" >$at/cancel.part && mv $at/cancel.part $at/cancel; fi
}"""

_STOP = """stop() {
  if test $1 = paused; then docker unpause $id >/dev/null 2>&1; fi
  if ! test -s $at/stopping; then
    echo $now >$at/stopping
    docker kill -s TERM $id >/dev/null 2>&1 || rm -f $at/stopping
  else
    read -r since <$at/stopping
    if test $now -ge $((since + grace)); then docker kill $id >/dev/null 2>&1; fi
  fi
}"""
"""Marked before it is sent: a mark without a signal costs the grace, a signal without a mark a half-made model."""
