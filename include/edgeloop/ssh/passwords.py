"""Whether a password can be guessed, by a rule that anybody can check with a pencil.

A password is worth the bits of what is left of it once everything is taken out that guessers try first: words on a
short list, the login's own names, years and dates, runs (abcd, 4321, qwert) and repeated parts. It is no dictionary
of the world's leaked passwords: a long word that is not on the list counts as if it were random letters. Therefore
the bar is high, and a key is better.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MINIMUM_LENGTH = 16
MINIMUM_BITS = 64.0
"""Of 2^64 guesses sshd answers a few hundred a second at most, and a stolen hash is safe for years."""
PART_BITS = 4.0
"""What a part that guessers try first is worth: they still have to know where it stands."""
RUN = 4
SHORTEST_NAME = 3
WORDS = (
    "password", "passwort", "passwd", "admin", "administrator", "root", "welcome", "letmein", "login", "secret",
    "change", "changeme", "default", "dragon", "monkey", "sunshine", "princess", "football", "iloveyou",
    "master", "summer", "winter", "spring", "autumn", "azure", "stackhub", "stack", "hub", "edge", "edgeloop", "loop",
    "train", "trainer", "training", "airflow", "docker", "ubuntu", "debian", "linux", "server", "machine", "test",
    "user", "guest", "company", "correct", "horse", "battery", "staple", "hello", "world",
)  # fmt: skip
ROWS = ("abcdefghijklmnopqrstuvwxyz", "0123456789", "qwertyuiop", "qwertzuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm")
LOOKS_LIKE = str.maketrans("@4301!$5|7", "aaeoiissit")
YEAR = re.compile(r"(?:19|20)\d\d")
REPEAT = re.compile(r"(.{1,8}?)\1{2,}")
SETS = ((r"[a-z]", 26), (r"[A-Z]", 26), (r"[0-9]", 10), (r"[^a-zA-Z0-9]", 33))


def weakness(password: str, known: tuple[str, ...] = ()) -> str:
    """Why a password is refused, in words that do not quote it; "" if it is strong.

    Args:
        password: The password.
        known: Names that a guesser knows: the user, the host.
    """
    if len(password) < MINIMUM_LENGTH:
        return f"it has {len(password)} characters, {MINIMUM_LENGTH} are the least"
    parts, rest = _guessable(password, known)
    bits = PART_BITS * len(parts) + _bits(rest)
    if bits >= MINIMUM_BITS:
        return ""
    because = f" because it contains {', '.join(dict.fromkeys(parts))}" if parts else ""
    return f"it is worth about {bits:.0f} bits{because}, {MINIMUM_BITS:.0f} are the least"


def _guessable(password: str, known: tuple[str, ...]) -> tuple[list[str], str]:
    """The parts that guessers try first, by kind, and what is left without them."""
    parts, rest = [], password
    for kind, pattern in _patterns(known):
        # Letters that stand for others ("p4ssw0rd") have the same length, so a place in one is a place in the other.
        while found := re.search(pattern, rest.lower()) or re.search(pattern, rest.lower().translate(LOOKS_LIKE)):
            parts.append(kind)
            rest = rest[: found.start()] + rest[found.end() :]
    while found := REPEAT.search(rest):
        parts.append("a repeated part")
        rest = rest[: found.start()] + found.group(1) + rest[found.end() :]
    return parts, rest


def _patterns(known: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    names = {part for name in known for part in re.split(r"[^a-z0-9]+", name.lower()) if len(part) >= SHORTEST_NAME}
    for name in sorted(names, key=lambda one: (-len(one), one)):
        yield "a name of the login", re.escape(name)
    for word in sorted(WORDS, key=lambda one: (-len(one), one)):
        yield "a common word", word
    yield "a year", YEAR.pattern
    for row in (one[::step] for one in ROWS for step in (1, -1)):
        for length in range(len(row), RUN - 1, -1):
            for start in range(len(row) - length + 1):
                yield "a run of keys or letters", row[start : start + length]


def _bits(rest: str) -> float:
    """Bits of a text whose characters were drawn from the sets it uses."""
    size = sum(count for pattern, count in SETS if re.search(pattern, rest))
    distinct = len(set(rest))
    # Sixteen characters of which four differ are not worth sixteen.
    return len(rest) * math.log2(max(min(size, distinct * 4), 1))
