"""OpenSSH's client as a carrier: what it is told, when it may not be used, and who goes on when it cannot."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from edgeloop.errors import UnreachableError
from edgeloop.ssh import openssh
from edgeloop.ssh.endpoint import Endpoint
from edgeloop.ssh.openssh import Bulk, OpenSsh
from edgeloop.ssh.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.site import Site

PIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC8xOc5knNfhgGfXis20+MB4APx+hcgwLdMH2gRK8HZx"
MIB = 1024 * 1024


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key as ssh wants it."""
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    return file


@pytest.fixture
def login(key: Path) -> Endpoint:
    """A login that OpenSSH's client can use."""
    return Endpoint(connection="c", host="h", port=2222, user="u", key_file=str(key), host_key=PIN)


@pytest.fixture
def vm(site: Site) -> Endpoint:
    """The site's VM."""
    one = site.vm
    return Endpoint(
        connection="edgeloop_vm", host=one.host, port=one.port, user=one.user, key_file=str(one.key_file),
        host_key=one.host_key,
    )  # fmt: skip


def test_it_is_given_the_pin_and_the_key_and_nothing_else(login: Endpoint) -> None:
    """No configuration, agent, password, other key or unknown host; the command is one word."""
    words = openssh.argv(login, "/pins", "echo 'a b'")
    assert words[:4] == ["ssh", "-F", "none", "-T"]
    assert words[-7:] == ["-p", "2222", "-l", "u", "--", "h", "echo 'a b'"]
    for option in (
        "BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none", "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=/pins", "GlobalKnownHostsFile=/dev/null", "ControlPath=none", "ConnectTimeout=10",
    ):  # fmt: skip
        assert words[words.index(option) - 1] == "-o"
    assert words[words.index("-i") + 1] == login.key_file


def test_the_pin_is_a_line_of_known_hosts() -> None:
    """Under a name of ours, so that port and address do not matter; what stands around the key is dropped."""
    assert openssh.known_host(PIN) == f"edgeloop {PIN}\n"
    assert openssh.known_host(f"[10.0.0.1]:22 {PIN} root@vm") == f"edgeloop {PIN}\n"


def test_what_it_cannot_take_is_paramikos(login: Endpoint, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase, a key in the connection, a jump host, an open key file, no file, no ssh: each with its reason."""
    assert openssh.why_not(login) == ""
    assert "passphrase" in openssh.why_not(dataclasses.replace(login, passphrase="x"))
    assert "private key" in openssh.why_not(dataclasses.replace(login, key_file="", private_key="x"))
    assert "jump" in openssh.why_not(dataclasses.replace(login, jump=login))
    assert "cannot be read" in openssh.why_not(dataclasses.replace(login, key_file=str(key) + "x"))
    key.chmod(0o644)
    assert "may be read by others" in openssh.why_not(login)
    key.chmod(0o600)
    monkeypatch.setenv("PATH", str(key.parent))
    assert openssh.why_not(login) == "there is no ssh command on the worker"


def test_a_command_has_its_three_streams(vm: Endpoint) -> None:
    """Exit code, output and standard error come back; input goes in as it is made."""
    done = OpenSsh(vm).run("cat; echo wrong >&2; exit 7", stdin=(b"x" * MIB for _ in range(3)), timeout=60)
    assert (done.exit, len(done.out), done.err) == (7, 3 * MIB, "wrong\n")
    assert OpenSsh(vm).run("exit 0", stdin=iter([b"x" * MIB] * 3), timeout=60).exit == 0


def test_another_host_key_is_refused(vm: Endpoint) -> None:
    """Nothing is sent to a machine that is not the pinned one."""
    with pytest.raises(UnreachableError, match="Host key verification failed"):
        OpenSsh(dataclasses.replace(vm, host_key=PIN)).run("true", timeout=60)


def test_a_command_that_does_not_end_is_ended(vm: Endpoint) -> None:
    """The whole time is kept, and no ssh stays behind."""
    with pytest.raises(UnreachableError, match=r"did not end within 0.5 s"):
        OpenSsh(vm).run("sleep 1000", timeout=0.5)


def test_a_source_that_fails_fails_the_run(vm: Endpoint) -> None:
    """Its own error comes out, not a broken pipe."""

    def source() -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        OpenSsh(vm).run("cat", stdin=source(), timeout=60)


def test_a_sink_that_fails_fails_the_run(vm: Endpoint) -> None:
    """A full disk here is told as that."""

    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, f"no room for {len(data)} bytes")

    with pytest.raises(OSError, match="no room"):
        OpenSsh(vm).run("cat /dev/zero", sink=Full(), timeout=60)


def test_paramiko_goes_on_where_it_never_got_through(vm: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream is made anew, the reason is kept for the log; one that got through is not replaced in the middle."""
    data = os.urandom(MIB)
    monkeypatch.setattr(openssh, "CIPHERS", "3des-cbc")
    with Shell(vm) as shell:
        bulk = Bulk(shell)
        assert bulk.name == "OpenSSH's client"
        assert bulk.run("cat", stdin=lambda: iter([data]), timeout=60).out == data
        assert bulk.name.startswith("paramiko (OpenSSH's client did not get through")
        monkeypatch.undo()
        proven = Bulk(shell)
        proven.run("true", timeout=60)
        monkeypatch.setattr(openssh, "CIPHERS", "3des-cbc")
        with pytest.raises(UnreachableError):
            proven.run("true", timeout=60)
