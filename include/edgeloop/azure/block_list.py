"""The lists of blocks that a blob is made of, or may be, as the service reads and writes them in XML. Pure."""

from __future__ import annotations

import base64
import binascii

COMMITTED, UNCOMMITTED = "committed", "uncommitted"
_PARTS = {COMMITTED: "CommittedBlocks", UNCOMMITTED: "UncommittedBlocks"}


def encoded(block: str) -> str:
    """A block's id as it travels."""
    return base64.b64encode(block.encode()).decode()


def to_xml(blocks: list[str]) -> bytes:
    """The body of Put Block List: these blocks, in this order, as they were sent last."""
    rows = "".join(f"<Latest>{encoded(one)}</Latest>" for one in blocks)
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{rows}</BlockList>'.encode()


def of_xml(body: bytes, kind: str) -> dict[str, int]:
    """Ids and sizes in bytes of an answer to Get Block List, in its order; ``kind`` is COMMITTED or UNCOMMITTED."""
    from xml.etree import ElementTree as ET

    rows = ET.fromstring(body).find(_PARTS[kind])  # noqa: S314 - the account's own answer, as the SDK reads it
    return {
        _decoded(one.findtext("Name") or ""): int(one.findtext("Size") or 0)
        for one in (() if rows is None else rows.iter("Block"))
    }


def _decoded(name: str) -> str:
    try:
        return base64.b64decode(name, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return name  # another program's, which the SDK gives as it is too
