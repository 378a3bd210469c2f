from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from edgeloop.drift.join import Labels, Predictions, in_order, join, parse, split_lines
from edgeloop.pipeline import Columns

SHA = "a" * 64
COLUMNS = Columns(time="at", site="turbine", target="power")


def _line(time: str = "2014-11-05T10:00:00Z", y: Any = 100.5, **other: Any) -> bytes:
    row = {"site": "A", "event_time": time, "model": "wind_power", "version": "1", "sha256": SHA, "y": y}
    return json.dumps(row | other).encode()


def _labels(*rows: tuple[str, str, float | None], domain: str = "") -> Labels:
    frame = pd.DataFrame(rows, columns=["turbine", "at", "power"])
    frame["at"] = pd.to_datetime(frame["at"], utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    frame["wind"] = 5.0
    labels = Labels()
    labels.add(pa.Table.from_pandas(frame), COLUMNS, domain, "2014-11")
    return labels


def _predictions(*lines: bytes) -> Predictions:
    predictions = Predictions()
    predictions.add(lines, "2014-11")
    return predictions


def test_predictions_meet_the_label_of_their_site_and_instant() -> None:
    """Other sites, other instants and other months do not match, whatever the notation of the time."""
    predictions = _predictions(
        _line("2014-11-05T11:00:00+01:00", 1.0),
        _line("2014-11-05T10:10:00Z", 2.0),
        _line("2014-11-05T10:20:00Z", 3.0),
        _line("2014-11-05T10:00:00Z", 4.0, site="B"),
    )
    labels = _labels(("A", "2014-11-05T10:00:00Z", 10.0), ("A", "2014-11-05T10:10:00Z", 20.0), ("C", "2014-11-05", 1.0))

    (found,) = join(predictions, labels)

    assert (found.sha256, found.site) == (SHA, "A")
    assert found.predicted.tolist() == [1.0, 2.0]
    assert found.label.tolist() == [10.0, 20.0]


def test_of_repeated_predictions_the_last_wins_for_each_model() -> None:
    """A replayed month replaces its first answers and is counted; another model's answers stay beside them."""
    predictions = _predictions(_line(y=1.0), _line(y=2.0, sha256="b" * 64), _line(y=3.0))

    found = join(predictions, _labels(("A", "2014-11-05T10:00:00Z", 9.0)))

    assert [(one.sha256[0], one.predicted.tolist()) for one in found] == [("a", [3.0]), ("b", [2.0])]
    assert (predictions.lines, predictions.repeated) == (3, 1)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b'{"site": "A", "event_ti',
        b"\x00\x00\x00",
        b"\xff\xfe{}",
        b"[]",
        b"7",
        b"null",
        b'"text"',
        b"{}",
        _line("yesterday"),
        _line(time=None),  # type: ignore[arg-type]
        _line(time=17),  # type: ignore[arg-type]
        _line(y="100.5"),
        _line(y=True),
        _line(y=10**400),
        _line(y=-(10**400)),
        _line(y=[1.0, 2.0]),
        _line(site=None),
        _line(site=["A"]),
        _line(sha256="short"),
        _line(sha256=None),
        b"[" * 100_000,
    ],
)
def test_a_malformed_line_is_counted_and_hurts_no_other(line: bytes) -> None:
    """Torn, foreign and half-typed lines are passed over; those around them count."""
    predictions = _predictions(_line(y=1.0), line, _line("2014-11-05T10:10:00Z", 2.0))

    assert (predictions.lines, predictions.malformed) == (3, 1)
    assert list(predictions.rows[SHA, "A"].values()) == [1.0, 2.0]


def test_a_row_without_a_number_is_a_prediction() -> None:
    """The scorer writes null where the model gave NaN: that is an answer, and a wrong one."""
    row = parse(_line(y=None))
    assert row is not None
    assert math.isnan(row.y)


def test_rows_of_other_intervals_are_passed_over() -> None:
    """A log of a month may hold the first row of the next; it belongs to that one."""
    predictions = _predictions(_line("2014-10-31T23:59:59.999999Z"), _line("2014-12-01T00:00:00Z"), _line())
    assert (predictions.outside, len(predictions.rows[SHA, "A"])) == (2, 1)


def test_an_instant_with_two_labels_is_left_out_and_counted() -> None:
    """The hour that a clock change writes twice has no true value; the same value twice is one."""
    labels = _labels(
        ("A", "2014-11-05T10:00:00Z", 1.0),
        ("A", "2014-11-05T10:00:00Z", 2.0),
        ("A", "2014-11-05T10:10:00Z", 3.0),
        ("A", "2014-11-05T10:10:00Z", 3.0),
    )
    (found,) = join(_predictions(_line(), _line("2014-11-05T10:10:00Z")), labels)

    assert found.label.tolist() == [3.0]
    assert len(labels.ambiguous) == 1


def test_labels_outside_the_domain_or_without_a_value_match_nothing() -> None:
    """Rows the model does not answer for are not held against it; a missing target is no label."""
    rows = (("A", "2014-11-05T10:00:00Z", 1.0), ("A", "2014-11-05T10:10:00Z", None))
    predictions = _predictions(_line(), _line("2014-11-05T10:10:00Z"))

    assert len(join(predictions, _labels(*rows, domain="wind > 2.5"))[0].label) == 1
    assert join(predictions, _labels(*rows, domain="wind > 7")) == []


def test_lines_come_whole_out_of_any_chunks() -> None:
    """Where the download cuts is no matter; empty lines are left out, a last line needs no line end."""
    text = b'{"a":1}\n\n{"b":2}\r\n{"c":3}'
    for size in range(1, len(text) + 1):
        chunks = [text[at : at + size] for at in range(0, len(text), size)]
        assert [json.loads(one) for one in split_lines(chunks)] == [{"a": 1}, {"b": 2}, {"c": 3}]


def test_a_file_without_line_ends_does_not_fill_the_memory() -> None:
    """A gigabyte of zeros is one line that is cut short."""
    (line,) = split_lines(b"\x00" * 4_000_000 for _ in range(20))
    assert len(line) <= 5_000_000


def test_logs_are_read_in_the_order_they_were_written() -> None:
    """By the container's start, then by number: the tenth file comes after the second."""
    names = [
        "A/predictions/2014-11/20261122T100000Z-ab12cd-10.jsonl",
        "A/predictions/2014-11/20261122T100000Z-ab12cd-2.jsonl",
    ]
    later = "A/predictions/2014-11/20261122T110000Z-000000-0.jsonl"
    odd = "A/predictions/2014-11/copy.jsonl"
    assert in_order([later, odd, *names]) == [names[1], names[0], later, odd]
