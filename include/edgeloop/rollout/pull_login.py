"""Pulling from a registry that wants a login: it comes through stdin, for this one pull, and stays in memory. Pure.

Docker reads logins from a file. It lies in /dev/shm (a tmpfs) under a name of its own, readable by the device's user
alone, and goes with the command that made it; one whose command was killed is swept by the next pull. Nothing of it
stands on a command line, where everybody on the device could read it, or in the log.
"""

from __future__ import annotations

import base64
import json
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeloop.containers.endpoint import PullLogin

FOLDER = "/dev/shm"  # noqa: S108 - a tmpfs is what is wanted; mktemp makes the name
PREFIX = "edgeloop-pull."
SWEEP_MINUTES = 60
"""More than a pull may take."""


def stdin(login: PullLogin) -> bytes:
    """What :func:`pull` reads: the content of Docker's file of logins."""
    if login.token:
        entry = {"registrytoken": login.token}
    else:
        entry = {"auth": base64.b64encode(f"{login.user}:{login.password}".encode()).decode()}
    return json.dumps({"auths": {login.host: entry}}).encode()


def pull(reference: str) -> str:
    """Pull ``reference`` with the login on stdin."""
    script = (
        f"find {FOLDER} -maxdepth 1 -name '{PREFIX}*' -user \"$(id -u)\" -mmin +{SWEEP_MINUTES} -exec rm -rf {{}} +; "
        f"login=$(mktemp -d {FOLDER}/{PREFIX}XXXXXX) || exit 1; "
        "trap 'rm -rf \"$login\"' EXIT; trap 'exit 129' HUP INT TERM; "
        'cat > "$login/config.json" && '
        f'docker --config "$login" pull {shlex.quote(reference)}'
    )
    return shlex.join(["sh", "-c", script])
