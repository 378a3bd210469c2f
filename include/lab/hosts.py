"""Machines that SSH reaches: the training VM, the edge devices and the builder.

Each is one `unshare` with process, mount and host name spaces of its own inside its network namespace: its sshd and
Docker engine see no other machine's, two sites share no home folder although they share users, and killing its
first process is a power cut: the kernel ends the engine, its shims and every container with it.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from lab import keys, proc, processes, tools
from lab.errors import UnhealthyError
from lab.host_commands import (
    SSH_PORT,
    device_share,
    engine_start_command,
    inside_command,
    machine_command,
    sshd_command,
    sshd_config,
    user_of,
)
from lab.probes import await_health, banner, engine_answers
from lab.users import EDGE

if TYPE_CHECKING:
    from lab.layout import Layout

_DEADLINE_S = 90.0
_BOOT_S = 15.0


class Machine:
    """One host as a part: named as the host."""

    needs: tuple[str, ...] = ("network",)

    def __init__(self, layout: Layout, host: str) -> None:
        self.name = host
        self._layout = layout
        self._user = user_of(host)

    def healthy(self) -> bool:
        """Whether it is powered, its engine answers and its sshd speaks SSH."""
        return self._powered() and self._engine_healthy() and (self._user is None or self._sshd_healthy())

    def start(self) -> None:
        """Power it if it is off, and start what does not run on it."""
        if not self._powered():
            self.power_off()
            self._prepare()
            self._power_on()
        if self._user is not None and not self._sshd_healthy():
            processes.stop(self._layout, f"{self.name}-sshd", deadline=0.0)
            self._spawn("sshd", sshd_command(self._layout, self.name))
        if not self._engine_healthy():
            self.stop_engine(deadline=0.0)
            self._spawn("docker", engine_start_command(self._layout, self.name))
        self._await()

    def stop(self) -> bool:
        """End its engine in order, then cut the power."""
        ran = self.stop_engine()
        return self.power_off() or ran

    def power_off(self) -> bool:
        """Cut the power: everything on the host ends at once, without notice."""
        names = (self.name, f"{self.name}-docker", f"{self.name}-sshd")
        # The first process ends all others of its process namespace, containers included.
        ran = [processes.stop(self._layout, name, deadline=0.0) for name in names]
        _remove_cgroups(self._layout.netns(self.name))
        return any(ran)

    def first_pid(self) -> int | None:
        """The host's first process as this machine numbers it, None when it is off."""
        return self._below(self.name)

    def engine_pids(self) -> list[int]:
        """The engine and its containerd, whoever started them on this host."""
        first = self.first_pid()
        space = proc.namespace(first, "pid") if first else None
        if space is None:
            return []
        mine = (found.pid for found in proc.every() if not found.dead and found.name in ("dockerd", "containerd"))
        return [pid for pid in mine if proc.namespace(pid, "pid") == space]

    def stop_engine(self, *, deadline: float = 30.0) -> bool:
        """End the engine: asked first, killed after `deadline` seconds; containers of a device run on."""
        pids = self.engine_pids()
        if deadline:
            proc.signal_all(pids, signal.SIGTERM)
            processes.wait(lambda: not self.engine_pids(), deadline)
        proc.signal_all(self.engine_pids(), signal.SIGKILL)
        processes.wait(lambda: not self.engine_pids(), _BOOT_S)
        processes.stop(self._layout, f"{self.name}-docker", deadline=0.0)
        return bool(pids)

    def keep_containers(self, *, keep: bool) -> None:
        """Let containers outlive the engine, or not, from now on; the engine takes that up while it runs."""
        config = self._layout.home(self.name) / "etc-docker" / "daemon.json"
        config.write_text(json.dumps({"live-restore": keep}) + "\n")
        engines = [pid for pid in self.engine_pids() if (found := proc.stat(pid)) and found.name == "dockerd"]
        proc.signal_all(engines, signal.SIGHUP)

    def _prepare(self) -> None:
        own = self._layout.home(self.name)
        for folder in ("etc-docker", "home", "docker"):
            (own / folder).mkdir(parents=True, exist_ok=True)
        # The mount point on this machine; the host mounts its own folder over it.
        Path("/etc/docker").mkdir(parents=True, exist_ok=True)
        if self._user is None:
            return
        entry = pwd.getpwnam(self._user)
        os.chown(own / "home", entry.pw_uid, entry.pw_gid)
        (own / "authorized_keys").write_text(keys.public(keys.login_key(self._layout, self._user)) + "\n")
        (own / "sshd_config").write_text(sshd_config(self._layout, self.name, self._user))
        if self._user == EDGE:
            share = device_share(self._layout, self.name)
            share.mkdir(parents=True, exist_ok=True)
            share.chmod(0o777)

    def _power_on(self) -> None:
        processes.spawn(
            self._layout,
            self.name,
            machine_command(self._layout, self.name),
            stop_signal=signal.SIGKILL,
            env={"PATH": tools.PATH},
        )
        if not processes.wait(self._booted, _BOOT_S):
            log = self._log(self.name)
            what = f"{self.name} did not boot within {_BOOT_S:.0f} s: {log.read_text()[-400:].strip()}"
            raise UnhealthyError(what, left=str(log), next="the lab needs process and mount namespaces: run it as root")

    def _powered(self) -> bool:
        """Whether it is on, and on the network there is now rather than on one that was made anew under it."""
        first = self.first_pid()
        space = Path("/run/netns") / self._layout.netns(self.name)
        return first is not None and space.exists() and proc.namespace(first, "net") == space.stat().st_ino

    def _booted(self) -> bool:
        first = self.first_pid()
        return first is not None and Path(f"/proc/{first}/root/run/booted").exists()

    def _spawn(self, service: str, argv: list[str]) -> None:
        first = self.first_pid()
        if first is None:
            what = f"{self.name} is off: {service} cannot be started on it"
            raise UnhealthyError(what, left="nothing was started", next="power it on first")
        command = inside_command(first, argv)
        processes.spawn(self._layout, f"{self.name}-{service}", command, env={"PATH": tools.PATH})

    def _await(self) -> None:
        if self._user is not None:
            log = self._layout.home(self.name) / "sshd.log"
            await_health(f"sshd of {self.name}", self._sshd_healthy, log, _DEADLINE_S)
        await_health(f"engine of {self.name}", self._engine_healthy, self._log(f"{self.name}-docker"), _DEADLINE_S)

    def _engine_healthy(self) -> bool:
        return self._below(f"{self.name}-docker") is not None and engine_answers(self._layout.docker_socket(self.name))

    def _sshd_healthy(self) -> bool:
        if self._below(f"{self.name}-sshd") is None:
            return False
        return banner(self._layout.address(self.name), SSH_PORT).startswith(b"SSH-2.0")

    def _below(self, record: str) -> int | None:
        """The child of a recorded process: nsenter and unshare stay between this machine and what they started."""
        process = processes.find(self._layout, record)
        found = proc.children(process.pid) if process else []
        return found[0] if found else None

    def _log(self, name: str) -> Path:
        return self._layout.state / "logs" / f"{name}.log"


def _remove_cgroups(name: str) -> None:
    """Remove the empty control groups that a host's containers leave behind."""
    for root in (Path("/sys/fs/cgroup") / name, *Path("/sys/fs/cgroup").glob(f"*/{name}")):
        for folder, _, _ in os.walk(root, topdown=False):
            try:
                Path(folder).rmdir()  # cgroupfs removes empty folders only, and one by one
            except OSError:
                continue
