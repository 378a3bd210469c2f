"""The parts of a site, what each stands on, and the order that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lab.blob import BlobServer
from lab.errors import LabError
from lab.hosts import Machine
from lab.layout import HOST_NUMBERS
from lab.network import Network
from lab.postgres import PostgresServer
from lab.registry import RegistryServer
from lab.share import ShareServer

if TYPE_CHECKING:
    from collections.abc import Collection

    from lab.layout import Layout


class Part(Protocol):
    """A server, host or network of the site; every method may be called at any time and twice."""

    name: str
    needs: tuple[str, ...]

    def healthy(self) -> bool:
        """Whether it answers now."""

    def start(self) -> None:
        """Clear what a crash left of it, start it, and return when it is healthy; raises LabError."""

    def stop(self) -> bool:
        """End it; returns whether it ran."""


def every(layout: Layout) -> dict[str, Part]:
    """All parts by name, those that take longest to start first."""
    machines = [Machine(layout, host) for host in HOST_NUMBERS]
    slow: list[Part] = [BlobServer(layout), PostgresServer(layout), *machines]
    return {part.name: part for part in (Network(layout), *slow, RegistryServer(layout), ShareServer(layout))}


def records(parts: dict[str, Part]) -> set[str]:
    """Names under which the processes of `parts` are recorded; any other was started by somebody else."""
    return set(parts) | {f"{host}-{service}" for host in HOST_NUMBERS for service in ("docker", "sshd")}


def chosen(parts: dict[str, Part], names: Collection[str] | None) -> dict[str, Part]:
    """The parts called `names` and all they stand on; every part when None. Raises LabError for an unknown name."""
    if names is None:
        return parts
    unknown = sorted(set(names) - set(parts))
    if unknown:
        what = f"the lab has no part {', '.join(unknown)}"
        raise LabError(what, left="nothing was started", next=f"choose from {', '.join(parts)}")
    wanted: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        wanted.add(name)
        todo += [need for need in parts[name].needs if need not in wanted]
    return {name: part for name, part in parts.items() if name in wanted}
