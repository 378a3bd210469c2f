"""CSV to Parquet against polars' sink: speed and memory, each run in a process of its own.

Ours checks every line's field count, reads event times into UTC, finds the order and writes row groups whose bytes
do not depend on the chunks; both sides compress with zstd. The types of the file are known beforehand to ours, as they
are after judging; polars infers them from the first hundred rows, as it always does.
"""

from __future__ import annotations

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


def ours(path: str, target: str) -> Callable[[], object]:
    """Write a judged file as Parquet, its times read again."""
    from edgeloop.validation.judge import write
    from edgeloop.validation.rows import Meaning, Sites, Taken, select
    from edgeloop.validation.table import CsvFile, Shape
    from edgeloop.validation.times import Clock

    meaning = Meaning(time="at", site="site", zone="UTC", sites=("a", "b", "c", "d"))
    file = CsvFile(Path(path), Shape(columns=("at", "site"), exact=False))
    clock, sites = Clock("UTC"), Sites(meaning.sites)
    for chunk in file.chunks(200_000):
        clock.add(chunk.table["at"])
        sites.add(chunk.table["site"])
    chosen = select((), clock.instants(), sites.numbers(), meaning, Taken())

    def run() -> None:
        write(file, chosen, meaning, Path(target))

    return run


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
        for number in range(RUNS):
            mine = cost(__name__, "ours", path, f"{folder}/ours.parquet")
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
