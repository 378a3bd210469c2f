"""Known vulnerabilities of an image's Python distributions, asked of a database by pip-audit where one is reachable.

It never fails a packaging and never passes in silence: what could not be asked stands in the answer as not asked.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.records import canonical_json, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeloop.packaging.inventory import Inventory, Package

PYTHON = "Python distributions"
SOCKET_SECONDS, WHOLE_SECONDS = 5, 60.0
LAST_WORDS = 300
FIXED = " fixed"
"""How a finding ends that an upgrade of the package removes, where the database says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What a database said: ``findings`` read ``name version advisory``, ``unknown`` are those it did not judge.

    ``debian`` is what another one said of the image's Debian packages.
    """

    asked: int
    findings: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    why: str = ""
    """Why nothing was answered."""
    of: str = PYTHON
    debian: Audit | None = None

    @property
    def complete(self) -> bool:
        """Whether every package was judged."""
        return not self.unknown and not self.why and (self.debian is None or self.debian.complete)

    @property
    def pressing(self) -> tuple[str, ...]:
        """The findings to tell at once: of Debian, which lists what nobody will ever fix, those that are fixed."""
        return self.findings if self.of == PYTHON else tuple(one for one in self.findings if one.endswith(FIXED))

    @property
    def parts(self) -> tuple[Audit, ...]:
        """Each database's answer."""
        return (self,) if self.debian is None else (self, self.debian)

    def __str__(self) -> str:
        """One line for a log."""
        if self.why:
            return f"no vulnerability database answered for {self.asked} {self.of}: {self.why}"
        said = f"{len(self.findings)} known vulnerabilities in {self.asked - len(self.unknown)} {self.of}"
        if self.of != PYTHON:
            said += f", {len(self.pressing)} of them fixed by newer ones"
        listed = f" ({'; '.join(self.pressing)})" if self.pressing else ""
        return said + listed + (f"; not judged: {', '.join(self.unknown)}" if self.unknown else "")

    def to_json(self) -> str:
        """Canonical JSON, as it stands in the image's record."""
        return canonical_json(_body(self) | ({} if self.debian is None else {"debian": _body(self.debian)})).decode()

    @classmethod
    def from_json(cls, text: str) -> Audit:
        """Back from :meth:`to_json`."""
        body = json.loads(text)
        debian = body.pop("debian", None)
        return replace(_of(body), debian=None if debian is None else _of(debian))


def _body(one: Audit) -> dict[str, Any]:
    body = {"asked": one.asked, "findings": list(one.findings), "unknown": list(one.unknown), "why": one.why}
    return body if one.of == PYTHON else body | {"of": one.of}


def _of(body: dict[str, Any]) -> Audit:
    return Audit(**body | {name: tuple(body[name]) for name in ("findings", "unknown")})


def key(inside: Inventory, day: str) -> str:
    """What an answer holds for: these packages, on this day."""
    debian = [inside.codename, *(f"{one.name}={one.version}" for one in inside.of("deb"))]
    return f"{day}-{sha256_hex(canonical_json([_pins(inside.packages), debian]))[:32]}"


def command(requirements: Sequence[Path]) -> list[str]:
    """The call of pip-audit: it installs nothing and resolves nothing, the pins are the image's own."""
    files = [part for one in requirements for part in ("-r", str(one))]
    quiet = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--desc", "off"]
    return [sys.executable, "-m", "pip_audit", *files, *quiet, "-f", "json", "--timeout", str(SOCKET_SECONDS)]


def run(packages: Sequence[Package], *, whole_seconds: float = WHOLE_SECONDS) -> Audit:
    """Ask; takes at most ``whole_seconds`` and raises nothing of what the database or the network does."""
    pins = _pins(packages)
    if not pins:
        return Audit(asked=0)
    with tempfile.TemporaryDirectory() as scratch:
        files = []
        for number, lines in enumerate(_without_repeats(pins)):
            files.append(Path(scratch) / f"{number}.txt")
            files[-1].write_text("\n".join(lines), encoding="utf-8")
        told = [*command(files), "--cache-dir", str(Path(scratch) / "cache")]
        try:
            done = subprocess.run(told, capture_output=True, text=True, timeout=whole_seconds, check=False)
        except subprocess.TimeoutExpired:
            return Audit(asked=len(pins), why=f"not done after {whole_seconds:.0f} s")
    return parse(done.stdout, done.stderr, pins)


def parse(out: str, err: str, pins: Sequence[str]) -> Audit:
    """What pip-audit's JSON says.

    It calls a distribution that the database does not know "no known vulnerabilities found" and ends with 0; here that
    is one that was not judged.
    """
    try:
        judged: list[dict[str, Any]] = json.loads(out)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (err.strip().splitlines() or ["it said nothing"])[-1]
        return Audit(asked=len(pins), why=last[-LAST_WORDS:])
    findings = {
        f"{one['name']} {one['version']} {found['id']}" for one in judged if "vulns" in one for found in one["vulns"]
    }
    answered = {f"{_normal(one['name'])}=={one['version']}" for one in judged if "vulns" in one}
    unknown = tuple(one for one in pins if one not in answered)
    if len(unknown) == len(pins):
        return Audit(asked=len(pins), unknown=unknown, why="it knew none of them")
    return Audit(asked=len(pins), findings=tuple(sorted(findings)), unknown=unknown)


def _pins(packages: Sequence[Package]) -> list[str]:
    return sorted({f"{_normal(one.name)}=={one.version}" for one in packages if one.kind == "pypi"})


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _without_repeats(pins: Sequence[str]) -> list[list[str]]:
    """One list per version of a name: pip-audit refuses a file that pins a name twice."""
    named = [list(group) for _, group in groupby(pins, key=lambda one: one.partition("==")[0])]
    return [[group[turn] for group in named if turn < len(group)] for turn in range(max(map(len, named)))]
