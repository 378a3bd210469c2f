"""Which rows of a judged file are kept, and their order."""

from __future__ import annotations

import numpy as np

from edgeloop.validation.rows import IS_FIRST, IS_INSTANT, IS_SITE, UNKNOWN, Meaning, Selection, Taken, select
from edgeloop.validation.times import NONE
from edgeloop.validation.verdict import Fault

MEANING = Meaning(time="at", site="site", zone="UTC", sites=("c", "a", "b"))


def chosen(instants: list[int], sites: list[int], *broken: int, taken: Taken | None = None) -> Selection:
    """Of rows with those instants and sites; ``broken`` are the positions that an expectation set aside."""
    faults = [Fault(rows=np.array(broken, dtype=np.int64), expectation="expect_x", columns=("v",))]
    return select(faults, np.array(instants), np.array(sites, dtype=np.int16), MEANING, taken or Taken())


def test_every_row_that_goes_has_its_reason() -> None:
    """A broken expectation, no instant, no site, a double of a row that is kept; by position in the file."""
    found = chosen([5, NONE, 5, 5, 5, 6], [0, 0, UNKNOWN, 0, 0, 0], 0)
    assert found.kept.tolist() == [False, False, False, True, False, True]
    assert {one.expectation: np.asarray(one.rows).tolist() for one in found.faults} == {
        "expect_x": [0], IS_INSTANT: [1], IS_SITE: [2], IS_FIRST: [4],
    }  # fmt: skip


def test_a_row_that_is_set_aside_takes_no_instant() -> None:
    """Its good double may stand in the same file or in the next."""
    taken = Taken()
    assert chosen([5], [0], 0, taken=taken).kept.tolist() == [False]
    assert chosen([5, 5], [0, 0], taken=taken).kept.tolist() == [True, False]
    assert chosen([5], [0], taken=taken).kept.tolist() == [False]
    last = chosen([5], [1], taken=taken)
    assert (last.kept.tolist(), last.faults) == ([True], ())


def test_rows_are_stored_by_time_and_then_by_the_sites_name() -> None:
    """Not by the order in which pipeline.yaml names the sites, which may change."""
    found = chosen([7, 7, 7, 6], [0, 1, 2, 0])
    assert found.order is not None
    assert found.order.tolist() == [3, 1, 2, 0]
    assert chosen([6, 7, 7, 7], [0, 1, 2, 0]).order is None
