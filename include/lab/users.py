"""Unix users that logins and file servers need; shared by all sites of this machine, made once, never removed."""

from __future__ import annotations

import pwd

from lab import tools
from lab.layout import machine_lock

TRAINER, EDGE, HISTORIAN = "trainer", "edge", "historian"
LOGINS = (TRAINER, EDGE)


def create_command(user: str) -> list[str]:
    """The command that makes `user`: with shell and home for logins, without for the share's owner."""
    if user in LOGINS:
        return ["useradd", "--create-home", "--user-group", "--shell", "/bin/bash", user]
    return ["useradd", "--system", "--no-create-home", "--user-group", "--shell", "/usr/sbin/nologin", user]


def unlock_command(user: str) -> list[str]:
    """The command that lets `user` in by key: sshd without PAM refuses the locked `!` that useradd leaves."""
    return ["usermod", "--password", "*", user]


def ensure() -> None:
    """Make the users that are missing."""
    with machine_lock():
        for user in (*LOGINS, HISTORIAN):
            if user not in {entry.pw_name for entry in pwd.getpwall()}:
                tools.run(create_command(user))
                tools.run(unlock_command(user))
