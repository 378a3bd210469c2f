"""More sshds on the site's machines: other keys, other limits, passwords, and machines to jump through."""

from __future__ import annotations

import crypt
import itertools
import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lab import describe, tools
from lab.host_commands import inside_command
from lab.hosts import Machine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.ssh.endpoint import Endpoint
    from lab.site import Host, Site

PASSWORD = "Zb7-vR2q_kW9.xT4h"
START_SECONDS = 10.0
PORTS = itertools.count(2222)
KEYS: dict[tuple[str, ...], Path] = {}


def make_key(folder: Path, *options: str) -> Path:
    """A key pair by ssh-keygen's own hand; returns the private half's file."""
    path = folder / f"key{len(KEYS)}"
    KEYS[(str(path), *options)] = path
    options = options if "-N" in options else (*options, "-N", "")
    subprocess.run(["ssh-keygen", "-q", *options, "-f", str(path)], check=True)
    return path


def public(key: Path) -> str:
    """The public half, ``<kind> <base64>``."""
    return " ".join(key.with_name(key.name + ".pub").read_text().split()[:2])


@dataclass(frozen=True, kw_only=True)
class Gate:
    """An sshd of a test's own on the VM."""

    endpoint: Endpoint
    process: subprocess.Popen[bytes]
    log: Path
    host_key: Path
    probes: int = 1
    """Connections that were the fixture's own."""

    def logins(self) -> int:
        """How many logins it let in so far."""
        return len(re.findall("Accepted (?:publickey|password) for", self.log.read_text()))

    def connections(self) -> int:
        """How many TCP connections it was asked for so far, let in or dropped."""
        text = self.log.read_text()
        return text.count("Connection from ") + text.count("drop connection ")

    def end(self) -> None:
        """End it and every session on it."""
        for pid in (*_children(self.process.pid), self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def _children(pid: int) -> list[int]:
    """Everything below a process, the last first; an sshd's sessions outlive it."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [*_children(child), child]
    return found


class Gates:
    """Starts sshds on the VM."""

    def __init__(self, site: Site, endpoint: Endpoint, folder: Path) -> None:
        self._site, self._endpoint, self._folder = site, endpoint, folder
        self._open: list[Gate] = []

    def __call__(
        self, *settings: str, host_key: Path | None = None, keys: Iterable[Path] = (), port: int | None = None
    ) -> Gate:
        """An sshd with these settings; ``host_key`` and the logins' ``keys`` are private halves."""
        number = next(PORTS) if port is None else port
        folder = self._folder / f"gate{number}-{len(self._open)}"
        folder.mkdir()
        folder.chmod(0o755)
        host = host_key or make_key(folder, "-t", "ed25519")
        logins = list(keys) or [Path(self._endpoint.key_file)]
        (folder / "authorized_keys").write_text("".join(f"{public(one)}\n" for one in logins))
        (folder / "sshd_config").write_text(_config(self._site.vm, number, host, folder, settings))
        gate = Gate(
            endpoint=replace(self._endpoint, port=number, host_key=public(host), key_file=str(logins[0])),
            process=subprocess.Popen(self._command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
            log=folder / "log",
            host_key=host,
        )
        self._open.append(gate)
        return replace(gate, probes=_answers(gate))

    def _command(self, folder: Path) -> list[str]:
        first = Machine(describe.layout_of(self._site), "vm").first_pid()
        assert first is not None
        # With a password of its own: in a mount namespace of its own, so that no other login of this machine has it.
        (folder / "shadow").write_text(_shadow(self._endpoint.user))
        script = (
            f"mount --bind {folder}/shadow /etc/shadow && "
            f"exec {tools.path('sshd')} -D -f {folder}/sshd_config -E {folder}/log"
        )
        return inside_command(first, ["unshare", "--mount", "sh", "-c", script])

    def close(self) -> None:
        """End all of them."""
        for gate in self._open:
            gate.end()


def _config(vm: Host, port: int, host_key: Path, folder: Path, settings: tuple[str, ...]) -> str:
    # The first value of a setting counts.
    lines = (
        f"Port {port}", f"ListenAddress {vm.host}", f"HostKey {host_key}", *settings,
        f"AuthorizedKeysFile {folder}/authorized_keys", "PidFile none", "UsePAM no", "UseDNS no", "StrictModes no",
        "PasswordAuthentication no", "KbdInteractiveAuthentication no", "LogLevel VERBOSE",
        f"SetEnv DOCKER_HOST={vm.docker}",
    )  # fmt: skip
    return "\n".join(lines) + "\n"


def _shadow(user: str) -> str:
    lines = Path("/etc/shadow").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(f"{user}:")]
    return "\n".join([*kept, f"{user}:{crypt.crypt(PASSWORD)}:19000:0:99999:7:::"]) + "\n"


def _answers(gate: Gate) -> int:
    """Wait until it speaks SSH; how many connections that took."""
    until, taken = time.monotonic() + START_SECONDS, 0
    while True:
        try:
            with socket.create_connection((gate.endpoint.host, gate.endpoint.port), timeout=1) as sock:
                taken += 1
                assert sock.recv(4) == b"SSH-"
        except OSError:
            assert gate.process.poll() is None, gate.log.read_text()
            assert time.monotonic() < until
            time.sleep(0.02)
        else:
            return taken
