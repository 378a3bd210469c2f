"""One file's way: judged in one reading, then written as Parquet and quarantine in a second, never whole in memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.validation import parquet
from edgeloop.validation.quarantine import Quarantine
from edgeloop.validation.rows import IS_WHOLE, Meaning, Selection, Sites, Taken, select
from edgeloop.validation.table import WiderError
from edgeloop.validation.tally import Tally
from edgeloop.validation.times import Clock, coverage
from edgeloop.validation.verdict import Fault, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from edgeloop.validation.expect import Expectations, Outcome
    from edgeloop.validation.table import CsvFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of a file is in memory at once: rows of a chunk, bytes of the columns that must be seen whole."""

    chunk_rows: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The first rows that broke something: ``rows`` holds their numbers and values."""

    fault: str
    count: int
    rows: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A file after judgement.

    Args:
        path: Where it lies on the share.
        rows: How many it has, torn lines included.
        kept: How many of them passed.
        quarantined: How many did not.
        outcomes: How each expectation of the suite went.
        verdict: What that amounts to.
        samples: The first rows of each reason for quarantine. Private, as the data is.
        data: The Parquet file; None if no row is kept or the batch is stopped by this file.
        quarantine: The JSON lines; None if every row passed.
        span: First and last event time of the kept rows, microseconds since 1970 in UTC; zeros if there are none.
        coverage: Kept rows for each (UTC day, site).
    """

    path: str
    rows: int
    kept: int
    quarantined: int
    outcomes: tuple[Outcome, ...]
    verdict: Verdict
    samples: tuple[Sample, ...]
    data: Path | None
    quarantine: Path | None
    span: tuple[int, int]
    coverage: dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the first reading of a file found: outcomes, and of every row its instant and its site."""

    outcomes: tuple[Outcome, ...]
    instants: npt.NDArray[np.int64]
    sites: npt.NDArray[np.int16]


class Judge:
    """Judges the files of one batch, one after the other.

    Args:
        start: Gives the suite, started; asked for when a file's first rows are there.
        meaning: Which columns are which.
        limits: How much of a file may be in memory.
    """

    def __init__(self, start: Callable[[], Expectations], meaning: Meaning, limits: Limits) -> None:
        self.start, self.meaning, self.limits = start, meaning, limits
        self.taken = Taken()

    def process(self, path: str, file: CsvFile) -> Judged:
        """Judge a file, known as ``path`` on the share, and write what comes of it beside its copy.

        Raises:
            BadFileError: The file cannot be judged.
            ConfigurationError: An expectation needs more of the file at once than the limits allow.
        """
        reading, sites = self.read(file), self.meaning.sites
        verdict = judge(path, reading.outcomes)
        chosen = select(verdict.faults, reading.instants, reading.sites, self.meaning, self.taken)
        data = file.path.with_suffix(".parquet") if len(chosen.instants) and not verdict.breaches else None
        rejected = file.path.with_suffix(".jsonl")
        with rejected.open("w", encoding="utf-8") as stream:
            quarantine = Quarantine(stream, file.header.names, chosen.faults)
            torn = write(file, chosen, self.meaning, data, quarantine)
        return Judged(
            path=path,
            rows=len(chosen.kept) + torn,
            kept=len(chosen.instants),
            quarantined=quarantine.lines,
            outcomes=reading.outcomes,
            verdict=verdict,
            samples=_samples(chosen.faults, quarantine, torn),
            data=data,
            quarantine=rejected if quarantine.lines else None,
            span=(int(chosen.instants.min()), int(chosen.instants.max())) if len(chosen.instants) else (0, 0),
            coverage={
                (day, sites[site]): rows for (day, site), rows in coverage(chosen.instants, chosen.sites).items()
            },
        )

    def read(self, file: CsvFile) -> Reading:
        """Ask the suite about a file, chunk by chunk; raises as :meth:`process` does."""
        while True:
            try:
                return self._reading(file)
            except WiderError:
                continue  # once: the types of the whole file are known now

    def _reading(self, file: CsvFile) -> Reading:
        import pyarrow as pa

        with tempfile.TemporaryDirectory(dir=file.path.parent) as folder:
            tally: Tally | None = None
            clock, sites = Clock(self.meaning.zone), Sites(self.meaning.sites)
            for chunk in file.chunks(self.limits.chunk_rows):
                clock.add(chunk.table[self.meaning.time])
                sites.add(chunk.table[self.meaning.site])
                # A file that is no CSV never gets here, and a batch of such files does not wait for the library.
                tally = tally or Tally(self.start(), Path(folder), self.limits.memory_bytes)
                tally.keep(chunk)
                frame, start = chunk.frame(), chunk.start
                # The table is as large as the frame, and what the judging takes comes on top.
                del chunk
                pa.default_memory_pool().release_unused()
                tally.ask(frame, start)
                del frame
            assert tally is not None  # chunks raises for a file without rows
            return Reading(outcomes=tally.outcomes(), instants=clock.instants(), sites=sites.numbers())


def write(
    file: CsvFile, chosen: Selection, meaning: Meaning, data: Path | None, quarantine: Quarantine | None = None
) -> int:
    """Read a judged file again: kept rows go to ``data``, the others to ``quarantine``; returns the torn lines.

    Needs the file's types, so the file must have been read before.
    """
    import pyarrow as pa

    schema = parquet.schema(file.columns, meaning.time)
    writer = parquet.Writer(data, schema, chosen.order) if data else None
    at = schema.get_field_index(meaning.time)
    start = stored = torn = 0
    everything = bool(chosen.kept.all())
    for piece, table in file.tables(without=meaning.time):
        end = start + len(piece)
        if quarantine is not None:
            quarantine.add(piece, start)
        if writer is not None and len(piece):
            rows = table if everything else table.filter(pa.array(chosen.kept[start:end]))
            stamps = pa.array(chosen.instants[stored : stored + len(rows)]).cast(pa.timestamp("us", tz="UTC"))
            writer.add(rows.add_column(at, schema.field(at), stamps))
            stored += len(rows)
        start, torn = end, torn + len(piece.torn)
    if writer is not None:
        writer.close()
    return torn


def _samples(faults: tuple[Fault, ...], quarantine: Quarantine, torn: int) -> tuple[Sample, ...]:
    found = [
        Sample(fault=str(one), count=len(one.rows), rows=tuple(quarantine.samples.get(str(one), ()))) for one in faults
    ]
    return (*found, *([Sample(fault=IS_WHOLE, count=torn, rows=())] if torn else []))
