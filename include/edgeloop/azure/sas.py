"""Addresses that open one blob each, for minutes and for reading only, signed from the account's key.

The SDK signs for the newest version only, which an Azure Stack refuses. The text that is signed is that of versions
2018-11-09 to 2020-10-02 ("Create a service SAS" in Azure's documentation), which every service of today takes.

Where Entra ID opens the account there is no key: the account itself, which is Azure's, then lends one for two hours
(a user delegation key), and the SDK signs with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

from edgeloop.azure.problems import translated
from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from azure.storage.blob import UserDelegationKey

    from edgeloop.azure.account import BlobAccount
    from edgeloop.azure.blob import BlobContainer
    from edgeloop.azure.entra import Entra

SIGNED_VERSION = "2019-02-02"
MINUTES = 15
LENT = timedelta(hours=2)
"""How long a user delegation key is asked for."""
SKEW = timedelta(minutes=15)
"""How far the account's clock may be behind this machine's."""
DELEGATOR = "Storage Blob Delegator"
LONGEST = timedelta(hours=1)
"""How long a SAS of the connection may still be valid to be handed on."""
READING = set("rl")
CONTAINER_OR_BLOB = {"c", "b"}
LOOPBACK = ("127.", "localhost", "::1", "0.0.0.0")  # noqa: S104 - compared with, not bound to


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Gives out addresses of a container's blobs, or says in ``refusal`` why it does not.

    Args:
        url: The container's address, without a query.
        account: The account's name.
        key: Its key, "" where a SAS opens the container.
        sas: That SAS.
        delegation: Who lends keys where Entra ID opens the account.
        refusal: Why no address may be given out.
    """

    url: str
    account: str = ""
    key: str = ""
    sas: str = ""
    delegation: Delegation | None = None
    refusal: str = ""

    def address(self, blob: str, *, now: datetime) -> str:
        """The address of ``blob``, valid for MINUTES from ``now``."""
        where = f"{self.url}/{quote(blob, safe='~/')}"
        container = urlsplit(self.url).path.rstrip("/").rpartition("/")[2]
        if self.delegation is not None:
            return f"{where}?{self.delegation.sign(self.account, container, blob, now=now)}"
        if not self.key:
            return f"{where}?{self.sas}"
        resource = f"/blob/{self.account}/{container}/{blob}"
        expiry = (now + timedelta(minutes=MINUTES)).strftime("%Y-%m-%dT%H:%M:%SZ")
        protocol = "https" if self.url.startswith("https:") else "https,http"
        signature = sign(self.key, text_to_sign(resource, expiry=expiry, protocol=protocol))
        fields = {"sv": SIGNED_VERSION, "sr": "b", "sp": "r", "se": expiry, "spr": protocol, "sig": signature}
        return f"{where}?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())

    def __repr__(self) -> str:
        """Without key and SAS."""
        return f"Signer({self.url!r}, refusal={self.refusal!r})"


class Delegation:
    """The keys that an account lends to who may read it, one after the other; safe to use from several threads."""

    def __init__(self, account: BlobAccount, entra: Entra) -> None:
        self._account, self._entra = account, entra
        self._lock = threading.Lock()
        self._key: UserDelegationKey | None = None
        self._ends = datetime.min.replace(tzinfo=UTC)

    def sign(self, account: str, container: str, blob: str, *, now: datetime) -> str:
        """The query that opens ``blob`` for reading, valid for MINUTES from ``now``; raises as :meth:`key` does."""
        from azure.storage.blob import BlobSasPermissions, generate_blob_sas

        return generate_blob_sas(
            account,
            container,
            blob,
            user_delegation_key=self.key(now),
            permission=BlobSasPermissions(read=True),
            expiry=now + timedelta(minutes=MINUTES),
            protocol="https",
        )

    def key(self, now: datetime) -> UserDelegationKey:
        """A key that lasts for another MINUTES.

        Raises ``ConfigurationError`` where the identity lacks the role for it.
        """
        with self._lock:
            if self._key is None or self._ends < now + timedelta(minutes=MINUTES):
                ends = now + LENT
                with translated(self._account, "", role=DELEGATOR):
                    self._key = self._account.service(self._entra).get_user_delegation_key(now - SKEW, ends)
                self._ends = ends
            return self._key


def text_to_sign(resource: str, *, expiry: str, protocol: str) -> str:
    """What is signed for reading the blob ``resource`` (``/blob/<account>/<container>/<blob>``, not encoded)."""
    start = identifier = address = snapshot = ""
    answers = [""] * 5  # overridden response headers: none
    return "\n".join(
        ["r", start, expiry, resource, identifier, address, protocol, SIGNED_VERSION, "b", snapshot, *answers]
    )


def sign(key: str, text: str) -> str:
    """HMAC-SHA256 of ``text`` under the account's key, both as Azure writes them."""
    return base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)).decode()


def signer(container: BlobContainer, *, now: datetime) -> Signer:
    """Who gives out addresses of ``container``."""
    account = container.account
    url, _, query = container.url.partition("?")
    host = urlsplit(url).hostname or ""
    if host.startswith(LOOPBACK):
        return Signer(url=url, refusal=f"its endpoint {host} is another machine when it is asked for on the VM")
    if account.entra is not None:
        return _lent(url, Delegation(account, account.entra), now)
    parts = (part.partition("=") for part in account.connection_string.split(";"))
    named = {name.strip().lower(): value.strip() for name, _, value in parts}
    if key := named.get("accountkey"):
        return Signer(url=url, account=named.get("accountname", ""), key=key, refusal=_unusable(key))
    return Signer(url=url, sas=query, refusal=why_not(query, https=url.startswith("https:"), now=now))


def _lent(url: str, delegation: Delegation, now: datetime) -> Signer:
    """Who gives out addresses with keys that the account lends."""
    where = urlsplit(url)
    by_path = where.path.strip("/").rpartition("/")[0]
    try:
        delegation.key(now)
    except ConfigurationError as error:
        return Signer(url=url, refusal=f"no key to sign with is lent: {error.what.rstrip('.')}")
    name = by_path or (where.hostname or "").partition(".")[0]
    return Signer(url=url, account=name, delegation=delegation)


def _unusable(key: str) -> str:
    try:
        base64.b64decode(key, validate=True)
    except binascii.Error:
        return "its key is not base64"
    return ""


def why_not(sas: str, *, https: bool, now: datetime) -> str:
    """Why a connection's own SAS may not be handed to the VM, or "": it must read only, soon end, and keep to TLS."""
    fields = {name: values[0] for name, values in parse_qs(sas.lstrip("?")).items()}
    if not fields.get("sig"):
        return "it has neither a key nor a SAS"
    granted, ends = set(fields.get("sp", "")), _ends(fields.get("se", ""))
    wrong = ""
    if not granted or granted - READING:
        wrong = f"allows more than reading (sp={fields.get('sp', '')})"
    elif fields.get("sr") not in CONTAINER_OR_BLOB:
        wrong = "opens more than one container"
    elif ends is None:
        wrong = "does not say when it ends"
    elif ends - now > LONGEST:
        wrong = f"is valid for more than an hour (until {fields['se']})"
    elif https and fields.get("spr") != "https":
        wrong = "is also good without TLS (no spr=https)"
    return f"it has no key to sign with, and its SAS {wrong}" if wrong else ""


def _ends(text: str) -> datetime | None:
    try:
        ends = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ends if ends.tzinfo else ends.replace(tzinfo=UTC)
