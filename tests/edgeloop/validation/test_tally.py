"""A file judged in chunks has the verdict, and the failing rows, of the file in one piece."""

from __future__ import annotations

import itertools
import json
import random
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeloop.errors import ConfigurationError
from edgeloop.validation import lines
from edgeloop.validation.expect import Answer, Expectations
from edgeloop.validation.judge import Judge, Limits
from edgeloop.validation.kinds import KINDS, Kind
from edgeloop.validation.rows import Meaning
from edgeloop.validation.suite import load
from edgeloop.validation.table import CsvFile, Shape, WiderError
from edgeloop.validation.tally import Sum, _further

if TYPE_CHECKING:
    from pathlib import Path

    from edgeloop.validation.expect import Outcome

SHAPE = Shape(columns=("at", "site"), exact=False)
MEANING = Meaning(time="at", site="site", zone="UTC", sites=("north", "south"))
MIB = 1024 * 1024


def column(name: str, kwargs: dict[str, Any] | None = None, on: str = "a", **meta: Any) -> dict[str, Any]:
    """One expectation about a column."""
    return {"type": f"expect_column_{name}", "kwargs": {"column": on, **(kwargs or {})}, "meta": meta}


def table(name: str, **kwargs: Any) -> dict[str, Any]:
    """One expectation about something else."""
    return {"type": f"expect_{name}", "kwargs": kwargs}


PAIR = {"column_A": "a", "column_B": "b"}
BINS = {"bins": [-9, 0, 5, 30], "weights": [0.2, 0.3, 0.5]}
QUANTILES = {"quantiles": [0.1, 0.9], "value_ranges": [[-9, 2], [5, 30]]}
SUITE = [
    column("values_to_be_between", {"min_value": -5, "max_value": 9}),
    column("values_to_be_between", {"min_value": -5, "max_value": 9, "mostly": 0.8}),
    column("values_to_be_between", {"min_value": -5, "max_value": 9, "mostly": 0.95}, severity="warn"),
    column("values_to_be_between", {"min_value": 3}, on="text"),  # cannot be evaluated
    column("values_to_not_be_null", {"mostly": 0.9}),
    column("values_to_not_be_null", {"mostly": 0.5}, on="gone"),
    column("values_to_be_null", {"mostly": 0.5}, on="gone"),
    column("values_to_be_between", {"min_value": 0}, on="gone"),
    column("values_to_be_between", {"min_value": 0}, on="missing"),
    column("values_to_be_between", {"min_value": 0, "row_condition": "b > 4", "condition_parser": "pandas"}),
    column("values_to_be_in_set", {"value_set": ["x", "y"]}, on="text"),
    column("values_to_not_be_in_set", {"value_set": [1, 2]}, on="b"),
    column("values_to_match_regex", {"regex": "^[xy]"}, on="text"),
    column("values_to_not_match_regex", {"regex": "z"}, on="text"),
    column("values_to_match_regex_list", {"regex_list": ["^x", "^y"], "match_on": "any"}, on="text"),
    column("values_to_not_match_regex_list", {"regex_list": ["^x", "^y"]}, on="text"),
    column("value_lengths_to_be_between", {"min_value": 1, "max_value": 2}, on="text"),
    column("value_lengths_to_equal", {"value": 1}, on="text"),
    column("values_to_be_dateutil_parseable", on="at"),
    column("values_to_match_strftime_format", {"strftime_format": "%Y-%m-%dT%H:%M:%SZ"}, on="at"),
    column("values_to_be_json_parseable", on="text"),
    column("values_to_match_json_schema", {"json_schema": {"type": "object"}}, on="text"),
    column("values_to_be_of_type", {"type_": "float64"}),
    column("values_to_be_of_type", {"type_": "bool"}, on="truth"),
    column("values_to_be_in_type_list", {"type_list": ["int64"]}, on="b"),
    column("type_to_be", {"type_": "int64"}, on="late"),
    column("to_exist", on="text"),
    column("to_exist", on="missing"),
    table("column_pair_values_a_to_be_greater_than_b", **PAIR, mostly=0.4),
    table("column_pair_values_to_be_equal", **PAIR, ignore_row_if="either_value_is_missing"),
    table("column_pair_values_to_be_in_set", column_A="b", column_B="late", value_pairs_set=[(1, 2), (3, 4)]),
    table("multicolumn_sum_to_equal", column_list=["b", "late"], sum_total=5),
    table("multicolumn_values_to_be_equal", column_list=["b", "late"]),
    table("select_column_values_to_be_unique_within_record", column_list=["a", "b"]),
    table("table_columns_to_match_set", column_set=["at", "site", "a", "b"]),
    table("table_columns_to_match_ordered_list", column_list=["at", "site", "a", "b"]),
    table("table_column_count_to_equal", value=8),
    table("table_column_count_to_be_between", max_value=7),
    table("table_row_count_to_be_between", min_value=100, max_value=140),
    table("table_row_count_to_equal", value=120),
    table("table_row_count_to_be_between", max_value=60, row_condition="b > 4", condition_parser="pandas"),
    column("min_to_be_between", {"min_value": -8}),
    column("max_to_be_between", {"max_value": 19, "strict_max": True}),
    column("max_to_be_between", {"max_value": 5}, on="gone"),
    column("min_to_be_between", {"min_value": 3}, on="text"),  # cannot be evaluated
    column("values_to_be_unique"),
    column("values_to_be_unique", {"mostly": 0.1}, on="at", severity="quarantine"),
    column("values_to_be_increasing", on="late"),
    column("values_to_be_decreasing", {"strictly": True}, on="b"),
    column("value_z_scores_to_be_less_than", {"threshold": 1.5, "double_sided": True}),
    column("values_to_not_be_outliers", {"method": "std", "multiplier": 1.5}),
    column("mean_to_be_between", {"min_value": 2}),
    column("median_to_be_between", {"max_value": 3}),
    column("stdev_to_be_between", {"max_value": 4}),
    column("sum_to_be_between", {"min_value": 0}),
    column("quantile_values_to_be_between", {"quantile_ranges": QUANTILES}),
    column("kl_divergence_to_be_less_than", {"partition_object": BINS, "threshold": 0.4}),
    column("distinct_values_to_be_in_set", {"value_set": ["x", "y", "z"]}, on="text"),
    column("distinct_values_to_contain_set", {"value_set": ["x"]}, on="text"),
    column("distinct_values_to_equal_set", {"value_set": ["x"]}, on="text"),
    column("most_common_value_to_be_in_set", {"value_set": ["x"]}, on="text"),
    column("unique_value_count_to_be_between", {"max_value": 9}, on="b"),
    column("proportion_of_unique_values_to_be_between", {"min_value": 0.5}),
    column("proportion_of_non_null_values_to_be_between", {"min_value": 0.95}),
    table("compound_columns_to_be_unique", column_list=["b", "text"]),
]
SQL_ONLY = {
    "expect_column_values_to_match_like_pattern",
    "expect_column_values_to_match_like_pattern_list",
    "expect_column_values_to_not_match_like_pattern",
    "expect_column_values_to_not_match_like_pattern_list",
}
"""These have no implementation for pandas: judged in one piece or in chunks, they cannot be evaluated."""


def write(path: Path, seed: int, rows: int = 120) -> CsvFile:
    """A random file: numbers with gaps, texts, a column that is nearly empty, one whose type the last row decides."""
    chance = random.Random(seed)
    body = ["at,site,a,b,text,gone,truth,late"]
    for number in range(rows):
        a = "" if chance.random() < 0.07 else f"{chance.gauss(2, 5):.2f}"
        text = chance.choice(["x", "y", "xy", "", "zz", '"{""a"": 1}"'])
        gone = "" if number < rows - 1 else "3"
        late = str(number) if number < rows - 1 else chance.choice(["", "7.5", "word", "8"])
        at = f"2014-01-01T{chance.randint(0, 23):02d}:{number % 60:02d}:00Z"
        body.append(f"{at},north,{a},{chance.randint(0, 9)},{text},{gone},{chance.choice(['true', 'False'])},{late}")
    path.write_text("\n".join(body) + "\n")
    return CsvFile(path, SHAPE)


def answers(outcomes: tuple[Outcome, ...]) -> list[tuple[str, bool, bool, list[int], int]]:
    """What has to be the same."""
    return [(str(one.rule), one.success, one.evaluated, list(one.failing), one.total) for one in outcomes]


@pytest.fixture(scope="module")
def expectations() -> Expectations:
    """The suite, started once."""
    return Expectations(load(json.dumps({"name": "all", "expectations": SUITE})))


def judge(expectations: Expectations, rows: int, memory: int = 64 * MIB) -> Judge:
    """A judge with chunks of that many rows."""
    return Judge(lambda: expectations, MEANING, Limits(chunk_rows=rows, memory_bytes=memory))


def test_the_suite_of_these_tests_holds_every_kind_of_expectation() -> None:
    """Every expectation that is not refused, except those that pandas has no implementation of."""
    judged = {name for name, kind in KINDS.items() if kind is not Kind.REFUSED}
    assert {one["type"] for one in SUITE} == judged - SQL_ONLY


@pytest.mark.parametrize("seed", range(3))
def test_chunks_have_the_verdict_and_the_failing_rows_of_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expectations: Expectations, seed: int
) -> None:
    """Of every expectation, over random files and random chunks, against the file as one frame."""
    file = write(tmp_path / "file.csv", seed)
    (chunk,) = file.chunks(1000)
    whole = answers(expectations.run(chunk.frame()))
    assert {one[1] for one in whole} == {True, False}
    chance = random.Random(seed)
    monkeypatch.setattr(lines, "PIECE_BYTES", chance.randint(300, 5000))
    again = CsvFile(tmp_path / "file.csv", SHAPE)
    found = judge(expectations, chance.randint(25, 70)).read(again)
    assert answers(found.outcomes) == whole


def answer(*failing: int, considered: int | None = None, evaluated: bool = True, observed: Any = None) -> Answer:
    """What one chunk says."""
    success = evaluated and not failing
    return Answer(success=success, evaluated=evaluated, failing=failing, considered=considered, observed=observed)


@pytest.mark.parametrize("where", range(3))
def test_a_chunk_that_could_not_be_judged_is_not_forgotten(where: int) -> None:
    """Wherever in the file it lies: an expectation that raised once has no verdict on the file."""
    for found in ([answer()] * 3, [answer(considered=5)] * 3):
        found[where] = answer(evaluated=False)
        one = Sum()
        for number, each in enumerate(found):
            one.add(each, number * 5)
        assert (one.evaluated, one.holds(0.1)) == (False, False)


@pytest.mark.parametrize("where", range(2))
def test_an_expectation_without_rows_holds_if_it_does_in_every_chunk(where: int) -> None:
    """One about the schema says the same of each; one that does not must not be outvoted."""
    one = Sum()
    for number in range(2):
        one.add(Answer(success=number != where, evaluated=True, failing=(), considered=None, observed=None), 0)
    assert not one.holds(1.0)


def test_mostly_is_a_share_of_all_chunks_rows_that_count() -> None:
    """Positions are the file's; a column of gaps alone breaks nothing."""
    one = Sum()
    one.add(answer(0, 2, considered=3), 0)
    one.add(answer(considered=5), 3)
    one.add(answer(1, considered=2), 8)
    assert (list(one.failing), one.considered) == ([0, 2, 9], 10)
    assert one.holds(0.7)
    assert not one.holds(0.71)
    empty = Sum()
    empty.add(answer(considered=0), 0)
    assert empty.holds(1.0)


@pytest.mark.parametrize("kind", [Kind.LEAST, Kind.GREATEST])
def test_the_chunk_that_holds_the_extreme_answers(kind: Kind) -> None:
    """Whichever it is, of numpy's values too; chunks of gaps say nothing, and one that raised is told."""
    low, high, gaps, raised = (
        answer(observed=one, evaluated=one != "raised") for one in (np.float64(1), np.float64(2), None, "raised")
    )
    best = low if kind is Kind.LEAST else high
    for order in itertools.permutations((low, high, gaps)):
        assert reduce(partial(_further, kind), order, None) is best
    for order in itertools.permutations((low, raised, gaps)):
        assert reduce(partial(_further, kind), order, None) is raised


def test_a_type_that_a_late_row_widens_is_judged_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expectations: Expectations
) -> None:
    """Whole numbers until the last row: what was judged before is judged again as what the column is."""
    monkeypatch.setattr(lines, "PIECE_BYTES", 500)
    (tmp_path / "file.csv").write_text(
        "at,site,late\n" + "".join(f"2014,north,{n}\n" for n in range(200)) + "2014,north,word\n"
    )
    file = CsvFile(tmp_path / "file.csv", SHAPE)
    with pytest.raises(WiderError):
        list(file.chunks(10))
    suite = load(json.dumps({"expectations": [column("type_to_be", {"type_": "str"}, on="late")]}))
    (outcome,) = judge(Expectations(suite), 10).read(CsvFile(tmp_path / "file.csv", SHAPE)).outcomes
    assert outcome.success


def test_budgets_are_shares_of_the_whole_file(tmp_path: Path, expectations: Expectations) -> None:
    """A chunk in which every row fails is within a budget that the file keeps; the total is the file's."""
    (tmp_path / "file.csv").write_text("at,site,a\n" + "".join(f"2014,north,{-99 * (n < 10)}\n" for n in range(200)))
    suite = load(json.dumps({"expectations": [column("values_to_be_between", {"min_value": 0}, budget=0.05)]}))
    (outcome,) = judge(Expectations(suite), 10).read(CsvFile(tmp_path / "file.csv", SHAPE)).outcomes
    assert (list(outcome.failing), outcome.total) == (list(range(10)), 200)


def test_a_column_beyond_the_memory_limit_is_refused_by_name(tmp_path: Path) -> None:
    """With what it needs, what it may, the field to raise; without it, the same file is judged."""
    (tmp_path / "file.csv").write_text("at,site,a\n" + "".join(f"2014-01-01,north,{n}\n" for n in range(1000)))
    suite = load(json.dumps({"expectations": [column("median_to_be_between", {"min_value": 0})]}))
    ready = Expectations(suite)
    with pytest.raises(ConfigurationError) as caught:
        judge(ready, 100, memory=4000).read(CsvFile(tmp_path / "file.csv", SHAPE))
    assert "expect_column_median_to_be_between(a)" in caught.value.what
    assert "(a 1 MiB)" in caught.value.what
    assert "validation.memory_mb in pipeline.yaml" in caught.value.next
    assert judge(ready, 100, memory=8000).read(CsvFile(tmp_path / "file.csv", SHAPE)).outcomes[0].success
