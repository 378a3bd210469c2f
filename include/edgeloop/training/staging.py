"""Data and code on their way to the VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.errors import ConflictError, IntegrityError
from edgeloop.ssh import problems
from edgeloop.training import bundle, stage_commands
from edgeloop.training.job import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.ssh.shell import Shell
    from edgeloop.training.bundle import Cargo
    from edgeloop.training.job import Job

MOVE_SECONDS = 600.0


def stage(shell: Shell, job: Job, cargo: Cargo, say: Callable[[str], None]) -> None:
    """Bring data and code into the job's folder, verified there; already staged is nothing to do.

    Raises:
        IntegrityError: The bytes that arrived are not those of the records.
        ConflictError: The VM's disk is too full.
    """
    text = stage_commands.stage(job, need_kib=bundle.needed_kib(cargo.members))
    done = shell.run(text, stdin=bundle.tar_stream(cargo.members), timeout=MOVE_SECONDS)
    if done.exit == stage_commands.NO_SPACE:
        raise ConflictError(
            f"The disk of {shell.endpoint.host} (connection {shell.endpoint.connection!r}) is too full: "
            f"{done.err.strip()}.",
            left="nothing was staged",
            next=f"Log in, remove what is not needed (`du -sh ~/{FOLDER}/* ~`, `docker system df`) and clear the task.",
        )
    if "sha256sum" in done.err and done.exit != 0:
        raise IntegrityError(
            f"What arrived on {shell.endpoint.host} is not what was sent: {done.err.strip()}",
            left="nothing was staged",
            next="Clear the task; if it happens again, compare the blob with its record's sha256.",
        )
    if done.exit != 0:
        raise problems.command_failed(shell.endpoint, "(stage)", done.exit, done.err)
    say(f"{sum(one.size for one in cargo.members) / 2**20:.1f} MiB of data and code are on {shell.endpoint.host}")
