"""Reading expectations.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from edgeloop import catalog
from edgeloop.errors import ConfigurationError
from edgeloop.records import sha256_hex
from edgeloop.validation.suite import Severity, load

if TYPE_CHECKING:
    from pathlib import Path


def suite(*expectations: object) -> str:
    """The text of a suite."""
    return json.dumps({"name": "s", "expectations": list(expectations)})


def test_severity_and_budget_have_defaults() -> None:
    """Nothing said means block at the first row; quarantine without a budget has no limit."""
    text = suite(
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "a"}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "a"}, "meta": {"severity": "quarantine"}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "a"}, "meta": {"severity": "warn"}},
        {
            "type": "expect_column_values_to_not_be_null",
            "kwargs": {"column": "a"},
            "meta": {"severity": "quarantine", "budget": 0.25},
        },
    )
    assert [(one.severity, one.budget) for one in load(text).rules] == [
        (Severity.BLOCK, 0.0),
        (Severity.QUARANTINE, 1.0),
        (Severity.WARN, 0.0),
        (Severity.QUARANTINE, 0.25),
    ]


def test_a_suite_is_named_by_its_text() -> None:
    """Another text is another suite, whatever it means."""
    assert load(suite()).digest == sha256_hex(suite().encode())
    assert load(suite()).digest != load(suite() + "\n").digest


def test_columns_are_those_a_file_must_have() -> None:
    """They come from the columns expectation; without exact_match false there may be no others."""
    exact = load(suite({"type": "expect_table_columns_to_match_set", "kwargs": {"column_set": ["a", "b"]}}))
    assert (exact.columns, exact.exact) == (("a", "b"), True)
    kwargs = {"column_set": ["a"], "exact_match": False}
    assert not load(suite({"type": "expect_table_columns_to_match_set", "kwargs": kwargs})).exact
    assert load(suite()).columns == ()


def test_columns_of_a_rule_are_told() -> None:
    """One, two or many: the sentence names them all."""
    rules = load(
        suite(
            {"type": "expect_column_to_exist", "kwargs": {"column": "x"}},
            {"type": "expect_column_pair_values_to_be_equal", "kwargs": {"column_A": "x", "column_B": "y"}},
            {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["x", "y", "z"]}},
            {"type": "expect_table_row_count_to_equal"},
        )
    ).rules
    assert [str(one) for one in rules] == [
        "expect_column_to_exist(x)",
        "expect_column_pair_values_to_be_equal(x, y)",
        "expect_compound_columns_to_be_unique(x, y, z)",
        "expect_table_row_count_to_equal()",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "is no suite"),
        ("[]", "is no suite"),
        (suite("x"), "expectation 1: type is missing"),
        (
            suite({"type": "expect_column_to_exist", "meta": {"severity": "fatal"}}),
            "write one of block, quarantine, warn",
        ),
        (suite({"type": "expect_column_to_exist", "meta": {"budget": 15}}), "write a share of rows from 0 to 1"),
        (suite({"type": "expect_column_to_exist", "meta": {"budget": True}}), "meta.budget is True"),
    ],
)
def test_what_is_wrong_is_told_with_its_remedy(text: str, what: str) -> None:
    """The error names the file, the expectation and what to write."""
    with pytest.raises(ConfigurationError) as caught:
        load(text, "p/expectations.json")
    assert what in str(caught.value)
    assert "p/expectations.json" in str(caught.value)


def test_the_sample_pipelines_suite_loads() -> None:
    """The shipped suite has a severity and a budget that make sense, and says which columns a file has."""
    home: Path = catalog.pipelines_folder() / "wind_power"
    found = load((home / catalog.SUITE).read_text(encoding="utf-8"))
    assert len(found.columns) == 9
    assert {one.severity for one in found.rules} == set(Severity)
