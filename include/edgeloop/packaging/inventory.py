"""What is inside a layer: the Python distributions and Debian packages that its own files name.

Debian's are in ``var/lib/dpkg/status``, or one file each in ``status.d`` where a base was made without dpkg; Python's
are the ``METADATA`` of each ``dist-info``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import TYPE_CHECKING

from edgeloop.records import canonical_json

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterable, Mapping

STATUS = "var/lib/dpkg/status"
STATUS_D = "var/lib/dpkg/status.d/"
RELEASES = ("usr/lib/os-release", "etc/os-release")
METADATA = re.compile(r"(?P<folder>.*/)[^/]+\.dist-info/METADATA")
MOST_BYTES = 64 * 1024 * 1024
"""A package list that is larger is none."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Package:
    """A package of ``kind`` ``pypi`` or ``deb``; ``where`` is a Python one's folder, a Debian one's architecture."""

    kind: str
    name: str
    version: str
    where: str = ""
    source: str = ""
    """Of a Debian package: the source package where it is called otherwise, as advisories name it."""
    source_version: str = ""
    """Of a Debian package: the source's version where it is another, as a rebuild of the same source has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The packages of a layer or an image; ``whole`` if it holds dpkg's own list, which replaces those below it."""

    packages: tuple[Package, ...] = ()
    whole: bool = False
    release: str = ""
    """The distribution: ``debian-12``."""
    codename: str = ""
    """Its suite: ``bookworm``; "" in inventories that were written before it was read."""

    def over(self, lower: Inventory) -> Inventory:
        """What an image holds when this layer lies on ``lower``; a distribution put over another takes its place."""
        kept = {(one.kind, one.name, one.where): one for one in lower.packages if one.kind != "deb" or not self.whole}
        kept |= {(one.kind, one.name, one.where): one for one in self.packages}
        return Inventory(
            packages=tuple(sorted(kept.values())),
            whole=self.whole or lower.whole,
            release=self.release or lower.release,
            codename=self.codename or lower.codename,
        )

    def of(self, kind: str) -> tuple[Package, ...]:
        """The packages of one kind."""
        return tuple(one for one in self.packages if one.kind == kind)

    def to_json(self) -> str:
        """Canonical JSON."""
        rows = [[one.kind, one.name, one.version, one.where, one.source, one.source_version] for one in self.packages]
        body = {"packages": rows, "whole": self.whole, "release": self.release, "codename": self.codename}
        return canonical_json(body).decode()

    @classmethod
    def from_json(cls, text: str) -> Inventory:
        """Back from :meth:`to_json`."""
        body = json.loads(text)
        packages = tuple(
            Package(kind=kind, name=name, version=version, where=where, source=source, source_version="".join(more))
            for kind, name, version, where, source, *more in body["packages"]
        )
        return cls(packages=packages, whole=body["whole"], release=body["release"], codename=body.get("codename", ""))


def read(layer: tarfile.TarFile) -> Inventory:
    """The inventory of a layer, read from its tar in one pass."""
    packages: list[Package] = []
    whole, release, codename = False, "", ""
    for member in layer:
        name = member.name.removeprefix("./")
        found = METADATA.fullmatch(name)
        if not member.isfile() or member.size > MOST_BYTES:
            continue
        if not (found or name == STATUS or name.startswith(STATUS_D) or name in RELEASES):
            continue
        stream = layer.extractfile(member)
        text = stream.read().decode(errors="replace") if stream else ""
        if found:
            packages += _distribution(text, found["folder"])
        elif name in RELEASES:
            release, codename = _release(text) or release, _named(text, "VERSION_CODENAME") or codename
        else:
            whole = whole or name == STATUS
            packages += _debian(text)
    return Inventory(packages=tuple(sorted(set(packages))), whole=whole, release=release, codename=codename)


def united(layers: Iterable[Inventory]) -> Inventory:
    """Of layers from the base upwards, what the image holds."""
    whole = Inventory()
    for one in layers:
        whole = one.over(whole)
    return whole


def _distribution(text: str, folder: str) -> list[Package]:
    fields = HeaderParser().parsestr(text, headersonly=True)
    name, version = fields.get("Name"), fields.get("Version")
    return [Package(kind="pypi", name=name.strip(), version=version.strip(), where=folder)] if name and version else []


def _debian(text: str) -> list[Package]:
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(HeaderParser().parsestr(stanza.strip("\n"), headersonly=True).items())
        if fields.get("Package") and fields.get("Version") and fields.get("Status", "installed").endswith("installed"):
            found.append(_package(fields))
    return found


def _package(fields: Mapping[str, str]) -> Package:
    source, _, version = fields.get("Source", "").partition(" ")
    return Package(
        kind="deb",
        name=fields["Package"],
        version=fields["Version"],
        where=fields.get("Architecture", ""),
        source="" if source == fields["Package"] else source,
        source_version=version.strip("()"),
    )


def _release(text: str) -> str:
    name, version = _named(text, "ID"), _named(text, "VERSION_ID")
    return f"{name}-{version}" if name and version else name


def _named(text: str, field: str) -> str:
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return fields.get(field, "").strip('"')
