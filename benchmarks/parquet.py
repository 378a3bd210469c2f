"""CSV to Parquet against polars' sink: speed and memory, each run in a process of its own.

Measured is the second reading of a file that has been judged, which is what a conversion costs: it parses every value
and writes row groups whose bytes do not depend on the pieces. The first reading, in a process of its own and not
measured, is the judgement's (``benchmarks/validation.py`` has its cost): it leaves the types of the columns, whether
any line is torn or quoted, and of every row whether it is kept, its event time in UTC and its site. polars reads once,
infers types from the first hundred rows, keeps times as texts and checks no row. Both sides compress with zstd.
"""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.child import cost, write_rows
from benchmarks.harness import Figure, Pair, times_peer

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 1_000_000
RUNS = 5
SPEED_BAR = 1 / 0.8


def judged(path: str, kept: str) -> Callable[[], object]:
    """Read a file as judging does, and keep what its second reading needs."""
    from edgeloop.validation.rows import Meaning, Sites, Taken, select
    from edgeloop.validation.table import CsvFile, Shape
    from edgeloop.validation.times import Clock

    def run() -> None:
        meaning = Meaning(time="at", site="site", zone="UTC", sites=("a", "b", "c", "d"))
        file = CsvFile(Path(path), Shape(columns=("at", "site"), exact=False))
        clock, sites = Clock("UTC"), Sites(meaning.sites)
        for chunk in file.chunks(200_000):
            clock.add(chunk.table["at"])
            sites.add(chunk.table["site"])
        chosen = select((), clock.instants(), sites.numbers(), meaning, Taken())
        Path(kept).write_bytes(pickle.dumps((file, meaning, chosen)))

    return run


def ours(kept: str, target: str) -> Callable[[], object]:
    """Write a judged file as Parquet."""
    import pandas  # noqa: F401, ICN001 - Arrow imports it with the first table
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401

    from edgeloop.validation.judge import write

    file, meaning, chosen = pickle.loads(Path(kept).read_bytes())
    return lambda: write(file, chosen, meaning, Path(target))


def polars_sink(path: str, target: str) -> Callable[[], object]:
    """What polars does by itself, with the compression that ours has."""
    import polars as pl

    return lambda: pl.scan_csv(path).sink_parquet(target, compression="zstd", compression_level=1)


def measure(say: Callable[[str], None]) -> list[Figure]:
    """Two figures; raises ``CalledProcessError`` if a run fails."""
    times, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "rows.csv")
        write_rows(Path(path), ROWS)
        cost(__name__, "judged", path, f"{folder}/judged")
        for number in range(RUNS):
            mine = cost(__name__, "ours", f"{folder}/judged", f"{folder}/ours.parquet")
            theirs = cost(__name__, "polars_sink", path, f"{folder}/polars.parquet")
            times.append(Pair(ours=mine.seconds, peer=theirs.seconds))
            peaks.append(Pair(ours=mine.peak_mib, peer=theirs.peak_mib))
            say(
                f"{number + 1} of {RUNS}: {mine.seconds:.2f} s ({mine.cpu:.2f} CPU) and {mine.peak_mib:.0f} MiB, "
                f"polars {theirs.seconds:.2f} s ({theirs.cpu:.2f} CPU) and {theirs.peak_mib:.0f} MiB"
            )
    return [
        times_peer("parquet: time", times, bar=SPEED_BAR, peer="polars scan_csv().sink_parquet(), 1M x 20"),
        times_peer("parquet: peak", peaks, bar=1.0, peer="polars scan_csv().sink_parquet(), 1M x 20"),
    ]
