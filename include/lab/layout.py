"""Where a site is: its number, folders, addresses and ports, decided before anything is started."""

from __future__ import annotations

import fcntl
import json
import os
import re
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab import site as sites
from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Addresses and namespaces are the machine's, whatever folder a site's state is in.
_MACHINE = Path("/var/lib/edgeloop")
_FIXED = {"demo": 0, "test": 1}
_LAST_INDEX = 49  # from 50 on a registry's port would meet another site's blob port
_BASES = range(1024, 65533)
_SOCKET_PATH_MAX = 100
_LONGEST_SOCKET = "hosts/R80711/docker.sock"
MARKER = ".edgeloop-lab"
VM, BUILDER = "vm", "builder"
HOST_NUMBERS = {BUILDER: 2, VM: 10, "R80711": 101, "R80721": 102, "R80736": 103}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """TCP ports of a site in the root namespace."""

    smb: int
    blob: int
    registry: int
    airflow: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A site's place on this machine."""

    name: str
    index: int
    state: Path
    cache: Path
    ports: Ports

    @property
    def gateway(self) -> str:
        """The root namespace's address on the site's network."""
        return f"10.77.{self.index}.1"

    @property
    def registry(self) -> str:
        """The registry as engines name it."""
        return f"{self.gateway}:{self.ports.registry}"

    def address(self, host: str) -> str:
        """The address of the host called `host`."""
        return f"10.77.{self.index}.{HOST_NUMBERS[host]}"

    def netns(self, host: str) -> str:
        """The network namespace of the host called `host`; "hub" holds the bridge."""
        return sites.netns_name(self.name, host)

    def home(self, host: str) -> Path:
        """The folder with all a host's files."""
        return self.state / "hosts" / host

    def docker_socket(self, host: str) -> Path:
        """The socket of a host's engine, as root and the host's own user reach it."""
        return self.home(host) / "docker.sock"


def ports_for(index: int, environment: Mapping[str, str]) -> Ports:
    """The ports of site number `index`: 100 apart, or four from EDGELOOP_LAB_PORT_BASE on."""
    base = environment.get("EDGELOOP_LAB_PORT_BASE")
    if base is None:
        step = 100 * index
        return Ports(smb=4445 + step, blob=10000 + step, registry=5000 + step, airflow=8080 + step)
    if not base.isdigit() or int(base) not in _BASES:
        what = f"EDGELOOP_LAB_PORT_BASE is {base!r}, not a port number"
        raise LabError(what, left="nothing was started", next="give a number from 1024 to 65532; four ports are used")
    first = int(base)
    return Ports(smb=first, blob=first + 1, registry=first + 2, airflow=first + 3)


def resolve(name: str, state: Path | None = None) -> Layout:
    """The layout of the site called `name`, which gets the next free number when it is new."""
    if not re.fullmatch(r"[a-z][a-z0-9]{0,11}", name):
        what = f"{name!r} is no name for a site"
        raise LabError(what, next="use up to twelve small letters and digits, a letter first")
    folder = (state or sites.state_of(name)).absolute()
    if len(str(folder / _LONGEST_SOCKET)) > _SOCKET_PATH_MAX or re.search(r"\s|,|:", str(folder)):
        what = f"the state folder {folder} cannot hold sockets and mounts: too long, or with blanks, commas or colons"
        raise LabError(what, next="set EDGELOOP_LAB_STATE to a short, plain path")
    index = _index(name)
    ports = ports_for(index, os.environ)
    if "EDGELOOP_LAB_PORT_BASE" not in os.environ:
        ports = remembered_ports(folder) or ports
    return Layout(name=name, index=index, state=folder, cache=sites.cache_root().absolute(), ports=ports)


def remembered_ports(state: Path) -> Ports | None:
    """The ports the site last started with, None when it never did."""
    try:
        return Ports(**json.loads((state / MARKER).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def remember(layout: Layout) -> None:
    """Mark the state folder as the lab's own and keep the ports for those who come without the environment."""
    layout.state.mkdir(parents=True, exist_ok=True)
    part = layout.state / f"{MARKER}.part"
    part.write_text(json.dumps(asdict(layout.ports)))
    part.replace(layout.state / MARKER)


def forget(layout: Layout) -> None:
    """Give the site's number back."""
    with _numbers() as numbers:
        numbers.pop(layout.name, None)


@contextmanager
def machine_lock() -> Iterator[None]:
    """Only one site at a time changes what all share: users, numbers, the cache."""
    _MACHINE.mkdir(parents=True, exist_ok=True)
    with (_MACHINE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def site_lock(name: str, busy: Callable[[], None]) -> Iterator[None]:
    """One `up` or `down` of a site at a time; `busy` is called when another one has to end first."""
    _MACHINE.mkdir(parents=True, exist_ok=True)
    with (_MACHINE / f".lock-{name}").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _index(name: str) -> int:
    if name in _FIXED:
        return _FIXED[name]
    with _numbers() as numbers:
        if name not in numbers:
            taken = set(numbers.values()) | set(_FIXED.values())
            free = [index for index in range(_LAST_INDEX + 1) if index not in taken]
            if not free:
                what = "this machine has as many sites as there are addresses for"
                raise LabError(what, next="python -m lab clean --site <one that is not needed>")
            numbers[name] = free[0]
        return numbers[name]


@contextmanager
def _numbers() -> Iterator[dict[str, int]]:
    path = _MACHINE / "sites.json"
    with machine_lock():
        numbers: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        before = dict(numbers)
        yield numbers
        if numbers != before:
            part = path.with_suffix(".part")
            part.write_text(json.dumps(numbers))
            part.replace(path)
