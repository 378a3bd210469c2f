"""Which expectation is judged in which way: none may slip through."""

from __future__ import annotations

import json

import pytest

from edgeloop.problems import suite_problems
from edgeloop.validation.kinds import KINDS, Kind, kind_of, remedy_for


def test_every_core_expectation_of_the_installed_version_has_a_kind() -> None:
    """A new version's new expectation, or one that is gone, fails here until somebody decides how it is judged."""
    import great_expectations.expectations.core  # noqa: F401 - registers them
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    assert sorted(list_registered_expectation_implementations()) == sorted(KINDS)


def test_names_have_a_kind_each() -> None:
    """Refused and unknown names have a remedy, the others none."""
    assert kind_of("expect_column_values_to_be_unique") is Kind.WHOLE
    assert remedy_for("expect_column_values_to_be_unique") == ""
    assert "a second table or a query" in remedy_for("unexpected_rows_expectation")
    assert "is no core expectation" in remedy_for("expect_columns_to_be_nice")


@pytest.mark.parametrize("name", ["unexpected_rows_expectation", "expect_columns_to_be_nice"])
def test_a_suite_that_cannot_be_judged_is_refused_when_the_pipeline_is_loaded(name: str) -> None:
    """By the expectation's name, on its line, with what to write instead; the good ones are not named."""
    good = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "a"}}
    text = json.dumps({"name": "s", "expectations": [good, {"type": name, "kwargs": {}}]}, indent=1)
    (problem,) = suite_problems(text, "expectations.json")
    assert str(problem).startswith(
        f"expectations.json:{text[: text.index(name)].count(chr(10)) + 1}: expectations.1.type"
    )
    assert name in problem.remedy
    assert remedy_for(name) in problem.remedy


@pytest.mark.parametrize(
    ("one", "remedy"),
    [
        ({"kwargs": {}}, "is missing"),
        ({"type": "expect_column_to_exist", "meta": {"severity": "fatal"}}, "write one of block, quarantine, warn"),
        ({"type": "expect_column_to_exist", "meta": {"budget": 2}}, "a share of rows from 0 to 1"),
        (3, "is missing"),
    ],
)
def test_a_price_that_means_nothing_is_refused_when_the_pipeline_is_loaded(one: object, remedy: str) -> None:
    """Not hours later, when a batch is to be judged."""
    (problem,) = suite_problems(json.dumps({"name": "s", "expectations": [one]}), "expectations.json")
    assert remedy in problem.remedy
