"""Fixtures of the library's system tests."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.gates import Gates
from tests.shipyard import Shipyard

from edgeloop.ssh.endpoint import Endpoint

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


@pytest.fixture
def endpoint(site: Site) -> Endpoint:
    """The login of the test site's VM."""
    vm = site.vm
    return Endpoint(
        connection="edgeloop_vm", host=vm.host, port=vm.port, user=vm.user, key_file=str(vm.key_file),
        host_key=vm.host_key,
    )  # fmt: skip


@pytest.fixture
def device(site: Site) -> Endpoint:
    """The login of the test site's first device."""
    one = site.devices[0]
    return Endpoint(
        connection="edgeloop_device", host=one.host, port=one.port, user=one.user, key_file=str(one.key_file),
        host_key=one.host_key,
    )  # fmt: skip


@pytest.fixture
def gates(site: Site, endpoint: Endpoint) -> Iterator[Gates]:
    """Starts sshds on the VM, which end with the test."""
    # Not below tmp_path: sshd reads the keys as the user, and every pytest that starts closes that folder to others.
    with tempfile.TemporaryDirectory(dir=site.state, prefix="gates-") as folder:
        Path(folder).chmod(0o755)
        one = Gates(site, endpoint, Path(folder))
        try:
            yield one
        finally:
            one.close()
