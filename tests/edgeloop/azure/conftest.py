"""Entra ID and accounts on this machine, for whoever asks."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.azure.entra_id import EntraId, to_this_machine
from tests.edgeloop.azure.hub import Hub

from lab import blob
from lab.site import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EntraId]:
    """Entra ID, for all tests of a run."""
    one = EntraId(tmp_path_factory.mktemp("entra"))
    with one.door:
        yield one


@pytest.fixture
def entra(authority: EntraId, monkeypatch: pytest.MonkeyPatch) -> EntraId:
    """Entra ID as at its start; no identity of this machine's own, and test accounts are found here."""
    authority.reset()
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", to_this_machine)
    return authority


@pytest.fixture(scope="session")
def token_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A real Azurite that tokens open, as far as it looks at them."""
    blob.ensure_installed(cache_root())
    with Hub(cache_root(), tmp_path_factory.mktemp("hub"), oauth=True) as one:
        yield one
