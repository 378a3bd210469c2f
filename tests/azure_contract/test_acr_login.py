"""A registry of Azure by a token of Entra ID: exchanged once, then a token for each repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.azure_contract.conftest import TENANT
from tests.registries import Authority, RegistryServer, image
from tests.token_front import TokenFront

from edgeloop.azure_ml.identity import Identity
from edgeloop.containers.endpoint import RegistryEndpoint
from edgeloop.containers.registry import Registry
from edgeloop.errors import ConfigurationError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.azure_contract.conftest import Azure


@pytest.fixture
def front(azure: Azure, tmp_path: Path) -> Iterator[TokenFront]:
    """A registry that trusts tokens of Entra ID."""
    behind = RegistryServer(tmp_path).start()
    one = TokenFront(registry=behind, tls=Authority.of(tmp_path, "127.0.0.1")).start()
    yield one
    one.close()
    behind.stop()


def registry_of(front: TokenFront, secret: str = "a secret") -> Registry:
    """The registry, asked by a service principal."""
    identity = Identity.of("azure_default", "33333333-3333-3333-3333-333333333333", secret, {"tenantId": TENANT})
    return Registry(
        RegistryEndpoint(connection="acr", host=front.address, ca_file=str(front.tls.ca), identity=identity)
    )


def test_an_identity_pushes_and_devices_get_a_token_to_pull(front: TokenFront) -> None:
    """One exchange for the whole push; what a device gets is for that repository, and cannot push."""
    registry, whole = registry_of(front), image()
    assert registry.push("wind", "v1", whole).digest == whole.digest
    assert front.exchanged == 1
    assert front.issued == ["repository:wind:pull,push", "repository:wind:pull"]
    login = registry.pull_login("wind", whole.digest)
    assert login is not None
    assert not front.tokens[login.token].allows("wind", push=True)
    assert [path for _, path in front.seen if path == "/oauth2/exchange"] == ["/oauth2/exchange"]


@pytest.mark.parametrize("secret", ["a secret", "wrong"])
def test_an_identity_that_is_not_let_in_is_told(front: TokenFront, secret: str) -> None:
    """By Entra ID, or by the registry, which does not know it: the connection and what to give it."""
    front.entra = "a token of another tenant"
    said = "is not for us" if secret == "a secret" else "Entra ID gave no token"
    words = rf"'acr' in as the identity of connection 'azure_default'.*{said}"
    with pytest.raises(ConfigurationError, match=words) as caught:
        registry_of(front, secret).push("wind", "v1", image())
    assert "AcrPush and AcrPull" in caught.value.next


def test_an_entra_id_that_does_not_answer_is_no_matter_of_the_login(front: TokenFront, azure: Azure) -> None:
    """It is worth another try, and the error says so."""
    azure.faults({"match": "POST login", "status": 503, "times": 99})
    with pytest.raises(UnreachableError, match="'azure_default'"):
        registry_of(front).push("wind", "v1", image())
