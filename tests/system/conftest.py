"""The story of the whole loop comes first; the faults then strike what it left running; on-call then reruns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

ORDER = ("test_loop.py", "test_faults.py", "test_reprocess.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort this folder's tests among themselves; they are handed over together with everybody else's."""
    mine = [at for at, item in enumerate(items) if item.path.parent.name == "system" and item.path.name in ORDER]
    ordered = sorted((items[at] for at in mine), key=lambda item: ORDER.index(item.path.name))
    for at, item in zip(mine, ordered, strict=True):
        items[at] = item
