"""A bill of materials in two: what the base brings, the same for all its images, and what one image adds. Pure.

A registry takes a blob once. Whole, a bill of some 300 packages travelled with every retrained model and outweighed it;
in two, the base's part is there already. The image's part names it by a BOM-Link (CycloneDX 1.6, "Linking to Objects").
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from edgeloop.record_base import canonical_json, sha256_hex

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:edgeloop:sbom:base")
MODEL = "machine-learning-model"
BASE = "base"


def split(whole: bytes) -> tuple[bytes, bytes]:
    """The image's own part, then the base's, of a whole CycloneDX document in JSON."""
    body = json.loads(whole)
    packages = [one for one in body["components"] if one["type"] != MODEL]
    refs = {one["bom-ref"] for one in packages}
    depends = body.get("dependencies", [])
    base: dict[str, Any] = {name: body[name] for name in ("$schema", "bomFormat", "specVersion") if name in body}
    base |= {"version": 1, "components": packages, "dependencies": [one for one in depends if one["ref"] in refs]}
    serial = uuid.uuid5(NAMESPACE, sha256_hex(canonical_json(base)))
    base["serialNumber"] = f"urn:uuid:{serial}"
    link = {"type": "bom", "url": f"urn:cdx:{serial}/1"}
    stands_on = {"type": "container", "name": BASE, "bom-ref": BASE, "externalReferences": [link]}
    own = body | {
        "components": [stands_on, *(one for one in body["components"] if one["type"] == MODEL)],
        "dependencies": [{"ref": BASE}, *(_own(one, refs) for one in depends if one["ref"] not in refs)],
    }
    return canonical_json(own), canonical_json(base)


def _own(depends: dict[str, Any], refs: set[str]) -> dict[str, Any]:
    """What depended on packages depends on the base."""
    named = depends.get("dependsOn", [])
    kept = [one for one in named if one not in refs]
    if len(kept) == len(named):
        return depends
    return depends | {"dependsOn": [BASE, *kept]}
