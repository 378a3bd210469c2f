"""`edgeloop lineage`: where something came from and what became of it, each link tried."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from edgeloop import catalog
from edgeloop.errors import ConfigurationError
from edgeloop.lineage import walk
from edgeloop.lineage.find import DEVICE, NAMES, find
from edgeloop.lineage.reader import Reader
from edgeloop.lineage.shared import Shared
from edgeloop.rollout import history

if TYPE_CHECKING:
    import argparse

    from edgeloop.lineage.chain import Lineage
    from edgeloop.share.source import FileSource
    from edgeloop_airflow.hooks import Desk

SOUND, FAULT = 0, 1
PLAIN_WIDTH = 200
"""Of lines that go into a file or another program, where nobody sees them wrapped."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this verb."""
    text = "Print the chain of something both ways, verified link by link; exit code 1 if a link does not hold."
    made = verbs.add_parser("lineage", help="where something came from and what became of it", description=text)
    made.add_argument("what", metavar="THING", help=NAMES)
    made.add_argument("--pipeline", default="", help="may be left out where there is only one")
    made.add_argument("--on", default="", metavar="DAY", help="of a device: what it served on that day, YYYY-MM-DD UTC")
    made.add_argument("--live", action="store_true", help="of a device: also ask the device itself what it runs")
    made.add_argument(
        "--bytes", action="store_true", help="read and hash every data file, and the files on the share, again"
    )
    made.add_argument("--json", action="store_true", help="the chain as JSON")
    made.set_defaults(run=run)


def run(asked: argparse.Namespace) -> int:
    """Print the chain; 1 if a link is broken or could not be tried."""
    lineage = trace(asked.what, pipeline=asked.pipeline, day=asked.on, live=asked.live, whole=asked.bytes)
    if asked.json:
        sys.stdout.write(json.dumps(lineage.to_dict(), indent=1, ensure_ascii=False) + "\n")
    else:
        from rich.console import Console

        from edgeloop.lineage.tree import draw

        Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False).print(draw(lineage))
    return FAULT if lineage.wrong() else SOUND


def trace(what: str, *, pipeline: str = "", day: str = "", live: bool = False, whole: bool = False) -> Lineage:
    """The chain of what somebody calls ``what``; with ``whole`` every byte of its data is read again.

    Raises:
        NotFoundError: Nothing is called so, or nothing was noted of that device and day.
        ConfigurationError: Several things are called so, or the question makes no sense.
    """
    from edgeloop.containers.registry import Registry
    from edgeloop_airflow import hooks

    desk = hooks.desk(pipeline or only_pipeline())
    spec = desk.snapshot.spec
    sites = tuple(one.name for one in spec.sites)
    images = Registry(hooks.registry_endpoint(spec.image.registry))
    shared = _share(desk) if whole else None
    reader = Reader(desk.store, desk.blobs, images, whole, shared, _say)
    subject = find(reader, what, pipeline=spec.name, sites=sites)
    if subject.kind == DEVICE:
        check_day(day)
        return walk.of_device(reader, subject.id, day=day, live=_ask(desk, subject.id) if live else None)
    if day or live:
        raise ConfigurationError(
            f"--on and --live are asked of a device; {what} is a {subject.kind}.",
            next=f"Leave them out, or ask of one of {', '.join(sites)}.",
        )
    return walk.of_record(reader, subject, sites)


def only_pipeline() -> str:
    """The name of the pipeline where there is one; raises ``ConfigurationError`` where there are several or none."""
    names = [one.spec.name for one in catalog.load().pipelines]
    if len(names) != 1:
        raise ConfigurationError(
            f"There are {len(names)} pipelines.", next=f"Add --pipeline and one of: {', '.join(names) or '(none)'}."
        )
    return names[0]


def check_day(day: str) -> None:
    """Raise ``ConfigurationError`` if a day is none."""
    try:
        if day:
            history.day(day)
    except ValueError as error:
        raise ConfigurationError(f"{day!r} is no day.", next="Write it as 2014-01-31.") from error


def _share(desk: Desk) -> Shared:
    """The source of each configuration that a batch was claimed under, opened when a file of it is wanted."""
    from airflow.sdk.exceptions import AirflowNotFoundException

    from edgeloop.share.journal import Journal
    from edgeloop_airflow.sources import source_of

    def source(config: str) -> FileSource:
        try:
            return source_of(desk.at(config).snapshot.spec.source)
        except AirflowNotFoundException as error:
            raise ConfigurationError(f"Airflow has no such connection: {error}") from error

    return Shared(open=source, standing=lambda: Journal(desk.store).read().standing, say=_say)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _ask(desk: Desk, site: str) -> walk.Running:
    """What the device itself says that it runs."""
    from edgeloop.errors import RemoteCommandError, UnreachableError
    from edgeloop.rollout.fleet import SshDockerFleet
    from edgeloop_airflow import hooks

    spec = desk.snapshot.spec
    (conn_id,) = (one.device for one in spec.sites if one.name == site)
    fleet = SshDockerFleet(spec.name, {site: hooks.device(conn_id)}, spec.rollout.scorer_port)
    try:
        reference, digests = fleet.serving(site)
    except (UnreachableError, RemoteCommandError) as error:
        return walk.Running(unreachable=error.what)
    return walk.Running(reference=reference, digests=digests)
