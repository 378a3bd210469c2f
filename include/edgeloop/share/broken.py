"""Files and manifests that will not become part of a batch as they lie there, and since when that is known.

reports/broken.json   what the last looks found; a report for on-call, never a reason to claim or to skip anything
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from edgeloop.errors import NotFoundError
from edgeloop.records import canonical_json
from edgeloop.share.source import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.share.source import Broken, Scope

REPORT = "reports/broken.json"
GRACE = timedelta(minutes=15)
"""A delivery that is wrong for this long is nobody's unfinished work any more."""
REMEDY = "let its producer deliver it again, correct or remove the manifest that names it, or exclude it"


class Blobs(Protocol):
    """Where the report lies; :class:`edgeloop.azure.blob.BlobContainer` is one."""

    def get(self, name: str) -> bytes:
        """Read, or raise ``NotFoundError``."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Write, replacing what is there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One file that is wrong; ``since`` is ISO 8601 UTC."""

    path: str
    reason: str
    since: str

    def __str__(self) -> str:
        """For a log."""
        return f"{self.path}: {self.reason} (since {self.since})"

    def lasts(self, now: datetime) -> bool:
        """Whether it has been wrong for longer than a delivery takes."""
        return now - datetime.fromisoformat(self.since) >= GRACE


def noted(before: Iterable[Trouble], found: Iterable[Broken], scope: Scope, now: datetime) -> tuple[Trouble, ...]:
    """What is wrong after one more look: the same trouble keeps its time, what was not looked at stays as it was."""
    since = {(one.path, one.reason): one.since for one in before}
    at = now.isoformat(timespec="seconds")
    seen = [Trouble(path=path, reason=why, since=since.get((path, why), at)) for path, why in set(found)]
    unseen = [one for one in before if not _in(one.path, scope)]
    return tuple(sorted([*seen, *unseen], key=lambda one: (one.path, one.reason)))


def _in(path: str, scope: Scope) -> bool:
    return scope == EVERYTHING or any(path.startswith(f"{folder}/") for folder in scope.folders or ())


def read(blobs: Blobs) -> tuple[Trouble, ...]:
    """The report as it stands; empty if there never was one, or if it was spoilt: the next look writes it anew."""
    try:
        return tuple(Trouble(**one) for one in json.loads(blobs.get(REPORT)))
    except (NotFoundError, ValueError, TypeError):
        return ()


def write(blobs: Blobs, troubles: tuple[Trouble, ...]) -> None:
    """Replace the report."""
    body = [{"path": one.path, "reason": one.reason, "since": one.since} for one in troubles]
    blobs.put(REPORT, canonical_json(body))
