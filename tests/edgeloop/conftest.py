"""Fixtures of the library's system tests."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from tests.shipyard import Shipyard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.store import Store
    from lab.site import Site

PORTS = itertools.count(18100)


@pytest.fixture
def shipyard(site: Site, store: Store) -> Iterator[Shipyard]:
    """A yard with a pipeline name and a scorer port of this test's own; its containers are removed afterwards."""
    port = next(PORTS)
    yard = Shipyard(site=site, store=store, pipeline=f"yard{port}", port=port)
    yield yard
    yard.clean()
