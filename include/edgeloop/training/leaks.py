"""The leak check of a training: the rows come from blob storage to the worker's disk, are compared, and go again."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgeloop.errors import ConflictError
from edgeloop.residency import permits, private
from edgeloop.training.dataset import file_names
from edgeloop.transfer import Terms, download

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgeloop.pipeline import Pipeline
    from edgeloop.records import Dataset
    from edgeloop.transfer.target import Target

SPARE_BYTES = 64 << 20


class Check(Protocol):
    """Sees outputs before they are stored."""

    def __call__(self, outputs: Mapping[str, Path], names: Sequence[str]) -> None:
        """Raise ``LeakError`` if the files, by name, or the names of everything there hold what they may not."""
        ...


def leak_check(spec: Pipeline, data: Dataset, blobs: Target, say: Callable[[str], None]) -> Check:
    """The check that a pipeline's trainings undergo: rows for one that is ``on_premises``, identifiers for all."""
    columns, rows = spec.columns.identifiers, private(spec) and not permits(spec, "training_rows")

    def check(outputs: Mapping[str, Path], names: Sequence[str]) -> None:
        if not rows and not columns:
            return
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="edgeloop-rows-") as folder:
            files = _fetch(spec, data, blobs, Path(folder))
            _compare(outputs, names, files, columns, rows=rows, say=say)
        say(f"The leak check took {time.monotonic() - began:.1f} s")

    return check


def _fetch(spec: Pipeline, data: Dataset, blobs: Target, folder: Path) -> tuple[Path, ...]:
    need, free = sum(one.size for one in data.files) + SPARE_BYTES, shutil.disk_usage(folder).free
    if free < need:
        raise ConflictError(
            f"The leak check needs {need} bytes for the training data in {folder.parent} of this worker, {free} are "
            "free.",
            left="the outputs on the VM; nothing was stored",
            next="Make room there, or let TMPDIR of the workers name a larger disk; then clear the task.",
        )
    terms = Terms.of(spec.transfer, spec.name)
    files = tuple(folder / name for name in file_names(data))
    for path, ref in zip(files, data.files, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        download(blobs, ref, path, terms=terms)
    return files


def _compare(
    outputs: Mapping[str, Path],
    names: Sequence[str],
    files: tuple[Path, ...],
    columns: tuple[str, ...],
    *,
    rows: bool,
    say: Callable[[str], None],
) -> None:
    from edgeloop.leak.check import check
    from edgeloop.leak.rows import Rows

    done = check(outputs, Rows(files=files), names=names, columns=columns, alone=not rows)
    for column, count in done.skipped:
        say(f"{count} values of identifier column {column} are too short to be searched for")
    say(f"No training data found in {done.files} outputs: {done.rows} rows, {done.marks} numbers in both")
