"""Which certificate stands for a group of files, pure: one rule for training and for judging."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.records import Certificate


def newest_of_each_group(certificates: Iterable[Certificate]) -> list[Certificate]:
    """Of each group the certificate of the latest claim, by name of group: a late or changed file replaced the rest."""
    newest: dict[str, Certificate] = {}
    for one in certificates:
        held = newest.get(one.group)
        if held is None or _age(one) > _age(held):
            newest[one.group] = one
    return [newest[group] for group in sorted(newest)]


def _age(one: Certificate) -> tuple[str, str, str]:
    return one.claimed_at, one.certified_at, one.id
