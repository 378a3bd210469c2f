"""Reading Docker's log piece by piece: every line once, in order, and a word where lines were lost.

Docker stamps a line before it writes it, and the two outputs are written by two threads: a line can stand behind one
with a later stamp (19 of 40,000 when both ran at full speed). So the last moment is read again, and what was passed on
is told by stamp and text. A log of 200 MB is searched for two seconds with ``--since`` alone and for 0.03 s with
``--tail``: so the end is asked for, and the whole only when the end does not reach back to the last line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from edgeloop.training.follow_commands import PIECE_BYTES

TAIL = 1000
OVERLAP_NS = 100_000_000
STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z(?= |$)")
STAMP_LENGTH = 30
CUT = " ... (the line goes on for more than {} MB; all of it is in `docker logs` on the VM)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What to ask Docker for: lines since a stamp, itself included, and at most the last ``tail``; 0 is all."""

    since: str = ""
    tail: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the log: Docker's stamp, 30 characters that compare as text, and what the job said."""

    stamp: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What a reply held: lines to pass on, what to ask next at once, words of trouble."""

    entries: tuple[Entry, ...] = ()
    more: Ask | None = None
    trouble: str = ""


class LogReader:
    """Knows up to where a job's log was passed on.

    Args:
        place: The stamp of the last line that somebody passed on before; "" begins at the beginning.
    """

    def __init__(self, place: str = "") -> None:
        self.cursor = self._floor = place
        self._recent: set[tuple[str, str]] = set()
        self._troubles: set[str] = set()

    def ask(self) -> Ask:
        """What to ask for at a new look."""
        return Ask(since=shifted(self.cursor, -OVERLAP_NS), tail=TAIL) if self.cursor else Ask()

    def passed(self, entry: Entry) -> None:
        """This line was passed on."""
        self._recent.add((entry.stamp, entry.text))
        self.cursor = max(self.cursor, entry.stamp)

    def take(self, raw: bytes, ask: Ask) -> Piece:
        """Read the reply to ``ask``; every entry of it is to be ``passed`` before the next reply is taken."""
        cut = len(raw) >= PIECE_BYTES
        entries, said = split(raw, cut=cut)
        trouble = self._new_trouble(said)
        if self.cursor and ask.tail and entries and entries[0].stamp > self.cursor:
            # More lines than the end holds, or they are gone: the whole tells.
            return Piece(more=Ask(since=ask.since), trouble=trouble)
        if self._lost(entries, ask):
            trouble = f"{trouble}\n{LOST.format(self.cursor, entries[0].stamp)}".strip()
        fresh = tuple(one for one in entries if self._fresh(one))
        self._forget_old()
        return Piece(entries=fresh, more=self._more(entries, fresh) if cut else None, trouble=trouble)

    def _lost(self, entries: list[Entry], ask: Ask) -> bool:
        """Whether the line passed on last is no longer there, though it was asked for."""
        return bool(self.cursor and entries and ask.since <= self.cursor and entries[0].stamp > self.cursor)

    def _fresh(self, entry: Entry) -> bool:
        return entry.stamp > self._floor and (entry.stamp, entry.text) not in self._recent

    def _more(self, entries: list[Entry], fresh: tuple[Entry, ...]) -> Ask:
        last = max((one.stamp for one in entries), default=self.cursor)
        if not fresh:
            # The last moment alone fills a piece: go past it.
            return Ask(since=shifted(max(last, self.cursor), 1))
        return Ask(since=shifted(last, -OVERLAP_NS))

    def _forget_old(self) -> None:
        if self.cursor:
            floor = shifted(self.cursor, -2 * OVERLAP_NS)
            self._recent = {one for one in self._recent if one[0] >= floor}

    def _new_trouble(self, said: list[str]) -> str:
        new = [one for one in dict.fromkeys(said) if one not in self._troubles]
        self._troubles.update(new)
        return "\n".join(f"docker logs: {one}" for one in new)


LOST = (
    "Lines were lost: Docker keeps the last 256 MB of a job's log, and the job wrote more between {} (the last line "
    "above) and {} (the next one)."
)


def split(raw: bytes, *, cut: bool = False) -> tuple[list[Entry], list[str]]:
    """The entries of ``docker logs --timestamps``, and the lines that carry no stamp: the command's own complaints.

    The last line of a piece that was cut is left for the next one, unless it is all there is.
    """
    ended = raw.rfind(b"\n") + 1
    giant = cut and not ended
    if cut and ended:
        raw = raw[:ended]
    entries, said = [], []
    for line in raw.split(b"\n"):
        stamp = STAMP.match(line)
        if stamp is None:
            said += [line.decode(errors="replace").strip()] if line.strip() else []
            continue
        # Docker keeps a line of more than 16 KiB in parts and prints the first part's stamp before each.
        text = line[STAMP_LENGTH + 1 :].replace(stamp.group() + b" ", b"").decode(errors="replace").rstrip("\r")
        entries.append(Entry(stamp=stamp.group().decode(), text=text + CUT.format(PIECE_BYTES // 10**6) * giant))
    return entries, said


def padded(stamp: str) -> str:
    """A time as Docker's inspect writes it, without zeros at its end, as the log writes it."""
    whole, _, rest = stamp.removesuffix("Z").partition(".")
    return f"{whole}.{rest:<09}Z" if whole else ""


def shifted(stamp: str, nanoseconds: int) -> str:
    """A stamp so many nanoseconds later."""
    whole = datetime.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    total = int(whole.timestamp()) * 10**9 + int(stamp[20:29]) + nanoseconds
    seconds, rest = divmod(total, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
