"""Both shells against a real sshd: pinned, keyed, and never hanging."""

from __future__ import annotations

import asyncio
import dataclasses
import io
from typing import TYPE_CHECKING

import pytest
from tests.gates import make_key, public

from edgeloop.errors import ConfigurationError, RemoteCommandError, UnreachableError
from edgeloop.ssh.async_shell import AsyncShell
from edgeloop.ssh.shell import Completed, Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeloop.ssh.endpoint import Endpoint

BOTH = pytest.mark.parametrize("kind", ["shell", "async"])


def run(kind: str, endpoint: Endpoint, command: str, timeout: float = 10.0) -> Completed:
    """One command by either shell."""
    if kind == "shell":
        with Shell(endpoint) as shell:
            return shell.run(command, timeout=timeout)

    async def one() -> Completed:
        async with AsyncShell(endpoint) as shell:
            return await shell.run(command, timeout=timeout)

    return asyncio.run(one())


def other_key(tmp_path: Path, kind: str = "ed25519") -> tuple[str, str]:
    """A key pair that nobody knows: the private key's file, the public key."""
    path = make_key(tmp_path, "-t", kind)
    return str(path), public(path)


@BOTH
def test_a_command_tells_code_output_and_errors_apart(kind: str, endpoint: Endpoint) -> None:
    """All three come back, and nothing is raised for a code other than 0."""
    assert run(kind, endpoint, "echo out; echo err >&2; exit 3") == Completed(exit=3, out=b"out\n", err="err\n")


@BOTH
def test_a_command_without_input_reads_nothing(kind: str, endpoint: Endpoint) -> None:
    """A command that reads standard input ends instead of waiting for somebody to type."""
    assert run(kind, endpoint, "cat").exit == 0


@BOTH
def test_another_host_key_is_refused(kind: str, endpoint: Endpoint, tmp_path: Path) -> None:
    """A machine that shows another key than the pinned one gets neither command nor login."""
    _, public = other_key(tmp_path)
    with pytest.raises(ConfigurationError, match="another host key than connection 'edgeloop_vm' pins"):
        run(kind, dataclasses.replace(endpoint, host_key=public), "true")


@BOTH
def test_another_kind_of_host_key_is_refused(kind: str, endpoint: Endpoint, tmp_path: Path) -> None:
    """A pinned key of a kind that the machine does not have at all is a mismatch, too."""
    _, public = other_key(tmp_path, "ecdsa")
    with pytest.raises(ConfigurationError, match="another host key"):
        run(kind, dataclasses.replace(endpoint, host_key=public), "true")


@BOTH
def test_a_key_that_is_not_known_there_is_refused(kind: str, endpoint: Endpoint, tmp_path: Path) -> None:
    """The message names user, connection and what to add where; no password is ever tried."""
    private, _ = other_key(tmp_path)
    with pytest.raises(ConfigurationError, match="refused the key of 'trainer'") as caught:
        run(kind, dataclasses.replace(endpoint, key_file=private), "true")
    assert "authorized_keys" in str(caught.value)


@BOTH
@pytest.mark.parametrize("change", [{"host_key": "ssh-ed25519 AAAA!"}, {"host_key": "x"}, {"key_file": "/nowhere"}])
def test_what_cannot_be_read_is_said(kind: str, endpoint: Endpoint, change: dict[str, str]) -> None:
    """A broken key in the connection is a configuration error that names the connection."""
    with pytest.raises(ConfigurationError, match="edgeloop_vm"):
        run(kind, dataclasses.replace(endpoint, **change), "true")


@BOTH
def test_a_closed_port_is_unreachable(kind: str, endpoint: Endpoint) -> None:
    """A refused connection is told at once."""
    with pytest.raises(UnreachableError, match="edgeloop_vm"):
        run(kind, dataclasses.replace(endpoint, port=1), "true")


@BOTH
def test_a_command_that_does_not_end_is_given_up(kind: str, endpoint: Endpoint) -> None:
    """The whole time-out holds although the machine answers."""
    with pytest.raises(UnreachableError, match=r"did not end within 0\.5 s: sleep 30"):
        run(kind, endpoint, "sleep 30", timeout=0.5)


def test_check_raises_with_the_last_lines(endpoint: Endpoint) -> None:
    """A failed command is an error with its code and what it said."""
    with Shell(endpoint) as shell, pytest.raises(RemoteCommandError, match="exit code 4") as caught:
        shell.check("echo why >&2; exit 4", timeout=10)
    assert "why" in str(caught.value)


def test_a_stream_is_sent_and_received_in_pieces(endpoint: Endpoint) -> None:
    """Sixty-four megabytes go there and come back whole, chunk by chunk."""
    sink = io.BytesIO()
    with Shell(endpoint) as shell:
        done = shell.run("cat", stdin=(bytes([n]) * (1 << 20) for n in range(64)), timeout=60, sink=sink)
    assert done == Completed(exit=0, out=b"", err="")
    assert sink.getvalue() == b"".join(bytes([n]) * (1 << 20) for n in range(64))


def test_a_command_that_does_not_read_to_the_end_is_no_error(endpoint: Endpoint) -> None:
    """Its exit code tells; the sender does not hang."""
    with Shell(endpoint) as shell:
        assert shell.run("exit 5", stdin=(b"x" * (1 << 20) for _ in range(64)), timeout=30).exit == 5


def test_a_source_that_fails_fails_the_run(endpoint: Endpoint) -> None:
    """An error while reading what is to be sent comes out as itself."""

    def broken() -> Iterator[bytes]:
        yield b"x"
        raise LookupError("the blob is gone")

    with Shell(endpoint) as shell, pytest.raises(LookupError, match="the blob is gone"):
        shell.run("cat", stdin=broken(), timeout=30)


def test_much_on_both_outputs_does_not_block(endpoint: Endpoint) -> None:
    """A command that fills standard error first does not wait for ever for its reader."""
    with Shell(endpoint) as shell:
        done = shell.run("head -c 20000000 /dev/zero >&2; echo done", timeout=60)
    assert (done.out, len(done.err)) == (b"done\n", 20_000_000)
