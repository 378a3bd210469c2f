"""The programs the lab drives: found where Debian puts them, run with a deadline, quoted when they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from lab.errors import LabError, MissingToolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A login shell of a plain user has no sbin on its PATH; dockerd looks up iptables and runc there itself.
PATH = ":".join((os.environ.get("PATH", ""), "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"))


def path(program: str) -> str:
    """The absolute path of `program`; raises MissingToolError when it is not installed."""
    found = shutil.which(program, path=PATH)
    if found is None:
        what = f"{program} is not installed"
        raise MissingToolError(what, left="nothing was started", next="python -m lab install")
    return found


def run(
    argv: Sequence[str],
    *,
    given: str | None = None,
    deadline: float = 60.0,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run `argv` to its end and return what it printed; `given` goes to its standard input.

    Raises LabError with its last words when it fails or outlasts `deadline` seconds.
    """
    command = [path(argv[0]), *argv[1:]]
    environment = os.environ | {"PATH": PATH} | dict(env or {})
    try:
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            timeout=deadline,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL if given is None else None,
        )
    except subprocess.TimeoutExpired as error:
        what = f"{' '.join(argv)} did not end within {deadline:.0f} s"
        raise LabError(what, next="run it by hand and see where it waits") from error
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip())[-800:]
        what = f"{' '.join(argv)} ended with {done.returncode}: {words}"
        raise LabError(what, next="run it by hand")
    return done.stdout
