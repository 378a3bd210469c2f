"""The errors that both shells raise, so that a worker and a trigger say the same about the same machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError, RemoteCommandError, UnreachableError

if TYPE_CHECKING:
    from edgeloop.ssh.endpoint import Endpoint

ERROR_LINES = 20


def lost(endpoint: Endpoint, error: BaseException) -> UnreachableError:
    """The error for a machine that does not answer, or no longer."""
    return UnreachableError(
        f"{endpoint.way} behind connection {endpoint.connection!r} does not answer: {error or type(error).__name__}",
        left="whatever runs there; it goes on without us",
        next="Check power and network of the machine, and host and port in "
        f"`airflow connections get {endpoint.connection}`, then clear the task: it finds its place again.",
    )


def refused(endpoint: Endpoint, error: BaseException) -> ConfigurationError:
    """The error for a machine that does not take our key, or our password."""
    home = f"~{endpoint.user}/.ssh/authorized_keys on {endpoint.host}"
    if endpoint.by_password:
        then = (
            f"Correct its password, or see that sshd on {endpoint.host} says PasswordAuthentication yes; a key in "
            f"{home} is better than either."
        )
    elif endpoint.private_key:
        then = f"Add the public half of extra.private_key (`ssh-keygen -y -f <file with the key>`) to {home}."
    else:
        then = f"Add the public half of {endpoint.key_file} to {home}."
    return ConfigurationError(
        f"{endpoint.host} refused the {'password' if endpoint.by_password else 'key'} of {endpoint.user!r} "
        f"(connection {endpoint.connection!r}): {error}",
        left="nothing was started there",
        next=then,
    )


def no_way(endpoint: Endpoint, error: BaseException, *, forbidden: bool) -> ConfigurationError | UnreachableError:
    """The error for a jump host that does not lead to the next machine."""
    jump = endpoint.jump
    if jump is None or not forbidden:
        return lost(endpoint, error)
    return ConfigurationError(
        f"Jump host {jump.host} (connection {jump.connection!r}) does not lead {jump.user!r} on to "
        f"{endpoint.host}:{endpoint.port} (connection {endpoint.connection!r}): {error}",
        left="nothing was started there",
        next=f"Allow it in sshd_config on {jump.host}: AllowTcpForwarding yes, and PermitOpen "
        f"{endpoint.host}:{endpoint.port} if PermitOpen is used.",
    )


def other_host_key(endpoint: Endpoint) -> ConfigurationError:
    """The error for a machine that shows another host key than the pinned one."""
    return ConfigurationError(
        f"{endpoint.host}:{endpoint.port} shows another host key than connection {endpoint.connection!r} pins.",
        left="nothing was sent there",
        next="If the machine was reinstalled, compare the new fingerprint on its console and put the new key into the "
        "connection's host_key; if not, somebody answers in its place.",
    )


def command_failed(endpoint: Endpoint, command: str, code: int, said: str) -> RemoteCommandError:
    """The error for a command that ended badly; the last lines of what it said come with it."""
    return RemoteCommandError(
        f"A command over connection {endpoint.connection!r} ended with exit code {code}: {_short(command)}"
        + "".join(f"\n  {line}" for line in said.splitlines()[-ERROR_LINES:]),
        next=f"Log in with `{endpoint.login}` and try it there.",
    )


def too_slow(endpoint: Endpoint, command: str, seconds: float) -> UnreachableError:
    """The error for a command that did not end within its whole time."""
    return UnreachableError(
        f"A command over connection {endpoint.connection!r} did not end within {seconds:g} s: {_short(command)}",
        left="whatever the command had done by then",
        next=f"Log in with `{endpoint.login}`, see what it waits for, then clear the task.",
    )


def _short(command: str, limit: int = 160) -> str:
    flat = " ".join(command.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def no_session(endpoint: Endpoint, error: BaseException) -> UnreachableError:
    """The error for a machine that is logged in to and runs no command."""
    return UnreachableError(
        f"{endpoint.way} behind connection {endpoint.connection!r} opens no session: {error}",
        left="whatever runs there",
        next=f"Raise MaxSessions in sshd_config on {endpoint.host} (10 is usual), then clear the task.",
    )
