"""The check at run: nothing of an ``on_premises`` pipeline goes to a host that is not at the site.

Connections can be edited between load and run, so what counts is where the client that was made of them leads to: the
host's name, the name that DNS leads on to, and its addresses.
"""

from __future__ import annotations

import ipaddress
import socket
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import ResidencyError
from edgeloop.residency import permits, private, refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.pipeline import Pipeline

PUBLIC_CLOUDS = (
    # Azure's public clouds: storage, virtual machines, front doors, and what a name of one's own is an alias of.
    "windows.net", "azure.com", "azure.net", "azurefd.net", "azureedge.net", "trafficmanager.net", "cloudapp.net",
    "azurewebsites.net", "chinacloudapi.cn", "azure.cn", "usgovcloudapi.net", "azure.us", "cloudapi.de",
    "microsoft.scloud", "eaglex.ic.gov", "amazonaws.com", "googleapis.com",
)  # fmt: skip
"""Suffixes of public clouds' host names; Azure's are those of its clouds' documented endpoint suffixes."""
LOOK_UP_AGAIN = "Admin > Connections"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What DNS says of a host: the name at the end of its aliases, and its addresses; empty if it says nothing."""

    name: str = ""
    addresses: tuple[str, ...] = ()


def resolve(host: str) -> Resolved:
    """Ask DNS; a host that it does not know is not reached either, and whoever tries says so."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    except (OSError, UnicodeError):
        return Resolved()
    names = [name for _, _, _, name, _ in found if name]
    return Resolved(name=names[0] if names else "", addresses=tuple(sorted({str(one[4][0]) for one in found})))


def why_public(host: str, resolved: Resolved, *, public_address: bool = False) -> str:
    """Why a host is not at the site, or "". ``public_address`` vouches for one that has an address of the internet."""
    name = plain(host)
    if cloud := _cloud_of(name):
        return f"{name} is in a public cloud ({cloud})"
    if cloud := _cloud_of(plain(resolved.name)):
        return f"{name} is only another name of {plain(resolved.name)}, which is in a public cloud ({cloud})"
    if public_address:
        return ""
    wide = [one for one in (name, *resolved.addresses) if _is_global(one)]
    return f"{name} has an address of the public internet ({wide[0]})" if wide else ""


def plain(host: str) -> str:
    """A host's name as DNS compares it: "ACCOUNT.blob.core.windows。net." is account.blob.core.windows.net too."""
    return unicodedata.normalize("NFKC", host).replace("\u3002", ".").strip(".[] ").casefold()


def _cloud_of(name: str) -> str:
    return next((one for one in PUBLIC_CLOUDS if name == one or name.endswith(f".{one}")), "")


def _is_global(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_global
    return address.is_global


def require_private(spec: Pipeline, container: BlobContainer, *, resolver: Callable[[str], Resolved] = resolve) -> None:
    """Raise ``ResidencyError`` unless the pipeline may keep its data behind ``container``; asks nobody but DNS."""
    require_configuration(spec)
    require_hosts(spec, container.account.connection, container.hosts, what="data and records", resolver=resolver)


def require_configuration(spec: Pipeline) -> None:
    """Raise ``ResidencyError`` if the configuration itself lets something leave, wherever it was read from."""
    found = refusals(spec)
    if found and private(spec):
        raise ResidencyError(
            f"Pipeline {spec.name} is on_premises, but its configuration lets something leave:\n"
            + "\n".join(f"  {one.field}: {one.remedy}" for one in found),
            left="everything where it is; nothing was sent",
            next="Correct pipeline.yaml, then clear the task. A batch that was claimed under the other configuration "
            'is run under today\'s by triggering its DAG with the same partition key and {"force": "<why>"}.',
        )


def require_hosts(
    spec: Pipeline,
    connection: str,
    hosts: Iterable[str],
    *,
    what: str,
    resolver: Callable[[str], Resolved] = resolve,
) -> None:
    """Raise ``ResidencyError`` if any of a connection's hosts is not at the site; ``what`` was to be sent there."""
    if not private(spec):
        return
    vouched = permits(spec, "public_address")
    for host in hosts:
        if why := why_public(host, resolver(host), public_address=vouched):
            raise ResidencyError(
                f"{what.capitalize()} of pipeline {spec.name}, which is on_premises, were about to leave the site: "
                f"{why}; connection {connection!r} leads there.",
                left="everything where it is; nothing was sent",
                next=f"Look at it with `airflow connections get {connection}` and correct its endpoint under "
                f"{LOOK_UP_AGAIN}, then clear the task. If the host is at the site all the same and only its address "
                "is public, say so with residency_permits: [public_address]; if the data may leave, with "
                "residency: cloud.",
            )


def require_local_logs(spec: Pipeline, *, remote: str) -> None:
    """Raise ``ResidencyError`` if task logs, in which train.py's own words stand, are sent to ``remote``."""
    if remote and not permits(spec, "remote_logs"):
        raise ResidencyError(
            f"The training's own words of pipeline {spec.name}, which is on_premises, were about to leave the site: "
            f"task logs are sent to {remote}.",
            left="everything where it is; nothing was started on the VM",
            next="Keep the logs at the site (AIRFLOW__LOGGING__REMOTE_LOGGING=False), or, if that place is at the site "
            "or train.py prints no values, say so with residency_permits: [remote_logs]. Then clear the task.",
        )
