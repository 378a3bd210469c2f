"""Great Expectations itself, on small frames."""

from __future__ import annotations

import json
import logging

import pandas as pd
import pytest

from edgeloop.errors import ConfigurationError
from edgeloop.validation.expect import Expectations
from edgeloop.validation.suite import load


def suite(*expectations: dict) -> str:
    """The text of a suite."""
    return json.dumps({"name": "s", "expectations": list(expectations)})


BETWEEN = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": 0, "max_value": 10}}
NOT_NULL = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "b"}}
MEAN = {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "a", "max_value": 1}}
PAIR = {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["a", "b"]}}
FRAME = pd.DataFrame({"a": [1.0, 20.0, 3.0, 3.0, -1.0], "b": ["x", None, "z", "z", None]})


def test_outcomes_follow_the_suite_and_name_every_failing_row() -> None:
    """Results come in the order of the rules, with the positions of all rows that failed."""
    outcomes = Expectations(load(suite(NOT_NULL, BETWEEN, MEAN, PAIR))).run(FRAME)
    assert [(one.rule.expectation, one.success, tuple(one.failing)) for one in outcomes] == [
        ("expect_column_values_to_not_be_null", False, (1, 4)),
        ("expect_column_values_to_be_between", False, (1, 4)),
        ("expect_column_mean_to_be_between", False, ()),
        ("expect_compound_columns_to_be_unique", False, (2, 3)),
    ]
    assert {one.total for one in outcomes} == {5}
    assert all(one.evaluated for one in outcomes)


def test_more_failing_rows_than_a_report_shows_are_all_named() -> None:
    """The library cuts its lists of values at 20 or 200; the positions must be whole."""
    frame = pd.DataFrame({"a": [99.0] * 1000, "b": ["x"] * 1000})
    assert len(Expectations(load(suite(BETWEEN))).run(frame)[0].failing) == 1000


def test_the_same_expectation_twice_keeps_its_two_prices() -> None:
    """One noted at any row, one blocking: each has its own outcome."""
    warn = {**BETWEEN, "meta": {"severity": "warn"}}
    outcomes = Expectations(load(suite(BETWEEN, warn))).run(FRAME)
    assert [one.rule.severity.value for one in outcomes] == ["block", "warn"]


def test_rows_that_mostly_forgives_are_named_all_the_same() -> None:
    """An expectation met by most rows succeeds; those that break it are still set aside."""
    kwargs = {**BETWEEN["kwargs"], "mostly": 0.5}
    (outcome,) = Expectations(load(suite({**BETWEEN, "kwargs": kwargs}))).run(FRAME)
    assert (outcome.success, tuple(outcome.failing)) == (True, (1, 4))


def test_an_expectation_that_cannot_be_evaluated_is_no_success() -> None:
    """A column that is not there does not count as one without faults."""
    other = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "c"}}
    bad, good = Expectations(load(suite(other, NOT_NULL))).run(FRAME)
    assert (bad.evaluated, bad.success) == (False, False)
    assert good.evaluated


def test_one_start_serves_many_files() -> None:
    """Outcomes of one file do not stick to the next."""
    expectations = Expectations(load(suite(BETWEEN)))
    assert expectations.run(FRAME)[0].failing.tolist() == [1, 4]
    assert expectations.run(FRAME.head(1))[0].failing.tolist() == []
    assert expectations.run(FRAME)[0].failing.tolist() == [1, 4]


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "at_least": 3}},
        {"type": "expect_column_values_to_be_between", "kwargs": {}},
    ],
)
def test_an_expectation_that_cannot_be_built_is_a_configuration_error(wrong: dict) -> None:
    """It is named, whatever else the suite holds; the library would leave an expectation out and pass."""
    with pytest.raises(ConfigurationError, match=rf"\n{wrong['type']}\(.*\): .+"):
        Expectations(load(suite(BETWEEN, wrong)))


def test_nothing_of_the_rows_is_printed(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """No progress bars, no values, in no log of any level the task shows."""
    with caplog.at_level(logging.INFO):
        Expectations(load(suite(BETWEEN, NOT_NULL))).run(FRAME)
    out, err = capfd.readouterr()
    # Where Airflow's logging is set up, the library's own lines come here too; what must not be there is looked for.
    assert [one for one in ("20.0", "%|", "it/s", "Calculating") if one in out + err] == []
    assert [one.getMessage() for one in caplog.records if "20.0" in one.getMessage()] == []


def test_sentences_are_the_librarys_own_in_the_order_of_the_suite() -> None:
    """What a page about the batch says of each expectation."""
    quantiles = {"quantiles": [0.5], "value_ranges": [[0, 1]]}
    table = {
        "type": "expect_column_quantile_values_to_be_between",
        "kwargs": {"column": "a", "quantile_ranges": quantiles},
    }
    assert Expectations(load(suite(NOT_NULL, table, BETWEEN))).sentences() == (
        "b values must never be null.",
        "a quantiles must be within the following value ranges.",
        "a values must be greater than or equal to 0.0 and less than or equal to 10.0.",
    )
