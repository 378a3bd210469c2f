"""A site up and down: what is healthy is found, what a killed run left is cleared, the rest starts at once."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lab import describe, install, keys, network, ports, processes, users
from lab import layout as layouts
from lab import parts as all_parts
from lab import site as sites
from lab.errors import LabError
from lab.layout import BUILDER, VM
from lab.progress import Silent, told

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from lab.layout import Layout
    from lab.parts import Part
    from lab.progress import Progress

_THREADS = 8
CARRIER = "carrier"
_WOULD_DO = [
    "make network namespaces, a bridge and veth pairs for the site",
    "add the users trainer, edge and historian",
    "start smbd, Azurite, docker-registry, PostgreSQL, and an sshd and a dockerd for each host",
]


def up(
    name: str,
    *,
    state: Path | None = None,
    parts: Collection[str] | None = None,
    progress: Progress | None = None,
) -> sites.Site:
    """Start the site, or find it healthy; see lab.up."""
    tell = progress or Silent()
    install.require_root("start a site", _WOULD_DO)
    layout = layouts.resolve(name, state)
    with layouts.site_lock(name, lambda: tell.begin("turn")):
        chosen = all_parts.chosen(all_parts.every(layout), parts)
        found = _healthy(chosen)
        if len(found) < len(chosen):
            _check(layout, found)
        for part in found:
            tell.end(part, "found", 0.0)
        layouts.remember(layout)
        secrets = keys.ensure(layout)
        users.ensure()
        _stop_strays(layout)
        _start({part: chosen[part] for part in chosen if part not in found}, tell)
        images = _images(layout, tell) if parts is None else _known_images(layout)
        site = describe.describe(layout, secrets, images)
        sites.save(site)
        if parts is None:
            _carrier(site, tell)
        return site


def down(name: str, *, state: Path | None = None, progress: Progress | None = None) -> None:
    """Stop everything the site started; see lab.down."""
    tell = progress or Silent()
    install.require_root("stop a site", ["stop its processes and remove its network namespaces"])
    layout = layouts.resolve(name, state)
    with layouts.site_lock(name, lambda: tell.begin("turn")):
        _down(layout, tell)
        _forget_unless_made(layout)


def clean(name: str, *, state: Path | None = None, progress: Progress | None = None) -> None:
    """Stop the site and remove its state; see lab.clean."""
    tell = progress or Silent()
    install.require_root("remove a site", ["stop its processes and remove its state folder"])
    layout = layouts.resolve(name, state)
    with layouts.site_lock(name, lambda: tell.begin("turn")):
        if layout.state.exists() and not (layout.state / layouts.MARKER).exists() and any(layout.state.iterdir()):
            what = f"{layout.state} was not made by the lab"
            raise LabError(what, left="nothing was removed", next="look into it and remove it by hand")
        _down(layout, tell)
        with told(tell, "state", "removed"):
            if layout.state.exists():
                shutil.rmtree(layout.state)
            layouts.forget(layout)


def _forget_unless_made(layout: Layout) -> None:
    """Give back the number of a site that never was: a mistyped name must not use up a network."""
    if not (layout.state / layouts.MARKER).exists():
        layouts.forget(layout)


def _down(layout: Layout, tell: Progress) -> None:
    (layout.state / sites.FILE).unlink(missing_ok=True)
    parts = all_parts.every(layout)
    known = {record.name for record in processes.every(layout)} | processes.strays(layout)
    extras: dict[str, Callable[[], bool]] = {
        name: partial(processes.stop, layout, name) for name in sorted(known - all_parts.records(parts))
    }
    # What others started uses the parts, and must end before them; what all stand on ends last.
    upper = {name: part.stop for name, part in parts.items() if part.needs}
    lower = {name: part.stop for name, part in parts.items() if not part.needs}
    errors: list[LabError] = []
    floors: tuple[dict[str, Callable[[], bool]], ...] = (extras, upper, lower)
    with ThreadPoolExecutor(_THREADS) as pool:
        for floor in floors:
            results = pool.map(lambda item: _stop(item[0], item[1], tell), floor.items())
            errors += [error for error in results if error is not None]
    _stop_strays(layout)
    if errors:
        raise errors[0]


def _stop(name: str, stop: Callable[[], bool], tell: Progress) -> LabError | None:
    """Stop one; an error is returned, for one that does not stop must not keep the rest running."""
    began = time.monotonic()
    tell.begin(name)
    try:
        how, error = ("stopped" if stop() else "was down"), None
    except LabError as raised:
        how, error = "failed", raised
    tell.end(name, how, time.monotonic() - began)
    return error


def _healthy(parts: dict[str, Part]) -> set[str]:
    if "network" in parts and not parts["network"].healthy():
        # Without its network nothing else is; what runs all the same is asked again in `start`.
        return {name for name, part in parts.items() if not part.needs and name != "network" and part.healthy()}
    with ThreadPoolExecutor(_THREADS) as pool:
        answers = list(pool.map(lambda part: part.healthy(), parts.values()))
    return {name for name, answer in zip(parts, answers, strict=True) if answer}


def _check(layout: Layout, found: set[str]) -> None:
    """All that can be known to go wrong, before anything is started."""
    install.check()
    before = layouts.remembered_ports(layout.state)
    if before not in (None, layout.ports) and any(record.running for record in processes.every(layout)):
        what = f"site {layout.name} is up on other ports: {before}"
        raise LabError(what, left="it runs on", next=f"python -m lab down --site {layout.name}, then `up` again")
    network.check_address(layout)
    ports.check(layout, found)


def _stop_strays(layout: Layout) -> None:
    for name in processes.strays(layout):
        processes.stop(layout, name)


def _start(parts: dict[str, Part], tell: Progress) -> None:
    """Start `parts`, each as soon as what it stands on is up; raises the first error after the others ended."""
    waiting = dict(parts)
    running: dict[Future[None], str] = {}
    errors: list[BaseException] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        while waiting or running:
            blocked = set(waiting) | set(running.values())
            ready = [name for name, part in waiting.items() if not blocked.intersection(part.needs)]
            for name in ready if not errors else ():
                running[pool.submit(_start_one, waiting.pop(name), tell)] = name
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                del running[future]
                if (error := future.exception()) is not None:
                    errors.append(error)
    if errors:
        raise errors[0]


def _start_one(part: Part, tell: Progress) -> None:
    # One that only its network kept from answering is well again now.
    if part.healthy():
        tell.end(part.name, "found", 0.0)
        return
    with told(tell, part.name, "started"):
        part.start()


def _images(layout: Layout, tell: Progress) -> sites.Images:
    if importlib.util.find_spec("lab.images") is None:
        return sites.Images()
    from lab import images

    engines = [f"unix://{layout.docker_socket(host)}" for host in (VM, BUILDER)]
    said: list[str] = []
    began = time.monotonic()
    tell.begin("images")
    try:
        made = images.ensure(engines[0], engines[1], layout.cache, report=said.append)
    except BaseException:
        tell.end("images", "failed", time.monotonic() - began)
        raise
    built = any(line.startswith("built") for line in said)
    tell.end("images", "started" if built else "found", time.monotonic() - began)
    return sites.Images(trainer=made.trainer, scorer_base=made.scorer_base)


def _known_images(layout: Layout) -> sites.Images:
    try:
        return sites.load(layout.state).images
    except LabError:
        return sites.Images()


def _carrier(site: sites.Site, tell: Progress) -> None:
    if importlib.util.find_spec("lab.carrier") is None:
        return
    with told(tell, CARRIER, "found" if processes.find(site, CARRIER) else "started"):
        start_carrier(site)


def start_carrier(site: sites.Site) -> None:
    """Start what carries the devices' local shares up to the private account, unless it runs."""
    path = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    environment = {"EDGELOOP_LAB_STATE": str(site.state.parent), "PYTHONPATH": path}
    argv = [sys.executable, "-m", "lab.carrier", "--site", site.state.name]
    processes.spawn(site, CARRIER, argv, env=environment)
