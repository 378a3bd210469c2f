"""One conformance test of both shells over real sshds: every kind of key, passwords, ports and jump hosts."""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.gates import PASSWORD, make_key, public

from edgeloop.errors import ConfigurationError, UnreachableError
from edgeloop.ssh.async_shell import AsyncShell
from edgeloop.ssh.shell import Completed, Shell
from lab import faults

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gates import Gate, Gates

    from edgeloop.ssh.endpoint import Endpoint
    from lab.site import Site

BOTH = pytest.mark.parametrize("kind", ["shell", "async"])
KINDS = {
    "ed25519": ("-t", "ed25519", "-N", "a passphrase of words"),
    "ed25519-open": ("-t", "ed25519"),
    "ecdsa": ("-t", "ecdsa", "-b", "256"),
    "ecdsa-pem": ("-t", "ecdsa", "-b", "521", "-m", "PEM", "-N", "a passphrase of words"),
    "rsa": ("-t", "rsa", "-b", "2048"),
    "rsa-pem": ("-t", "rsa", "-b", "2048", "-m", "PEM"),
    "rsa-pkcs8": ("-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", "a passphrase of words"),
}


def run(kind: str, endpoint: Endpoint, command: str = "echo $SSH_CONNECTION", seconds: float = 10.0) -> str:
    """What one command says by either shell."""
    if kind == "shell":
        with Shell(endpoint) as shell:
            return shell.run(command, timeout=seconds).text

    async def one() -> Completed:
        async with AsyncShell(endpoint) as shell:
            return await shell.run(command, timeout=seconds)

    return asyncio.run(one()).text


@BOTH
def test_every_kind_of_key_logs_in(gates: Gates, tmp_path: Path, kind: str) -> None:
    """From a file and from the connection's own text, with a passphrase and without, on another port than 22."""
    made = {name: make_key(tmp_path, *options) for name, options in KINDS.items()}
    gate = gates(keys=made.values()).endpoint
    for name, key in made.items():
        by_file = replace(gate, key_file=str(key), passphrase="a passphrase of words" if "-N" in KINDS[name] else "")
        text = key.read_text()
        # An environment variable and some secrets backends bring the line ends as two characters.
        inline = text if name.startswith("rsa") else text.replace("\n", "\\n")
        for one in (by_file, replace(by_file, key_file="", private_key=inline)):
            assert run(kind, one).split()[-1] == str(gate.port), name


@BOTH
@pytest.mark.parametrize("made", ["ed25519-open", "ecdsa", "rsa"])
def test_every_kind_of_host_key_can_be_pinned(
    gates: Gates, tmp_path: Path, endpoint: Endpoint, kind: str, made: str
) -> None:
    """The pinned kind is asked for although the machine has another that is preferred."""
    pinned, other = make_key(tmp_path, *KINDS[made]), make_key(tmp_path, "-t", "ed25519")
    gate = gates(*([] if made == "ed25519-open" else [f"HostKey {other}"]), host_key=pinned)
    assert run(kind, gate.endpoint) != ""
    as_scanned = replace(gate.endpoint, host_key=f"[{endpoint.host}]:{gate.endpoint.port} {public(pinned)} comment\n")
    assert run(kind, as_scanned) != ""


@BOTH
def test_a_key_that_cannot_be_used_is_told_by_field(gates: Gates, tmp_path: Path, kind: str) -> None:
    """Each names the connection and the field, says what to type, and quotes neither key nor passphrase."""
    locked, weak = make_key(tmp_path, "-t", "ed25519", "-N", "swordfish"), make_key(tmp_path, "-t", "rsa", "-b", "1024")
    good = gates().endpoint
    cases = {
        "it has a passphrase, the connection gives none": replace(good, key_file=str(locked)),
        "the passphrase is not its own": replace(good, key_file=str(locked), passphrase="sardine"),
        "it has no passphrase, the connection gives one": replace(good, passphrase="sardine"),
        "an rsa key of 1024 bits can be broken": replace(good, key_file=str(weak)),
        "it is no private key": replace(good, key_file=f"{weak}.pub"),
        "No such file": replace(good, key_file="/nowhere/key"),
        "(?s)extra.private_key, cannot be used: it is no private key": replace(
            good, key_file="", private_key="-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n"
        ),
    }
    for said, endpoint in cases.items():
        with pytest.raises(ConfigurationError, match=said) as caught:
            run(kind, endpoint)
        text = str(caught.value)
        assert "'edgeloop_vm'" in text
        assert "Next:" in text
        assert not any(secret in text for secret in ("swordfish", "sardine", "c2VjcmV0"))


@BOTH
def test_a_password_logs_in_only_where_it_is_allowed(gates: Gates, kind: str) -> None:
    """Allowed and strong it does; a wrong one is refused with what to correct, and is not quoted."""
    by_key = gates("PasswordAuthentication yes").endpoint
    allowed = replace(by_key, key_file="", password=PASSWORD, allow_password=True)
    assert run(kind, allowed, "echo in") == "in"
    with pytest.raises(ConfigurationError, match="refused the password of 'trainer'") as caught:
        run(kind, replace(allowed, password=PASSWORD[::-1]))
    assert "PasswordAuthentication" in str(caught.value)
    assert PASSWORD[::-1] not in str(caught.value)


@BOTH
def test_a_key_is_never_helped_out_by_a_password(gates: Gates, tmp_path: Path, kind: str) -> None:
    """A refused key stays refused although the machine would take the password."""
    gate = gates("PasswordAuthentication yes")
    other = make_key(tmp_path, "-t", "ed25519")
    endpoint = replace(gate.endpoint, key_file=str(other), password=PASSWORD, allow_password=True)
    with pytest.raises(ConfigurationError, match="refused the key"):
        run(kind, endpoint)
    assert "password" not in gate.log.read_text()


@BOTH
def test_a_machine_is_reached_through_others(gates: Gates, device: Endpoint, endpoint: Endpoint, kind: str) -> None:
    """The machine sees the last jump host as its caller; two in a row work, each with its own pin and key."""
    inner = gates("ListenAddress 127.0.0.1").endpoint
    through = replace(endpoint, jump=device)
    assert run(kind, through).split()[0] == device.host
    chain = replace(inner, host="127.0.0.1", jump=through)
    assert run(kind, chain).split()[0] == "127.0.0.1"


@BOTH
def test_each_jump_host_is_pinned_too(device: Endpoint, endpoint: Endpoint, tmp_path: Path, kind: str) -> None:
    """One that shows another key is not passed, and the error names its own connection."""
    false = replace(device, host_key=public(make_key(tmp_path, "-t", "ed25519")))
    with pytest.raises(ConfigurationError, match="another host key than connection 'edgeloop_device' pins"):
        run(kind, replace(endpoint, jump=false))
    behind = replace(endpoint, jump=device, host_key=device.host_key)
    with pytest.raises(ConfigurationError, match="another host key than connection 'edgeloop_vm' pins"):
        run(kind, behind)


@BOTH
def test_a_jump_host_that_leads_nowhere_says_why(gates: Gates, endpoint: Endpoint, kind: str) -> None:
    """A forbidden way names sshd's setting, a closed port is an unreachable machine."""
    closed = replace(gates("AllowTcpForwarding no").endpoint, connection="edgeloop_gate")
    with pytest.raises(ConfigurationError, match=r"edgeloop_gate.*does not lead 'trainer' on to .*:22") as caught:
        run(kind, replace(endpoint, jump=closed))
    assert "AllowTcpForwarding yes" in str(caught.value)
    opened = replace(gates().endpoint, connection="edgeloop_gate")
    with pytest.raises(UnreachableError, match="through connection 'edgeloop_gate'"):
        run(kind, replace(endpoint, port=1, jump=opened))


def _place(gate: Gate) -> socket.socket:
    """The one connection that may be without a login; the fixture's own counts for a moment after it was closed."""
    until = time.monotonic() + 20
    while True:
        silent = socket.create_connection((gate.endpoint.host, gate.endpoint.port))
        if silent.recv(4) == b"SSH-":
            return silent
        silent.close()
        assert time.monotonic() < until


@BOTH
def test_an_sshd_that_drops_at_random_is_knocked_at_again(gates: Gates, kind: str) -> None:
    """While too many are on their way in sshd drops the next ones (MaxStartups); the login comes through later."""
    gate = gates("MaxStartups 1:100:2")
    until = time.monotonic() + 20
    with ThreadPoolExecutor(1) as pool:
        with _place(gate):
            before = gate.log.read_text().count("drop connection")
            login = pool.submit(run, kind, gate.endpoint, "echo in")
            while gate.log.read_text().count("drop connection") == before:
                assert time.monotonic() < until
                time.sleep(0.02)
        assert login.result() == "in"


@BOTH
@pytest.mark.fault
def test_a_machine_that_falls_silent_behind_a_jump_host_is_noticed(
    site: Site, device: Endpoint, endpoint: Endpoint, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel watches the first hop only; our own keepalives tell long before the command's time is over."""
    for module in ("connect", "async_connect"):
        monkeypatch.setattr(f"edgeloop.ssh.{module}.IDLE_SECONDS", 2.0)
        monkeypatch.setattr(f"edgeloop.ssh.{module}.KEEPALIVE_SECONDS", 0.5)
    through = replace(endpoint, jump=device)
    with ThreadPoolExecutor(1) as pool:
        silent = pool.submit(run, kind, through, "touch /tmp/silent-behind-jump; sleep 90", 100.0)
        until = time.monotonic() + 20
        while run(kind, endpoint, "rm /tmp/silent-behind-jump && echo seen") != "seen":
            assert time.monotonic() < until
        with faults.cut(site, "vm"), pytest.raises(UnreachableError, match="through connection 'edgeloop_device'"):
            silent.result()
