"""The requests that transfers are made of, past the SDK's pipeline: blobs, blocks and the lists of both.

The SDK spends 1.3 ms of Python on each request, three times what hashing, signing and sending a small file costs, and
more than rclone needs for the whole of it, and half a second on being imported (benchmarks/upload.py). Limits,
time-outs and errors are those of every other request.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

from edgeloop.azure import account as accounts
from edgeloop.azure import problems
from edgeloop.azure.block_list import encoded, of_xml, to_xml
from edgeloop.azure.features import refuse_newer
from edgeloop.azure.listing import page
from edgeloop.azure.signing import shared_key
from edgeloop.azure.turn import waiting
from edgeloop.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import urllib3

    from edgeloop.azure.account import BlobAccount
    from edgeloop.azure.address import Address
    from edgeloop.azure.exchange import Pool, Reply
    from edgeloop.azure.listing import BlobItem

PAUSES = (0.3, 1.0, 3.0, 6.0)
CREATED, WHOLE, PARTIAL, NO_SUCH_RANGE, BAD = 201, 200, 206, 416, 400
CONNECTIONS = 64
AGENT = "edgeloop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranged:
    """A piece of a blob, and of which: whole size in bytes, etag without quotes."""

    size: int
    etag: str
    data: bytes


class Wire:
    """Kept connections to one container; safe to use from several threads."""

    def __init__(self, account: BlobAccount, address: Address) -> None:
        self._account, self._features, self._container = account, account.features, address.container
        where = urlsplit(address.url)
        self._path, self._sas = where.path, where.query
        self._version, self._key, self._tokens = address.version, address.key, address.tokens
        self._manager = _manager(account, where.scheme, where.hostname or "")
        url = f"{where.scheme}://{where.netloc}"
        self._url = f"{url}{where.path}"
        self._always = {"Host": where.netloc, "Accept-Encoding": "identity", "User-Agent": AGENT}
        self._pool: Pool | None = None
        # Asked at the pool itself, which saves parsing the same address with every request; a proxy that is no tunnel
        # is told all of it.
        if where.scheme == "https" or self._manager.proxy is None:
            self._url = where.path
            self._pool = cast("Pool", self._manager.connection_from_url(url))

    def put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> str:
        """Put Blob, only if the name is free; returns the etag. Checked by MD5 on arrival."""
        headers = {f"x-ms-meta-{key}": value for key, value in metadata.items()}
        headers |= {"x-ms-blob-type": "BlockBlob", "If-None-Match": "*"}
        return self._write(name, "", data, headers)

    def stage(self, name: str, block: str, data: bytes) -> None:
        """Put Block, checked by MD5 on arrival."""
        self._write(name, f"comp=block&blockid={quote(encoded(block), safe='')}", data, {})

    def commit(self, name: str, blocks: list[str], metadata: Mapping[str, str]) -> str:
        """Put Block List, only if the name is free; returns the etag."""
        headers = {f"x-ms-meta-{key}": value for key, value in metadata.items()}
        headers |= {"Content-Type": "application/xml", "If-None-Match": "*"}
        return self._write(name, "comp=blocklist", to_xml(blocks), headers)

    def blocks(self, name: str, kind: str) -> dict[str, int]:
        """Get Block List: ids and sizes of the blocks of one kind. Raises ``NotFoundError``."""
        reply = self._ask("GET", name, f"comp=blocklist&blocklisttype={kind}", {}, None)
        if reply.status != WHOLE:
            raise self._problem(name, reply)
        return of_xml(reply.data, kind)

    def _write(self, name: str, query: str, data: bytes, headers: dict[str, str]) -> str:
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        about = {
            "Content-Length": str(len(data)),
            "Content-Type": "application/octet-stream",
            "Content-MD5": base64.b64encode(digest).decode(),
        }
        reply = self._ask("PUT", name, query, about | headers, data)
        if reply.status != CREATED:
            raise self._problem(name, reply)
        return _etag(reply)

    def fetch(self, name: str, start: int, length: int, etag: str = "") -> Ranged:
        """At most ``length`` bytes from ``start``, of the version ``etag`` if one is given.

        Raises ``NotFoundError``, or ``IntegrityError`` when the blob is another version by now or has no such bytes.
        """
        headers = {"x-ms-range": f"bytes={start}-{start + length - 1}"}
        if etag:
            headers["If-Match"] = f'"{etag}"'
        reply = self._ask("GET", name, "", headers, None)
        if reply.status == NO_SUCH_RANGE and not start:
            # An empty blob has no first byte to ask for; everything else has one.
            reply = self._ask("GET", name, "", {}, None)
        if etag and reply.status == problems.CHANGED:
            raise IntegrityError(
                f"Blob {self._container}/{name} changed while it was read.", left="the blob", next="Clear the task."
            )
        if reply.status == NO_SUCH_RANGE:
            # What was there before a cut is longer than what is there now.
            raise IntegrityError(
                f"Blob {self._container}/{name} ends before byte {start}.", left="the blob", next="Clear the task."
            )
        if reply.status not in {WHOLE, PARTIAL}:
            raise self._problem(name, reply)
        whole = reply.headers.get("content-range", "").rpartition("/")[2]
        return Ranged(size=int(whole or len(reply.data)), etag=_etag(reply), data=reply.data)

    def listed(self, prefix: str, marker: str) -> tuple[list[BlobItem], str]:
        """A page of List Blobs, and the marker of the next one; "" after the last. Raises ``NotFoundError``."""
        wanted = {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker}
        query = "&".join(f"{key}={quote(value, safe='')}" for key, value in wanted.items() if value)
        reply = self._ask("GET", "", query, {}, None)
        if reply.status != WHOLE:
            raise self._problem(prefix, reply)
        return page(reply.data)

    def _ask(self, method: str, name: str, query: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        from urllib3.exceptions import HTTPError

        from edgeloop.azure.exchange import reply_of

        path = f"/{quote(name, safe='~/')}" if name else ""
        asked = f"?{query}" if query else ""
        sas = f"{'&' if query else '?'}{self._sas}" if self._sas else ""
        pauses = iter(PAUSES[: accounts.RETRIES])
        renewed = self._tokens is None
        while True:
            pause = next(pauses, None)
            signed = self._signed(method, path, query, headers)
            target = f"{self._url}{path}{asked}{sas}"
            try:
                if self._pool is not None:
                    reply = self._pool.ask(method, target, signed, body)
                else:
                    how: dict[str, Any] = {"headers": signed, "redirect": False, "retries": False}
                    with waiting:
                        reply = reply_of(self._manager.urlopen(method, target, body=body, **how))
            except HTTPError as error:
                # A service that hangs up under TLS ends in an SSLError too, and may be well again in a second.
                if pause is None or problems.UNTRUSTED in str(error):
                    raise problems.silent(self._account, error) from None  # it may quote a SAS
            else:
                if not renewed and self._renew(reply, signed):
                    renewed = True
                    continue
                if pause is None or not _again(reply):
                    return reply
            with waiting:
                time.sleep(pause)

    def _renew(self, reply: Reply, signed: Mapping[str, str]) -> bool:
        """Whether the reply refuses the token, which is then forgotten: the next request brings another."""
        refused = problems.refuses_token(reply.status, reply.headers.get("x-ms-error-code") or "")
        if refused and self._tokens is not None:
            self._tokens.refused(signed["Authorization"])
        return refused

    def _signed(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> dict[str, str]:
        dated = {**self._always, **headers, "x-ms-version": self._version, "x-ms-date": formatdate(usegmt=True)}
        wanted = dict(one.split("=", 1) for one in query.split("&")) if query else {}
        refuse_newer(self._features, dated, wanted)
        if self._key is not None:
            name, key = self._key
            dated["Authorization"] = shared_key(
                name, key, method=method, path=self._path + path, query=wanted, headers=dated
            )
        elif self._tokens is not None:
            dated["Authorization"] = self._tokens.header()
        return dated

    def _problem(self, name: str, reply: Reply) -> Exception:
        if reply.status in problems.REDIRECTS:
            return problems.redirected(self._account, reply.status, reply.headers.get("location") or "")
        reason = reply.headers.get("x-ms-error-code") or reply.reason or ""
        return problems.answered(self._account, f"{self._container}/{name}", reply.status, reason)


def _again(reply: Reply) -> bool:
    """Whether the same request may do better: the service is busy, or the bytes did not arrive as they were sent."""
    broken = reply.status == BAD and reply.headers.get("x-ms-error-code") == problems.CORRUPTED
    return broken or reply.status in problems.BUSY


def _etag(reply: Reply) -> str:
    return (reply.headers.get("etag") or "").strip('"')


def _manager(account: BlobAccount, scheme: str, host: str) -> urllib3.PoolManager:
    from urllib.request import getproxies, proxy_bypass

    import certifi
    import urllib3

    from edgeloop.azure.exchange import CLASSES

    trusted = account.ca_file or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    options: dict[str, Any] = {
        "maxsize": CONNECTIONS,
        "timeout": urllib3.Timeout(connect=accounts.CONNECT_SECONDS, read=accounts.IDLE_SECONDS),
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": trusted or certifi.where(),
    }
    proxy = None if proxy_bypass(host) else getproxies().get(scheme)
    manager = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
    manager.pool_classes_by_scheme = CLASSES
    return manager
