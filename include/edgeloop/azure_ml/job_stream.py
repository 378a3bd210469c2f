"""The log of a job of Azure ML while it runs, read on from a place: every line once, in order.

Where the log is says run history, with a SAS that ends some day; then it is asked again. The file only grows, so its
place is a number of bytes.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from edgeloop.azure_ml.job_log import FETCH_SECONDS, SCRIPT_LOGS, details_of, log_name

if TYPE_CHECKING:
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How many bytes of which log were passed on; ``log`` is the run's id and the file's name."""

    log: str = ""
    at: int = 0

    @staticmethod
    def read(text: str) -> Place:
        """What :attr:`text` wrote; the beginning, for anything else."""
        at, _, log = text.strip().partition(" ")
        return Place(log=log, at=int(at)) if at.isdigit() and log else Place()

    @property
    def text(self) -> str:
        """In one line."""
        return f"{self.at} {self.log}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the log, and the place behind it."""

    text: str
    place: Place


class JobLog:
    """Reads a job's log on; raises ``EdgeloopError``, ``OSError`` or ``ValueError`` when it cannot be had just now."""

    def __init__(self, endpoint: WorkspaceEndpoint, name: str, place: Place) -> None:
        self.endpoint, self.name, self.place = endpoint, name, place
        self._address = ""

    def read(self, *, ended: bool) -> tuple[Line, ...]:
        """The next lines, of about a MiB at most; nothing when there is nothing new.

        A line that is still being written is left for later, unless the job has ``ended``.
        """
        if not self._address and not self._find():
            return ()
        try:
            raw = piece(self._address, self.place.at)
        except urllib.error.HTTPError as error:
            if error.code not in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND} or not self._find():
                raise
            raw = piece(self._address, self.place.at)
        found = lines(raw, self.place, rest=ended)
        self.place = found[-1].place if found else self.place
        return found

    def _find(self) -> bool:
        details = details_of(self.endpoint, self.name)
        files = details.get("logFiles") or {}
        name = log_name(files)
        self._address = files[name] if name.startswith(SCRIPT_LOGS) else ""
        log = f"{details.get('runId') or self.name}/{name}"
        if self._address and log != self.place.log:
            self.place = Place(log=log)
        if self._address and not self._address.startswith("https://"):
            raise ValueError("run history gives no https address of the log")
        return bool(self._address)


def piece(address: str, start: int) -> bytes:
    """Bytes of a blob from ``start`` on, at most ``PIECE_BYTES``; none when it is no longer than that."""
    ask = {"Range": f"bytes={start}-{start + PIECE_BYTES - 1}"}
    request = urllib.request.Request(address, headers=ask)  # noqa: S310 - an address of run history, over https
    try:
        with urllib.request.urlopen(request, timeout=FETCH_SECONDS) as reply:  # noqa: S310
            raw: bytes = reply.read(PIECE_BYTES)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return b""
        raise
    return raw


def lines(raw: bytes, place: Place, *, rest: bool) -> tuple[Line, ...]:
    """The whole lines of what follows ``place``; with ``rest`` an unfinished one too, if it is the last of the log."""
    ends = len(raw) if len(raw) < PIECE_BYTES and rest else raw.rfind(b"\n") + 1
    if not ends and len(raw) >= PIECE_BYTES:
        # A line of more than a piece is told in pieces.
        ends = len(raw)
    found, at = [], place.at
    for line in raw[:ends].splitlines(keepends=True):
        at += len(line)
        text = line.decode(errors="replace").rstrip("\r\n")
        found.append(Line(text=text, place=Place(log=place.log, at=at)))
    return tuple(found)
