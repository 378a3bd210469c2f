"""One file's rows, judged: what is kept, what is set aside with which reason, what stops the batch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.validation import times
from edgeloop.validation.verdict import Fault, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from edgeloop.validation.table import Table

IS_INSTANT, IS_SITE = "time_is_an_instant", "site_is_known"
IS_FIRST, IS_WHOLE = "site_and_time_are_unique", "line_is_whole"
"""What every row must be whatever the suite says; the names stand in the quarantine beside those of expectations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """Which columns hold time and site, the zone of times without an offset, and the sites there are."""

    time: str
    site: str
    zone: str
    sites: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A file after judgement: ``kept`` rows (time as UTC instants), ``quarantine`` as JSON lines."""

    path: str
    kept: pd.DataFrame
    quarantine: tuple[str, ...]
    verdict: Verdict


def judge_rows(path: str, table: Table, verdict: Verdict, meaning: Meaning, taken: set[tuple[str, int]]) -> Judged:
    """Set rows aside and turn times into instants.

    Args:
        path: The file's path on the share.
        table: Its rows.
        verdict: What the suite made of them.
        meaning: Which columns are which.
        taken: (site, instant in microseconds) pairs of the batch's earlier files; the kept rows' are added to it.
    """
    frame = table.frame.assign(**{meaning.time: times.to_utc(table.frame[meaning.time], meaning.zone)})
    faults = [*verdict.faults, *_built_in(frame, meaning)]
    kept = frame.drop(index=sorted({one.row for one in faults}))
    # Only among rows that are kept: a first row that is quarantined must not take its good double with it.
    doubles = [
        Fault(row=row, expectation=IS_FIRST, column=f"{meaning.site}, {meaning.time}")
        for row, pair in zip(kept.index, pairs(kept[meaning.site], kept[meaning.time]), strict=True)
        if pair in taken or taken.add(pair)  # type: ignore[func-returns-value]
    ]
    kept = kept.drop(index=[one.row for one in doubles])
    return Judged(path=path, kept=kept, quarantine=tuple(_lines(table, [*faults, *doubles])), verdict=verdict)


def _built_in(frame: pd.DataFrame, meaning: Meaning) -> list[Fault]:
    no_instant = frame.index[frame[meaning.time].isna()]
    no_site = frame.index[~frame[meaning.site].astype("string").isin(meaning.sites)]
    return [Fault(row=int(row), expectation=IS_INSTANT, column=meaning.time) for row in no_instant] + [
        Fault(row=int(row), expectation=IS_SITE, column=meaning.site) for row in no_site
    ]


def pairs(sites: pd.Series, times_: pd.Series) -> Iterable[tuple[str, int]]:
    """Site and instant, in the unit of the series, of every row."""
    return zip(sites.astype(str), times_.astype("int64"), strict=True)


def _lines(table: Table, faults: Iterable[Fault]) -> list[str]:
    by_row: dict[int, list[Fault]] = {}
    for one in faults:
        by_row.setdefault(one.row, []).append(one)
    entries = [(table.lines[row], reasons) for row, reasons in by_row.items()]
    entries += [(line, [Fault(row=-1, expectation=IS_WHOLE, column="")]) for line in table.ragged]
    lines = []
    for line, (first, *more) in sorted(entries, key=lambda one: one[0].number):
        entry = {"row": line.number, "expectation": first.expectation, "column": first.column}
        if more:
            entry["also"] = [f"{one.expectation}({one.column})" for one in more]
        lines.append(json.dumps({**entry, "text": line.text}, ensure_ascii=False))
    return lines
