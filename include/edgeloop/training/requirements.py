"""A pipeline's requirements file for train.py: everything pinned, everything with a hash. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(\[[A-Za-z0-9._,\s-]*\])?")
PIN = re.compile(r"===?\s*([A-Za-z0-9][A-Za-z0-9._+!-]*)\s*(;.*)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
REMEDY = "compile the file with `uv pip compile --generate-hashes` (or pip-compile --generate-hashes)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One requirement: its name as it is compared, its version, and whether it is for every platform."""

    name: str
    version: str
    always: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """What is wrong in a line, and what to write instead."""

    line: int
    remedy: str


def read(text: str) -> tuple[list[Pin], list[Mistake]]:
    """The pins of a requirements file, and all that keeps it from being installed exactly as it was resolved."""
    pins: list[Pin] = []
    mistakes: list[Mistake] = []
    for number, line in _logical(text):
        found = _pin(line)
        if isinstance(found, Pin):
            pins.append(found)
        else:
            mistakes.append(Mistake(line=number, remedy=found))
    names = [one.name for one in pins if one.always]
    if twice := sorted({one for one in names if names.count(one) > 1}):
        mistakes.append(Mistake(line=0, remedy=f"pins {', '.join(twice)} more than once; {REMEDY}"))
    if not pins and not mistakes:
        mistakes.append(Mistake(line=0, remedy="holds no requirement; write some, or leave training.requirements out"))
    return pins, mistakes


def _pin(line: str) -> Pin | str:
    words, hashes = HASH.sub("", line).strip(), HASH.findall(line)
    if words.startswith("-"):
        return f"has the option {words.split()[0]!r}; packages come from where the worker's pip is told to look"
    name = NAME.match(words)
    rest = words[name.end() :].strip() if name else words
    if name is None or rest.startswith("@") or "://" in words or words.startswith((".", "/")):
        return f"is no package of an index; write name==version and a hash: {REMEDY}"
    pinned = PIN.fullmatch(rest)
    if pinned is None or "--" in rest:
        return f"does not pin {name[1]} to one version with ==; {REMEDY}"
    if not hashes:
        return f"has no --hash=sha256:... for {name[1]}; {REMEDY}"
    return Pin(name=normal(name[1]), version=pinned[1], always=not pinned[2])


def normal(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """Lines put together where they end in a backslash, without comments, with the number of their first."""
    parts: list[str] = []
    first = 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first or number
        bare = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        parts.append(bare.removesuffix("\\"))
        if bare.endswith("\\"):
            continue
        if joined := " ".join(parts).strip():
            yield first, joined
        parts, first = [], 0
    if joined := " ".join(parts).strip():
        yield first, joined
