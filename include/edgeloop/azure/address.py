"""Where a container is and what opens it, as requests past the SDK need it.

The SDK takes half a second to import, more than 2,000 small files take to send. A Stack's connection string in the form
that its portal gives is read here; every other form is the SDK's to read and to refuse.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from edgeloop.azure.entra import Tokens
from edgeloop.azure.features import STACK_API_VERSION

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

    from edgeloop.azure.account import BlobAccount

NEEDED = {"ACCOUNTNAME", "ACCOUNTKEY", "BLOBENDPOINT"}
KNOWN = NEEDED | {"DEFAULTENDPOINTSPROTOCOL", "ENDPOINTSUFFIX", "QUEUEENDPOINT", "TABLEENDPOINT", "FILEENDPOINT"}
PUBLIC = ".blob.core."


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A container: its URL, with the SAS where one opens it; else the account's name and key, or Entra ID's tokens."""

    container: str
    url: str = field(repr=False)
    version: str
    key: tuple[str, bytes] | None = field(repr=False)
    tokens: Tokens | None

    @classmethod
    def of(cls, client: ContainerClient) -> Address:
        """Where the SDK's client would ask."""
        return cls(
            container=client.container_name,
            url=client.url,
            version=client.api_version,
            key=_key(client),
            tokens=_tokens(client),
        )


def plain(account: BlobAccount, container: str) -> Address | None:
    """The address that the SDK would read from a plain connection string; None for every other."""
    pairs = [one.partition("=") for one in account.connection_string.rstrip(";").split(";")]
    told = {name.upper(): value for name, _, value in pairs}
    where = urlsplit(told.get("BLOBENDPOINT", ""))
    ordinary = (
        account.entra is None
        and account.features.api_version == STACK_API_VERSION
        and told.keys() >= NEEDED
        and told.keys() <= KNOWN
        and all(told[name] for name in NEEDED)
        and where.scheme in {"http", "https"}
        and not (where.query or where.fragment or "@" in where.netloc or PUBLIC in where.netloc)
        and (not account.ca_file or Path(account.ca_file).is_file())
    )
    if not ordinary:
        return None
    try:
        key = base64.b64decode(told["ACCOUNTKEY"], validate=True)
    except binascii.Error:
        return None
    url = f"{where.scheme}://{(where.netloc + where.path).rstrip('/')}/{quote(container)}"
    opened = told["ACCOUNTNAME"], key
    return Address(container=container, url=url, version=account.features.api_version, key=opened, tokens=None)


def _key(client: ContainerClient) -> tuple[str, bytes] | None:
    """The account's name and key; None where a SAS or a token opens it."""
    credential = client.credential
    if credential is None or isinstance(credential, Tokens):
        return None
    return credential.account_name, base64.b64decode(credential.account_key)


def _tokens(client: ContainerClient) -> Tokens | None:
    """The tokens of Entra ID that open the account."""
    return client.credential if isinstance(client.credential, Tokens) else None
