"""Whether the site's ports are free, asked before anything is started; a taken one is said with its holder."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab import proc, processes
from lab.errors import PortTakenError

if TYPE_CHECKING:
    from collections.abc import Collection

    from lab.layout import Layout

_LISTEN = "0A"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A port in use; `pid` 0 when its holder cannot be seen from here."""

    port: int
    purpose: str
    pid: int = 0
    command: str = ""


def wanted(layout: Layout, running: Collection[str]) -> dict[int, str]:
    """Ports that must be free, with their purpose, when the parts in `running` are up already."""
    ports = layout.ports
    all_of_them = {ports.smb: "share", ports.blob: "blob", ports.registry: "registry", ports.airflow: "airflow"}
    return {port: purpose for port, purpose in all_of_them.items() if purpose not in running}


def check(layout: Layout, running: Collection[str]) -> None:
    """Raise PortTakenError when a port is held by anything that is not this site's own process."""
    taken = []
    for port, purpose in wanted(layout, running).items():
        if _free(port):
            continue
        pid = holder(port)
        if not proc.environ(pid).get(processes.MARK, "").startswith(f"{layout.state}:"):
            taken.append(Taken(port=port, purpose=purpose, pid=pid, command=proc.command(pid)))
    if taken:
        raise PortTakenError(describe(layout.name, taken), left="nothing was started", next=_ADVICE)


_ADVICE = (
    "stop what holds it, or choose four ports of your own: EDGELOOP_LAB_PORT_BASE=21000 gives 21000 (share), "
    "21001 (blob), 21002 (registry) and 21003 (Airflow)"
)


def describe(site: str, taken: list[Taken]) -> str:
    """One sentence for all ports that are taken."""
    parts = []
    for entry in taken:
        unseen = f"find out by whom: ss -ltnp 'sport = :{entry.port}'"
        who = f"pid {entry.pid}: {entry.command[:120]}" if entry.pid else unseen
        parts.append(f"port {entry.port}, which site {site} needs for {entry.purpose}, is taken ({who})")
    return "; ".join(parts)


def listening_inodes(table: str, port: int) -> set[str]:
    """Socket inodes that listen on `port`, from the text of /proc/net/tcp or tcp6."""
    rows = (line.split() for line in table.splitlines()[1:])
    return {row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port}


def holder(port: int) -> int:
    """The pid that listens on `port` in this network namespace, 0 when it cannot be seen."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    inodes = set().union(*(listening_inodes(table.read_text(), port) for table in tables if table.exists()))
    wanted_links = {f"socket:[{inode}]" for inode in inodes}
    for found in proc.every():
        if wanted_links.intersection(proc.open_files(found.pid)):
            return found.pid
    return 0


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True
