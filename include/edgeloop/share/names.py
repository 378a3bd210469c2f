"""Names on a share: which of them count, and which no batch can carry."""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError
from edgeloop.share.source import Broken

if TYPE_CHECKING:
    from collections.abc import Callable

DEEPEST = 64
"""How many folders below the source's own are looked into; a loop of links on a server looks like many."""
WILD = re.compile(r"[*?\[]")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def speakable(path: str) -> bool:
    """Whether a record, a blob's name and a log can carry ``path``: UTF-8 without control characters."""
    return (path.isascii() and path.isprintable()) or (not CONTROL.search(path) and _encodes(path))


def shown(path: str) -> str:
    """``path`` in characters that are safe in a log."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", path).encode(errors="backslashreplace").decode()


def refused(path: str) -> Broken:
    """What is told about a file that no batch can carry."""
    return Broken(shown(path), "its name is not UTF-8 or holds control characters; rename it")


def too_deep(path: str) -> Broken:
    """What is told about a folder whose files nobody looks for."""
    return Broken(path, f"lies more than {DEEPEST} folders deep; move it up")


def no_entry(path: str) -> Broken:
    """What is told about a folder, or what is in it, that is closed to us while the others are open."""
    return Broken(shown(path), "may not be looked at; give the connection's user the right to list it")


def unreadable(path: str) -> Broken:
    """What is told about a file that may be seen and not be read."""
    return Broken(path, "may not be read; give the connection's user the right to read it")


def inner(folder: str, connection: str, place: str) -> str:
    """``folder`` as a plain relative path; raises ``ConfigurationError`` if it leads out of ``place``."""
    plain = PurePosixPath(folder.replace("\\", "/"))
    if plain.is_absolute() or ".." in plain.parts:
        raise ConfigurationError(
            f"source.folder {folder!r} leads out of the {place} behind connection {connection!r}.",
            left="nothing was read",
            next=f"Write it relative to the {place}, for example 'folder: historian/exports'.",
        )
    return "" if str(plain) == "." else str(plain)


class Matching:
    """Which names a listing keeps: a glob for data, globs for what is passed over, and one for markers, if any.

    What is excluded is not entered and is no data. A marker is what its own glob says, excluded or not.
    """

    def __init__(self, pattern: str, exclude: tuple[str, ...], marker: str) -> None:
        self.exclude = exclude
        self.wanted, self.excluded = matcher((pattern,)), matcher(exclude)
        self.marks = matcher((marker,)) if marker else None
        self.is_plain = all(is_plain(one.strip("*")) for one in exclude)
        """Whether a name alone says, byte by byte, that it is excluded."""

    def hides(self, folder: str) -> bool:
        """Whether ``folder``, or one above it, is excluded."""
        parts = folder.split("/")
        return any(self.excluded(part, "/".join(parts[: at + 1])) for at, part in enumerate(parts))


@lru_cache(maxsize=256)
def matcher(patterns: tuple[str, ...]) -> Callable[[str, str], bool]:
    """A function of (name, path) that tells whether any of the globs matches.

    A glob with a slash is matched against the path, one without against the name. The common ones, such as ``*.csv``,
    are compared without a regular expression: three times faster over 100,000 names.
    """
    ends = tuple(one[1:] for one in patterns if is_plain(one[1:]) and one.startswith("*"))
    starts = tuple(one[:-1] for one in patterns if is_plain(one[:-1]) and one.endswith("*"))
    rest = [one for one in patterns if not (one[:1] == "*" and is_plain(one[1:]))]
    rest = [one for one in rest if not (one[-1:] == "*" and is_plain(one[:-1]))]
    by_name = _either([one for one in rest if "/" not in one])
    by_path = _either([one for one in rest if "/" in one])

    if by_name is None and by_path is None:
        if not starts:
            return lambda name, _: name.endswith(ends)
        return lambda name, _: name.endswith(ends) or name.startswith(starts)

    def matches(name: str, path: str) -> bool:
        return (
            name.endswith(ends)
            or name.startswith(starts)
            or (by_name is not None and by_name.match(name) is not None)
            or (by_path is not None and by_path.match(path) is not None)
        )

    return matches


def is_plain(glob: str) -> bool:
    """Whether a glob is a plain name, or a part of one."""
    return not WILD.search(glob) and "/" not in glob


def _either(patterns: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(fnmatch.translate(one) for one in patterns)) if patterns else None


def _encodes(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
