"""docs/residency.md names, for every way around, the test that holds it, and describes every permit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from edgeloop.pipeline_parts import Permit

if TYPE_CHECKING:
    from tests.policy.conftest import Checkout


def _table(text: str, heading: str) -> list[list[str]]:
    body = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in body.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_every_way_around_has_a_test_that_exists(checkout: Checkout) -> None:
    """A row without a test is a promise; a test that was renamed leaves its row."""
    rows = _table(
        (checkout.root / "docs" / "residency.md").read_text(encoding="utf-8"),
        "What is refused, where, and which test holds it",
    )
    residency = [one for one in checkout.modules("tests") if one.path.name.startswith("test_residency")]
    known = {node.name for module in residency for node in module.functions()}
    named = {way: test.strip("`") for way, _, test in rows}
    assert len(named) == len(rows) > 20
    assert {way: test for way, test in named.items() if test not in known} == {}


def test_every_permit_is_described(checkout: Checkout) -> None:
    """Its row says what it lets out; no row is of a permit that does not exist."""
    rows = _table((checkout.root / "docs" / "residency.md").read_text(encoding="utf-8"), "Permits")
    assert {name.strip("`") for name, _ in rows} == set(get_args(Permit))
    assert all(re.match(r"\w+", lets_out) for _, lets_out in rows)
