"""The plant's historian: exports files to the site's share over SMB, as the real one would.

A file is written under a temporary suffix and renamed, so that nobody sees half of it under its own name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.records import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lab.site import Site

CONNECT_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """How many files were written, and how many were there already with the same bytes."""

    written: int
    found: int


def export(site: Site, folder: str, files: Iterable[Path]) -> Exported:
    """Write ``files`` into ``folder`` of the site's share over SMB; those there with the same bytes are left alone."""
    import smbclient

    share = site.share
    smbclient.register_session(
        share.host, username=share.user, password=share.password, port=share.port, connection_timeout=CONNECT_SECONDS
    )
    root = rf"\\{share.host}\{share.share}\{folder}"
    smbclient.makedirs(root, exist_ok=True, port=share.port)
    written = found = 0
    for file in files:
        content, target = file.read_bytes(), rf"{root}\{file.name}"
        local = share.path / folder / file.name
        if local.exists() and sha256_hex(local.read_bytes()) == sha256_hex(content):
            found += 1
            continue
        with smbclient.open_file(f"{target}.part", mode="wb", port=share.port) as out:
            out.write(content)
        smbclient.replace(f"{target}.part", target, port=share.port)
        written += 1
    return Exported(written=written, found=found)
