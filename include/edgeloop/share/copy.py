"""Where the bytes of a source's file go on this worker: a full disk here must not look like a share that is gone."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from edgeloop.errors import EdgeloopError

if TYPE_CHECKING:
    from collections.abc import Iterator


class ScratchError(EdgeloopError):
    """This worker's own disk did not take what was read."""


class Copy:
    """A ``with`` block that takes the bytes of a file; without a path they are dropped.

    Raises ``ScratchError`` where opening, writing or closing fails, and lets every other error pass.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path or Path(os.devnull)

    def __enter__(self) -> Self:
        """Open it."""
        with self._ours():
            self._target = self.path.open("wb")
        return self

    def write(self, data: bytes) -> None:
        """Take more."""
        with self._ours():
            self._target.write(data)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close it, which writes what is left."""
        try:
            with self._ours():
                self._target.close()
        except ScratchError:
            if kind is None:
                raise

    @contextmanager
    def _ours(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = Path(self.path).parent
            raise ScratchError(
                f"A file of the source could not be copied on this worker: {error.strerror or error} ({self.path}).",
                left="everything on the source",
                next=f"Make room below {where} (`df -h {where}`), or set TMPDIR to a larger disk in the worker's "
                "environment and restart it; then clear the task.",
            ) from error
