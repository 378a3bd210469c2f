"""Breaking a site on purpose: parts stopped, crashed, cut off or without power, and made whole again.

A part is named as `python -m lab status` names it: "network", "share", "blob", "registry", "postgres", "builder",
"vm" or a device. Every call returns when the fault, or the repair, has taken effect.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lab import describe, lifecycle, network, parts, proc, processes, tools
from lab.errors import LabError
from lab.hosts import Machine
from lab.layout import HOST_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.site import Site

_DEADLINE_S = 15.0


def stop(site: Site, part: str) -> None:
    """End `part` in order. "carrier" and others started by lab.processes.spawn may be named too."""
    found = parts.every(describe.layout_of(site)).get(part)
    if found is not None:
        found.stop()
    else:
        processes.stop(site, part)


def start(site: Site, part: str) -> None:
    """Start `part` again and return when it is healthy; does nothing to a part that is."""
    if part == lifecycle.CARRIER:
        lifecycle.start_carrier(site)
        return
    found = _part(site, part)
    if not found.healthy():
        found.start()


@contextmanager
def stopped(site: Site, part: str) -> Iterator[None]:
    """`part` is down in the block and healthy again after it."""
    stop(site, part)
    try:
        yield
    finally:
        start(site, part)


def crash(site: Site, part: str) -> None:
    """SIGKILL a server, as a crash would, or all of a host at once; nothing is cleared after it."""
    if part in HOST_NUMBERS:
        _machine(site, part).power_off()
    else:
        processes.kill(site, part)


def crash_engine(site: Site, host: str) -> None:
    """SIGKILL a host's Docker engine and its containerd; containers run on until the engine is started again."""
    machine = _machine(site, host)
    pids = machine.engine_pids()
    proc.signal_all(pids, signal.SIGKILL)
    if not processes.wait(lambda: not machine.engine_pids(), _DEADLINE_S):
        what = f"the engine of {host} survives SIGKILL"
        raise LabError(what, next=f"ps -o pid,stat,args -p {','.join(map(str, pids))}")


def power_off(site: Site, host: str) -> None:
    """Cut a host's power: engine, shims and containers end without notice; its disk stays."""
    _machine(site, host).power_off()


def power_on(site: Site, host: str) -> None:
    """Boot a host; containers with a restart policy are the engine's to bring back."""
    _machine(site, host).start()


@contextmanager
def powered_off(site: Site, host: str) -> Iterator[None]:
    """`host` is without power in the block and booted after it."""
    power_off(site, host)
    try:
        yield
    finally:
        power_on(site, host)


def unplug(site: Site, host: str) -> None:
    """Pull a host's network cable: connections hang, as they do when a site goes dark, they are not refused."""
    tools.run(network.cable_command(describe.layout_of(site), _known(host), "down"))


def plug(site: Site, host: str) -> None:
    """Plug a host's network cable in."""
    tools.run(network.cable_command(describe.layout_of(site), _known(host), "up"))


@contextmanager
def cut(site: Site, host: str) -> Iterator[None]:
    """`host` is unplugged in the block and plugged after it."""
    unplug(site, host)
    try:
        yield
    finally:
        plug(site, host)


@contextmanager
def without_sshd(site: Site) -> Iterator[None]:
    """The VM's sshd is gone in the block, with every session on it; what they started is nobody's child and lives."""
    processes.stop(site, "vm-sshd", deadline=0.0)
    try:
        yield
    finally:
        start(site, "vm")


@contextmanager
def without_engine(site: Site, host: str, *, keep_containers: bool) -> Iterator[None]:
    """A host's engine is stopped in order in the block; its containers live on if it keeps them, else they end too."""
    machine = _machine(site, host)
    machine.keep_containers(keep=keep_containers)
    machine.stop_engine()
    try:
        yield
    finally:
        machine.start()


@contextmanager
def without_share(site: Site, *, mount_point: bool = False) -> Iterator[None]:
    """The share's folder is gone in the block, or what a mount leaves when it goes: its empty ``mount_point``."""
    root = site.share.path
    away = root.with_name(f"{root.name}.away")
    root.rename(away)
    if mount_point:
        root.mkdir()
    try:
        yield
    finally:
        if mount_point:
            root.rmdir()
        away.rename(root)


def _part(site: Site, name: str) -> parts.Part:
    return parts.chosen(parts.every(describe.layout_of(site)), [name])[name]


def _machine(site: Site, host: str) -> Machine:
    return Machine(describe.layout_of(site), _known(host))


def _known(host: str) -> str:
    if host not in HOST_NUMBERS:
        what = f"site has no host {host}"
        raise LabError(what, left="nothing was broken", next=f"choose from {', '.join(HOST_NUMBERS)}")
    return host
