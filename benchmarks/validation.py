"""What judging a file in chunks costs against Great Expectations alone: its time on all rows, its memory on one chunk.

Both sides read the same CSV file of 1,000,000 rows and 20 columns and ask the same ten expectations in the same format
(every failing row by its position). Great Expectations alone reads with pandas and judges in one piece; ours also tells
torn lines, finds the types of the whole file, and reads times and sites. Every run is a process of its own; the import
of Great Expectations and the start of the suite, 7 s of CPU for both, are not counted as time, but as memory.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.child import cost, write_rows
from benchmarks.harness import Figure, Pair, times_peer

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 1_000_000
CHUNK_ROWS = 200_000
RUNS = 5
TIME_BAR, MEMORY_BAR = 1.3, 1.15


def suite_text() -> str:
    """Ten expectations of the kinds that the sample pipeline has."""
    numbers = {"type_list": ["float64", "int64"]}
    ten = [
        *(("column_values_to_be_between", {"column": f"x{n}", "min_value": -60, "max_value": 45}) for n in range(4)),
        *(("column_values_to_not_be_null", {"column": f"x{n}", "mostly": 0.9}) for n in range(2)),
        ("column_values_to_be_in_type_list", {"column": "x5", **numbers}),
        ("column_values_to_be_in_set", {"column": "site", "value_set": ["a", "b", "c", "d"]}),
        ("column_max_to_be_between", {"column": "x6", "max_value": 100}),
        ("table_row_count_to_be_between", {"min_value": 1}),
    ]
    expectations = [{"type": f"expect_{name}", "kwargs": kwargs} for name, kwargs in ten]
    return json.dumps({"name": "bench", "expectations": expectations})


def ours(path: str) -> Callable[[], object]:
    """Judge the file in chunks."""
    from edgeloop.validation.expect import Expectations
    from edgeloop.validation.judge import Judge, Limits
    from edgeloop.validation.rows import Meaning
    from edgeloop.validation.suite import load
    from edgeloop.validation.table import CsvFile, Shape

    ready = Expectations(load(suite_text()))
    meaning = Meaning(time="at", site="site", zone="UTC", sites=("a", "b", "c", "d"))
    judge = Judge(lambda: ready, meaning, Limits(chunk_rows=CHUNK_ROWS, memory_bytes=2**30))

    def run() -> None:
        reading = judge.read(CsvFile(Path(path), Shape(columns=("at", "site"), exact=False)))
        assert len(reading.instants) == ROWS

    return run


def alone(path: str, rows: str) -> Callable[[], object]:
    """Great Expectations on the first rows of the file in one piece."""
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    frames = context.data_sources.add_pandas("files").add_dataframe_asset("file")
    whole = frames.add_batch_definition_whole_dataframe("whole")
    suite = gx.ExpectationSuite(name="bench", expectations=json.loads(suite_text())["expectations"])

    def run() -> None:
        frame = pd.read_csv(path, nrows=int(rows))
        form = {"result_format": "COMPLETE", "include_unexpected_rows": False}
        result = whole.get_batch({"dataframe": frame}).validate(suite, result_format=form)
        assert len(result.results) == 10  # noqa: PLR2004

    return run


def measure(say: Callable[[str], None]) -> list[Figure]:
    """Two figures; raises ``CalledProcessError`` if a run fails."""
    times, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "rows.csv")
        write_rows(Path(path), ROWS)
        for number in range(RUNS):
            mine = cost(__name__, "ours", path)
            theirs = cost(__name__, "alone", path, str(ROWS))
            chunk = cost(__name__, "alone", path, str(CHUNK_ROWS))
            times.append(Pair(ours=mine.seconds, peer=theirs.seconds))
            peaks.append(Pair(ours=mine.peak_mib, peer=chunk.peak_mib))
            say(
                f"{number + 1} of {RUNS}: {mine.seconds:.2f} s ({mine.cpu:.2f} CPU) and {mine.peak_mib:.0f} MiB, "
                f"alone {theirs.seconds:.2f} s ({theirs.cpu:.2f} CPU), on one chunk {chunk.peak_mib:.0f} MiB"
            )
    return [
        times_peer("validation: time", times, bar=TIME_BAR, peer="Great Expectations alone, 1M x 20, 10 expectations"),
        times_peer("validation: peak", peaks, bar=MEMORY_BAR, peer=f"Great Expectations alone, {CHUNK_ROWS} rows"),
    ]
