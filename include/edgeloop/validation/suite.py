"""A pipeline's expectations.json: a Great Expectations suite, with what a broken expectation costs in its meta.

    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "P_avg"},
     "meta": {"severity": "quarantine", "budget": 0.15, "reason": "the sensor was silent"}}

``severity``: ``block`` (the default) stops the batch; ``quarantine`` sets the failing rows aside and stops the batch
only when their share of a file's rows is above ``budget``; ``warn`` is only noted. ``budget`` defaults to 0 for
``block`` and ``warn``, to 1 for ``quarantine``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edgeloop.errors import ConfigurationError
from edgeloop.records import sha256_hex
from edgeloop.validation.kinds import remedy_for

COLUMN_EXPECTATIONS = {
    "expect_table_columns_to_match_set": "column_set",
    "expect_table_columns_to_match_ordered_list": "column_list",
}


class Severity(StrEnum):
    """What a broken expectation costs."""

    BLOCK = "block"
    QUARANTINE = "quarantine"
    WARN = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One expectation and its price. ``budget`` is a share of a file's rows, ``columns`` may be empty for a table's."""

    expectation: str
    columns: tuple[str, ...]
    severity: Severity
    budget: float
    reason: str

    def __str__(self) -> str:
        """``expectation(column)``."""
        return f"{self.expectation}({', '.join(self.columns)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A loaded suite; ``rules`` in the order of ``expectations``, ``digest`` the sha256 of its text."""

    name: str
    digest: str
    rules: tuple[Rule, ...]
    expectations: tuple[str, ...]
    """Canonical JSON of each expectation, as Great Expectations takes it."""
    columns: tuple[str, ...] = ()
    """The columns a file must have; empty if the suite says nothing of them."""
    exact: bool = False
    """Whether a file may have no others."""


def load(text: str, file: str = "expectations.json") -> Suite:
    """Read a suite; raises ``ConfigurationError`` that names the expectation, the field and what to write."""
    try:
        body = json.loads(text)
        expectations = body["expectations"]
    except (ValueError, KeyError, TypeError) as error:
        remedy = "write {'name': ..., 'expectations': [{type, kwargs, meta}]}"
        raise _wrong(file, f"is no suite ({error!r}); {remedy}") from error
    rules = tuple(_rule(file, number, one) for number, one in enumerate(expectations, start=1))
    columns, exact = _columns(expectations)
    return Suite(
        name=str(body.get("name") or "suite"),
        digest=sha256_hex(text.encode()),
        rules=rules,
        expectations=tuple(json.dumps(one, sort_keys=True) for one in expectations),
        columns=columns,
        exact=exact,
    )


def wrong_with(one: Any) -> list[tuple[str, str]]:
    """What is wrong with one expectation of a suite: the field and what to write instead."""
    if not isinstance(one, dict) or not isinstance(one.get("type"), str):
        return [("type", "is missing; write for example 'expect_column_values_to_not_be_null'")]
    found = []
    if remedy := remedy_for(one["type"]):
        found.append(("type", f"{one['type']} {remedy}"))
    kwargs, meta = one.get("kwargs") or {}, one.get("meta") or {}
    if not isinstance(kwargs, dict) or not isinstance(meta, dict):
        return [*found, ("kwargs", "and meta must be mappings")]
    known = [severity.value for severity in Severity]
    severity = meta.get("severity", Severity.BLOCK.value)
    if severity not in known:
        found.append(("meta.severity", f"is {severity!r}; write one of {', '.join(known)}"))
    budget = meta.get("budget", 0.0)
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not 0 <= budget <= 1:
        found.append(("meta.budget", f"is {budget!r}; write a share of rows from 0 to 1, for example 0.05"))
    return found


def _rule(file: str, number: int, one: Any) -> Rule:
    for field, remedy in wrong_with(one):
        name = f" ({one['type']})" if isinstance(one, dict) and one.get("type") else ""
        raise _wrong(file, f"expectation {number}{name}: {field} {remedy}")
    kwargs, meta = one.get("kwargs") or {}, one.get("meta") or {}
    severity = meta.get("severity", Severity.BLOCK.value)
    budget = meta.get("budget", 1.0 if severity == Severity.QUARANTINE.value else 0.0)
    listed = kwargs.get("column_list") or [kwargs.get(name) for name in ("column", "column_A", "column_B")]
    return Rule(
        expectation=one["type"],
        columns=tuple(str(name) for name in listed if name),
        severity=Severity(severity),
        budget=float(budget),
        reason=str(meta.get("reason", "")),
    )


def _columns(expectations: list[dict[str, Any]]) -> tuple[tuple[str, ...], bool]:
    for one in expectations:
        if argument := COLUMN_EXPECTATIONS.get(one["type"]):
            kwargs = one.get("kwargs") or {}
            return tuple(kwargs.get(argument) or ()), bool(kwargs.get("exact_match", True))
    return (), False


def _wrong(file: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"{file}: {what}.", left="nothing was validated", next=f"Correct {file}.")
