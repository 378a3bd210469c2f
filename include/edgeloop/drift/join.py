"""What the devices predicted, joined with what the labels say, by site and event time."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeloop.drift.labels import bounds, instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from edgeloop.pipeline import Columns

SHA256_DIGITS = 64
MAX_LINE_BYTES = 1024 * 1024
"""A longer line is no prediction but a broken file; it is skipped, not kept in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One row of a device's log; ``time`` in microseconds since 1970 UTC, ``y`` NaN where the model gave no number."""

    sha256: str
    site: str
    time: int
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Predictions of one model at one site that found their label; both float64 [n], in the target's unit."""

    sha256: str
    site: str
    predicted: NDArray[np.float64]
    label: NDArray[np.float64]


@dataclass(slots=True)
class Predictions:
    """The last prediction for each model, site and event time of one interval, and what was passed over."""

    rows: dict[tuple[str, str], dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    lines: int = 0
    malformed: int = 0
    repeated: int = 0
    outside: int = 0

    def add(self, lines: Iterable[bytes], key: str) -> None:
        """Take the lines of one log, earlier logs first: a row that is answered again replaces the first answer."""
        start, end = microseconds(key)
        for line in lines:
            self.lines += 1
            row = parse(line)
            if row is None:
                self.malformed += 1
            elif not start <= row.time < end:
                self.outside += 1
            else:
                known = self.rows[row.sha256, row.site]
                self.repeated += row.time in known
                known[row.time] = row.y


@dataclass(slots=True)
class Labels:
    """Labels of one interval by site and event time; ``ambiguous`` are instants with two different values, left out.

    A historian that writes the skipped hour of a clock change twice gives such instants; neither value is the true one.
    """

    rows: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    ambiguous: set[tuple[str, int]] = field(default_factory=set)

    def add(self, table: pa.Table, columns: Columns, domain: str, key: str) -> None:
        """Take the rows of one certified file that lie in the interval and in the model's domain and have a target."""
        start, end = microseconds(key)
        frame = table.to_pandas()
        if domain:
            frame = frame.query(domain)
        frame = frame[frame[columns.target].notna()]
        times = frame[columns.time].astype("datetime64[us, UTC]").astype("int64")
        inside = (times >= start) & (times < end)
        for site, time, value in zip(
            frame[columns.site][inside], times[inside], frame[columns.target][inside], strict=True
        ):
            known = self.rows[str(site)]
            if known.setdefault(int(time), float(value)) != float(value):
                self.ambiguous.add((str(site), int(time)))


def join(predictions: Predictions, labels: Labels) -> list[Matched]:
    """Every prediction that has exactly one label, by model and site; in order of digest, site and event time."""
    import numpy as np

    found = []
    for (sha256, site), rows in sorted(predictions.rows.items()):
        known = labels.rows.get(site, {})
        times = [time for time in sorted(rows) if time in known and (site, time) not in labels.ambiguous]
        if times:
            found.append(
                Matched(
                    sha256=sha256,
                    site=site,
                    predicted=np.array([rows[time] for time in times], dtype=np.float64),
                    label=np.array([known[time] for time in times], dtype=np.float64),
                )
            )
    return found


def parse(line: bytes) -> Prediction | None:
    """One line of a prediction log, or None if it is none: torn by a power cut, or written by something else."""
    try:
        row: dict[str, Any] = json.loads(line)
        y, sha256, site = row["y"], row["sha256"], row["site"]
        time = instant(row["event_time"])
        # JSON knows integers that are no float: as an error it would end the judging of the whole interval.
        number = math.nan if y is None else float(y) if type(y) in (int, float) else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    if number is None or not isinstance(site, str):
        return None
    if not isinstance(sha256, str) or len(sha256) != SHA256_DIGITS:
        return None
    return Prediction(sha256=sha256, site=site, time=round(time.timestamp() * 1_000_000), y=number)


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines of a log that comes in chunks, without line ends; empty lines are left out, a last half line is given."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())
        if len(rest) > MAX_LINE_BYTES:
            rest = rest[:MAX_LINE_BYTES]
    if rest.strip():
        yield rest


def in_order(names: Iterable[str]) -> list[str]:
    """Logs named ``<start of the container>-<n>.jsonl`` in the order they were written: number 10 comes after 2."""

    def order(name: str) -> tuple[str, int, str]:
        start, _, number = name.rsplit("/", 1)[-1].removesuffix(".jsonl").rpartition("-")
        return (start, int(number), name) if number.isdigit() else (name, 0, name)

    return sorted(names, key=order)


def microseconds(key: str) -> tuple[int, int]:
    """Bounds of an interval in microseconds since 1970 UTC, end exclusive."""
    start, end = bounds(key)
    return round(start.timestamp()) * 1_000_000, round(end.timestamp()) * 1_000_000
