"""Known vulnerabilities of an image's Debian packages, asked of Debian's security tracker by debsecan.

As :mod:`edgeloop.packaging.audit` does for Python: it fails nothing, and what could not be asked stands there as not
asked. debsecan is a Debian package of the worker's; another source of the tracker's data, for a network that is closed,
is ``SOURCE`` in its own ``/etc/default/debsecan``.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.packaging.audit import FIXED, LAST_WORDS, WHOLE_SECONDS, Audit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeloop.packaging.inventory import Inventory, Package

DEBSECAN = "debsecan"
OF = "Debian packages"
DEBIAN = "debian"
NO_SUITE = "GENERIC"
"""The tracker's data for no suite in particular, which does not say what is fixed."""


def run(inside: Inventory, *, source: str = "", whole_seconds: float = WHOLE_SECONDS) -> Audit:
    """Ask; takes at most ``whole_seconds`` and raises nothing of what the tracker or the network does.

    ``source`` is a URL in the place of the configured one.
    """
    packages = inside.of("deb")
    if inside.release.partition("-")[0] != DEBIAN:
        return _unanswered(packages, f"the base is {inside.release or 'of no named distribution'}, no Debian")
    if not packages:
        return _unanswered(packages, "the base lists no packages")
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch) / "status"
        listed.write_text(status(packages), encoding="utf-8")
        told = command(listed, inside.codename, source)
        try:
            done = subprocess.run(told, capture_output=True, text=True, timeout=whole_seconds, check=False)
        except FileNotFoundError:
            return _unanswered(packages, f"{DEBSECAN} is not installed where this ran")
        except subprocess.TimeoutExpired:
            return _unanswered(packages, f"not done after {whole_seconds:.0f} s")
    return parse(done.returncode, done.stdout, done.stderr, packages)


def command(listed: Path, suite: str, source: str = "") -> list[str]:
    """The call of debsecan; a whitelist of the machine's own says nothing of the image."""
    told = [DEBSECAN, "--status", str(listed), "--suite", suite or NO_SUITE, "--format", "summary"]
    return [*told, "--whitelist", f"{listed}.none", *(["--source", source] if source else [])]


def status(packages: Sequence[Package]) -> str:
    """The packages as dpkg lists them."""
    return "\n".join(
        f"Package: {one.name}\nStatus: install ok installed\nVersion: {one.version}\n{_source(one)}" for one in packages
    )


def parse(code: int, out: str, err: str, packages: Sequence[Package]) -> Audit:
    """What debsecan's lines say: ``<advisory> <package>``, in brackets whether an upgrade removes it."""
    if code or err.strip():
        return _unanswered(packages, (err.strip().splitlines() or [f"it ended with {code}"])[-1][-LAST_WORDS:])
    versions = {one.name: one.version for one in packages}
    findings = set[str]()
    for line in out.splitlines():
        advisory, name, *notes = line.split()
        fixed = FIXED if "fixed" in " ".join(notes).strip("()").split(", ") else ""
        findings.add(f"{name} {versions.get(name, '')} {advisory}{fixed}")
    return Audit(of=OF, asked=len(packages), findings=tuple(sorted(findings)))


def _unanswered(packages: Sequence[Package], why: str) -> Audit:
    return Audit(of=OF, asked=len(packages), why=why)


def _source(one: Package) -> str:
    if not (one.source or one.source_version):
        return ""
    return f"Source: {one.source or one.name}" + (f" ({one.source_version})\n" if one.source_version else "\n")
