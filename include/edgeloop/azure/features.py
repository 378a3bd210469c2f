"""What the blob service of a ``storage.preset`` can do, and what it must not be asked.

The SDK sends tags, tiers and encryption scopes with any x-ms-version it is given, so an old service answers 400 at best
and ignores them at worst; here they are refused before anything is sent. Sources: Azure's scalability targets for
blob storage; "Azure Stack Hub storage: differences and considerations"; "Azure Stack Edge system requirements for
blob storage".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1024 * 1024
TIB = 1024 * 1024 * MIB
STACK_API_VERSION = "2019-02-02"
"""The newest x-ms-version that Azure Stack Hub and Stack Edge blob endpoints take (Azure Stack Hub documentation)."""
BIG_BLOCKS_SINCE = "2019-12-12"
"""From this x-ms-version on a block may have 4000 MiB; before, 100 MiB."""
NEWER_HEADERS = {
    "x-ms-access-tier": "access tiers",
    "x-ms-tags": "blob index tags",
    "x-ms-if-tags": "blob index tags",
    "x-ms-encryption-scope": "encryption scopes",
    "x-ms-default-encryption-scope": "encryption scopes",
    "x-ms-immutability-policy-until-date": "immutable blobs",
    "x-ms-legal-hold": "immutable blobs",
}
NEWER_QUERIES = {
    "tier": "access tiers",
    "tags": "blob index tags",
    "blobs": "blob index tags",
    "undelete": "soft delete",
    "userdelegationkey": "Entra ID login",
    "immutabilitypolicies": "immutable blobs",
    "legalhold": "immutable blobs",
    "query": "query of blob contents",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Limits of a service; sizes in bytes. ``api_version`` is "" where the SDK's own is spoken."""

    service: str
    api_version: str = ""
    stack: bool = False
    blocks: int = 50_000
    block_bytes: int = 4000 * MIB
    blob_bytes: int = 50_000 * 4000 * MIB
    name_chars: int = 1024


AZURE = Features(service="Azure Blob Storage")
OLD_AZURE = Features(service="Azure Blob Storage", block_bytes=100 * MIB, blob_bytes=50_000 * 100 * MIB)
# 4.75 TiB is what 50,000 blocks of 100 MiB make, and what the documentation calls 4.75 TB.
STACK = Features(
    service="Azure Stack",
    api_version=STACK_API_VERSION,
    stack=True,
    block_bytes=100 * MIB,
    blob_bytes=min(50_000 * 100 * MIB, int(4.75 * TIB)),
    name_chars=880,
)
NAMES = {"stack_hub": "Azure Stack Hub", "stack_edge": "Azure Stack Edge"}


def features_of(preset: str, api_version: str, connection: str) -> Features:
    """The features of ``storage.preset`` spoken to in ``api_version`` ("" for the preset's own).

    Raises ``ConfigurationError`` when the connection asks a Stack service for a version it does not have.
    """
    from dataclasses import replace

    if preset not in NAMES:
        old = bool(api_version) and api_version < BIG_BLOCKS_SINCE
        return replace(OLD_AZURE if old else AZURE, api_version=api_version)
    if api_version > STACK_API_VERSION:
        raise ConfigurationError(
            f"extra.api_version of connection {connection!r} is {api_version}; {NAMES[preset]} (storage.preset "
            f"{preset}) takes {STACK_API_VERSION} at most.",
            left="nothing was started",
            next=f"Remove extra.api_version from {connection!r}: the preset brings the right one.",
        )
    return replace(STACK, service=NAMES[preset], api_version=api_version or STACK_API_VERSION)


def refuse_newer(features: Features, headers: Mapping[str, str], query: Mapping[str, str | None]) -> None:
    """Raise ``ConfigurationError`` when a request uses what a Stack service lacks; called before every request."""
    if not features.stack:
        return
    asked = {NEWER_HEADERS[one.lower()] for one in headers if one.lower() in NEWER_HEADERS}
    comp = (query.get("comp") or "").lower()
    if comp in NEWER_QUERIES:
        asked.add(NEWER_QUERIES[comp])
    if asked:
        raise lacking(features, " and ".join(sorted(asked)))


def lacking(features: Features, what: str) -> ConfigurationError:
    """The error that says which feature a service lacks."""
    return ConfigurationError(
        f"{features.service} (x-ms-version {features.api_version}) has no {what}.",
        left="nothing was sent",
        next="Do without it, or set storage.preset to azure if the account is in Azure.",
    )


def check_name(features: Features, name: str) -> None:
    """Raise ``ConfigurationError`` when the blob's name is longer than the service takes."""
    if len(name) > features.name_chars:
        raise ConfigurationError(
            f"The blob name {name[:60]}... has {len(name)} characters; {features.service} takes "
            f"{features.name_chars} at most.",
            left="nothing was sent",
            next="Shorten the folders or the file's name on the share.",
        )


def check_size(features: Features, name: str, size: int) -> None:
    """Raise ``ConfigurationError`` when a blob of ``size`` bytes is more than the service takes."""
    if size > features.blob_bytes:
        raise ConfigurationError(
            f"{name} has {size} bytes; a blob of {features.service} has {features.blob_bytes} at most.",
            left="nothing was sent",
            next="Let the producer write smaller files.",
        )
