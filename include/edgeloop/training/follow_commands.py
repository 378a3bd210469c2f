"""The shell text with which a running job is watched: its state, the VM's clock and its new log lines in one go."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from edgeloop.training import hold
from edgeloop.training.commands import ENGINE_DOWN, shell_text

if TYPE_CHECKING:
    from edgeloop.training.follow_log import Ask
    from edgeloop.training.job import Job

PIECE_BYTES = 4_000_000
_ENGINE = "docker version --format '{{.Server.Version}}'"


def poll(job: Job, ask: Ask, *, keep: str = "") -> str:
    """State, when the container was made, the VM's clock and log lines, in one round trip.

    ``keep`` is shell text that goes first.
    """
    inspect = shell_text(
        ["docker", "container", "inspect", "--format", "{{json .State}}{{println}}{{.Created}}", job.name]
    )
    after = ["--since", ask.since] if ask.since else []
    last = ["--tail", str(ask.tail)] if ask.tail else []
    logs = shell_text(["docker", "logs", "--timestamps", *after, *last, job.name])
    return f"""{keep}over=
if {hold.waits(job.folder)}; then over=1; fi
if state=$({inspect} 2>/dev/null); then
if test -n "$over"; then
{hold.let_go(job.folder)}
sleep {hold.SETTLE_SECONDS}
after=$({inspect} 2>/dev/null) && state=$after
fi
printf '%s\\n%s\\n' "$state" "$(date +%s.%N)"
{logs} 2>&1 | head -c {PIECE_BYTES}
elif {_ENGINE} >/dev/null 2>&1; then
printf '%s\\n\\n%s\\n' '{{"Status":"absent"}}' "$(date +%s.%N)"
else exit {ENGINE_DOWN}; fi"""


def cursor_file(job: Job, who: str) -> str:
    """Where a follower keeps its place; each has its own, so that the log of each task is whole."""
    return f"{job.folder}/cursor-{who}" if who else f"{job.folder}/cursor"


def keep(job: Job, who: str, place: str) -> str:
    """Keep a place for a follower in another process; never an error, nor half a place after a power cut."""
    path = cursor_file(job, who)
    return f"{{ printf %s {shlex.quote(place)} >{path}.part && mv {path}.part {path}; }} 2>/dev/null || true\n"


def kept(job: Job, who: str) -> str:
    """Print the place that a follower of this name kept; nothing if there was none."""
    return f"cat {cursor_file(job, who)} 2>/dev/null || true"
