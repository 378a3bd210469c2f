"""What is a leak and what is chance, decided from hits alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeloop.leak import layer
from edgeloop.leak.chance import ALONE, LOG_ALONE, MANY, WINDOW, log_expected
from edgeloop.leak.marks import Marker
from edgeloop.leak.piece import Text
from edgeloop.leak.search import Hit, judge
from edgeloop.leak.sketch import Sketch


def hit(number: int, log_e: float = -1.0, *, row: int | None = None, place: int | None = None, stream: int = 0) -> Hit:
    """One of many."""
    return Hit(
        where="w", stream=stream, place=number * WINDOW if place is None else place, file="f",
        row=number if row is None else row, columns=("a", "b", "c"), log_e=log_e,
    )  # fmt: skip


def test_one_sure_hit_is_a_leak() -> None:
    """What chance gives less than once in five hundred streams is reported, the surest first, chance hits are not."""
    assert judge([hit(1, -2), hit(2, LOG_ALONE - 1), hit(3, -40)]) == (hit(3, -40), hit(2, LOG_ALONE - 1))


@pytest.mark.parametrize(
    ("hits", "leaks"),
    [
        ([hit(n) for n in range(MANY)], MANY),
        ([hit(n) for n in range(MANY - 1)], 0),
        ([hit(n, row=7) for n in range(MANY)], 0),
        ([hit(n, place=3) for n in range(MANY)], 0),
        ([hit(n, stream=n % 2) for n in range(2 * MANY - 2)], 0),
    ],
)
def test_many_weak_hits_are_a_leak(hits: list[Hit], leaks: int) -> None:
    """Sixteen of different rows at different places of one stream; the same row, the same place or two streams not."""
    assert len(judge(hits)) == leaks


def test_what_chance_gives() -> None:
    """E is rows times marks times ways times shares, and a wider span makes more ways."""
    assert log_expected(1000, 10, 3, [-10.0, -10.0, -10.0]) == pytest.approx(math.log2(1e4 / 2**30))
    assert log_expected(1000, 10, 5, [-10.0, -10.0, -10.0]) == pytest.approx(math.log2(6e4 / 2**30))
    assert math.isclose(2**LOG_ALONE, ALONE)


@pytest.mark.parametrize(
    ("value", "carries"),
    [(0, False), (7, False), (999, False), (1000, False), (1001, True), (0.5, False), (0.25, False), (0.251, True),
     (6.87, True), (-0.93, False), (1e-40, False), (math.nan, False), (math.inf, False), (120_000, False)],
)  # fmt: skip
def test_what_says_nothing(value: float, carries: bool) -> None:
    """Whole numbers below 1,000, two digits or fewer, nothing and no number: they are in everything."""
    assert layer.distinctive(np.asarray([value])).tolist() == [carries]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("6.87", [(2, 6.87)]),
        ("w1354.75kW", [(2, 1354.75)]),
        ("6.870", [(3, 6.87)]),
        ("6.869999885559082", [(layer.FLOAT32, 6.869999885559082)]),
        ("1.2345e-3", [(7, 0.0012345)]),
        ("12", []),
        ("0.93", []),
        ("1388534400", [(layer.TIME, 1388534400.0), (layer.FLOAT32, 1388534400.0)]),
        ("1388534400000", [(layer.TIME, 1388534400.0), (layer.FLOAT32, 1388534400000.0)]),
        ("2014-01-01T01:00:00+01:00", [(layer.TIME, 1388534400.0)]),
        ("2014/01/01 00:00", [(layer.TIME, 1388534400.0)]),
        ("2014-99-01 00:00:00", []),
    ],
)
def test_what_a_text_says(text: str, tokens: list[tuple[int, float]]) -> None:
    """Numbers with as many decimals as were printed, times in every notation; what says nothing is left out."""
    marker = Marker(sketch=Sketch(table=np.ones(1 << 26, dtype=bool), texts=np.empty(0), longest_text=0, rows=1))
    marker.add(Text(where="w", text=text))
    marks = marker.marks()
    assert sorted(zip(marks.layers.tolist(), marks.values.tolist(), strict=True)) == sorted(
        (code, pytest.approx(value)) for code, value in tokens
    )
