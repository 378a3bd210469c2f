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
        f"{endpoint.host}:{endpoint.port} behind connection {endpoint.connection!r} does not answer: "
        f"{error or type(error).__name__}",
        left="whatever runs there; it goes on without us",
        next="Check power and network of the machine, and host and port in "
        f"`airflow connections get {endpoint.connection}`, then clear the task: it finds its place again.",
    )


def refused(endpoint: Endpoint, error: BaseException) -> ConfigurationError:
    """The error for a machine that does not take our key."""
    return ConfigurationError(
        f"{endpoint.host} refused the key of {endpoint.user!r} (connection {endpoint.connection!r}): {error}",
        left="nothing was started there",
        next=f"Add the public half of {endpoint.key_file} to ~{endpoint.user}/.ssh/authorized_keys on {endpoint.host}.",
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
        next=f"Log in with `{_login(endpoint)}` and try it there.",
    )


def too_slow(endpoint: Endpoint, command: str, seconds: float) -> UnreachableError:
    """The error for a command that did not end within its whole time."""
    return UnreachableError(
        f"A command over connection {endpoint.connection!r} did not end within {seconds:g} s: {_short(command)}",
        left="whatever the command had done by then",
        next=f"Log in with `{_login(endpoint)}`, see what it waits for, then clear the task.",
    )


def _login(endpoint: Endpoint) -> str:
    return f"ssh -p {endpoint.port} {endpoint.user}@{endpoint.host}"


def _short(command: str, limit: int = 160) -> str:
    flat = " ".join(command.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."
