"""The prediction log on the device's local share: written before the answer leaves."""

from __future__ import annotations

import os
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from .model import Model

ROTATE_BYTES = 4 * 1024 * 1024  # a grown file is carried whole; small files keep that cheap
OPEN_FILES = 8
UNDATED = "undated"


def start_id() -> str:
    """A name of this start that sorts by time and meets no other start's."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def lines(site: str, model: Model, times: Sequence[datetime] | None, y: NDArray[np.float32]) -> dict[str, bytes]:
    """JSON lines of the answered rows by month of event time; y is [n, outputs], a plain number where outputs = 1."""
    card = {"site": site, "event_time": None, "model": model.name, "version": model.version, "sha256": model.sha256}
    parts: dict[str, list[bytes]] = {}
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    for row in range(len(y)):
        month = UNDATED
        if times is not None:
            month = f"{times[row]:%Y-%m}"
            card["event_time"] = times[row].isoformat().replace("+00:00", "Z")
        value = y[row, 0] if y.shape[1] == 1 else y[row]
        parts.setdefault(month, []).append(orjson.dumps(card | {"y": value}, option=options))
    return {month: b"".join(part) for month, part in parts.items()}


@dataclass(slots=True)
class _Open:
    descriptor: int
    size: int = 0


@dataclass(slots=True)
class PredictionLog:
    """Append-only files `<root>/<month>/<start id>-<n>.jsonl`, opened by this process alone.

    `append` returns when the kernel holds the bytes: a killed process loses nothing that it answered. `sync` asks the
    disk for them too; the server calls it once a second, or before each answer when `fsync_seconds` is 0, so that a
    power cut loses at most that much.
    """

    root: Path
    fsync_seconds: float = 1.0
    start: str = field(default_factory=start_id)
    _number: int = 0
    _files: OrderedDict[str, _Open] = field(default_factory=OrderedDict)
    _dirty: set[int] = field(default_factory=set)
    _synced: float = 0.0

    def append(self, parts: dict[str, bytes]) -> None:
        """Write each month's lines.

        Raises:
            OSError: The share does not take them; a torn line is cut off again, so that files hold whole lines.
        """
        for month, content in parts.items():
            self._append(month, content)
        if self._dirty and time.monotonic() - self._synced >= self.fsync_seconds:
            self.sync()

    def sync(self) -> None:
        """Bring everything written to the disk."""
        for descriptor in self._dirty:
            os.fsync(descriptor)
        self._dirty.clear()
        self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close every file."""
        self.sync()
        while self._files:
            os.close(self._files.popitem()[1].descriptor)

    def writable(self) -> bool:
        """Whether the share takes a file now; the server's readiness."""
        probe = self.root / f".{self.start}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"?")
            probe.unlink()
        except OSError:
            return False
        return True

    def _append(self, month: str, content: bytes) -> None:
        file = self._file(month)
        written = 0
        try:
            while written < len(content):
                written += os.write(file.descriptor, content[written:])
        except OSError:
            os.ftruncate(file.descriptor, file.size)
            raise
        file.size += written
        self._dirty.add(file.descriptor)

    def _file(self, month: str) -> _Open:
        file = self._files.get(month)
        if file is not None and file.size >= ROTATE_BYTES:
            self._drop(month)
            file = None
        if file is None:
            while len(self._files) >= OPEN_FILES:
                self._drop(next(iter(self._files)))
            folder = self.root / month
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{self.start}-{self._number}.jsonl"
            file = _Open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644))
            self._number += 1
            self._files[month] = file
        self._files.move_to_end(month)
        return file

    def _drop(self, month: str) -> None:
        file = self._files.pop(month)
        os.fsync(file.descriptor)
        self._dirty.discard(file.descriptor)
        os.close(file.descriptor)
