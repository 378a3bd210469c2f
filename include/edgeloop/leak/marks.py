"""Pieces to marks: the numbers, times and words of an output that may be fields, each with its place in the order."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgeloop.errors import LeakError
from edgeloop.leak import layer
from edgeloop.leak.chance import WINDOW
from edgeloop.leak.piece import Numbers
from edgeloop.leak.rows import digest, runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgeloop.leak.piece import Piece
    from edgeloop.leak.sketch import Sketch

CHUNK = 1 << 20
MOST_MARKS = 1 << 24
EXACT_DIGITS = 8
"""A number printed with as many digits is compared as 32 bits: the digits beyond are those of its rounding."""
TOKEN = re.compile(
    r"(?P<time>(?P<date>\d{4}[-/.]\d\d[-/.]\d\d)[T _](?P<clock>\d\d:\d\d)(?P<second>:\d\d)?(?:\.\d+)?"
    r"\s?(?P<zone>Z|[+-]\d\d:?\d\d)?)"
    r"|(?P<number>[-+]?(?P<whole>\d+)(?:\.(?P<part>\d+))?(?:[eE](?P<power>[-+]?\d{1,3}))?)"
    r"|(?P<word>[^\W\d_]+)"
)
JOINED = re.compile(r"(?<=\d)[_,](?=\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Marks in order: value float64 [n], layer, place and stream [n]; places of two streams are never together."""

    values: NDArray[Any]
    layers: NDArray[Any]
    places: NDArray[Any]
    streams: NDArray[Any]
    wheres: tuple[str, ...]


@dataclass(slots=True)
class Marker:
    """Collects marks; ``sketch`` says which numbers and words are worth it."""

    sketch: Sketch
    wheres: list[str] = field(default_factory=list)
    _parts: list[tuple[NDArray[Any], int, NDArray[Any], int]] = field(default_factory=list)
    _next: int = 0
    _count: int = 0

    def add(self, piece: Piece) -> None:
        """Take a piece; raises ``LeakError`` when the outputs hold more marks than can be compared."""
        if isinstance(piece, Numbers):
            self._add_numbers(piece)
            return
        self._add_text(piece.where, piece.text)
        if JOINED.search(piece.text):
            # 6,87 is 6.87 to half the world, and a name of a metric may hold no point.
            self._add_text(f"{piece.where}, with points", JOINED.sub(".", piece.text))

    def marks(self) -> Marks:
        """Everything so far."""
        import numpy as np

        parts = self._parts or [(np.empty(0), 0, np.empty(0, dtype=np.int64), 0)]
        values, places = (np.concatenate([one[index] for one in parts]) for index in (0, 2))
        sizes = [len(one[0]) for one in parts]
        layers, streams = (np.repeat([one[index] for one in parts], sizes) for index in (1, 3))
        order = np.argsort(places, kind="stable")
        return Marks(
            values=values[order], layers=layers[order], places=places[order], streams=streams[order],
            wheres=tuple(self.wheres),
        )  # fmt: skip

    def _stream(self, where: str) -> int:
        self.wheres.append(where)
        return len(self.wheres) - 1

    def _keep(self, values: NDArray[Any], kind: int, places: NDArray[Any], stream: int) -> None:
        known = self.sketch.holds(kind, values)
        if known.any():
            self._parts.append((values[known], kind, places[known] + self._next, stream))
            self._count += int(known.sum())
        if self._count > MOST_MARKS:
            raise LeakError(
                f"{self.wheres[stream]}: with it the outputs hold more than {MOST_MARKS} numbers that are also in the "
                "training data, more than are compared with its rows.",
                left="the outputs on the VM; nothing was stored",
                next="Let train.py make a smaller model. Changed code trains anew.",
            )

    def _add_numbers(self, piece: Numbers) -> None:
        import numpy as np

        stream = self._stream(piece.where)
        kind = layer.FLOAT16 if piece.values.dtype == np.float16 else layer.FLOAT32
        for start in range(0, len(piece.values), CHUNK):
            with np.errstate(invalid="ignore"):
                values = piece.values[start : start + CHUNK].astype(np.float64)
            places = np.arange(start, start + len(values), dtype=np.int64)
            fit = layer.distinctive(values)
            if piece.digits:
                for code, chosen in layer.rounded(values, fit, piece.digits):
                    self._keep(values[chosen], code, places[chosen], stream)
                continue
            self._keep(values[fit], kind, places[fit], stream)
            times = layer.seconds(values)
            self._keep(times[fit & ~np.isnan(times)], layer.TIME, places[fit & ~np.isnan(times)], stream)
        self._next += len(piece.values) + WINDOW

    def _add_text(self, where: str, text: str) -> None:
        import numpy as np

        stream = self._stream(where)
        by_layer: dict[int, tuple[list[float], list[int]]] = {}
        place = -1
        for place, kind, value in self._tokens(text):
            values, places = by_layer.setdefault(kind, ([], []))
            values.append(value)
            places.append(place)
        for kind, (values, places) in by_layer.items():
            self._keep(np.asarray(values), kind, np.asarray(places, dtype=np.int64), stream)
        self._next += place + 1 + WINDOW

    def _tokens(self, text: str) -> Iterator[tuple[int, int, float]]:
        place, recent = 0, list[str]()
        for match in TOKEN.finditer(text):
            if match["word"] is None:
                yield from ((place, kind, value) for kind, value in _number(match))
                place += 1
            if self.sketch.longest_text:
                recent = [*recent, *runs(match.group())][-self.sketch.longest_text :]
                for start in range(len(recent)):
                    key = digest("".join(recent[start:])) >> 12
                    if self.sketch.is_text(float(key)):
                        yield place, layer.WORD, float(key)
                        place += 1


def _number(match: re.Match[str]) -> Iterator[tuple[int, float]]:
    """What a token may mean: its layer and its value; nothing if it is not distinctive."""
    if match["time"]:
        moment = _moment(match)
        if moment is not None:
            yield layer.TIME, moment
        return
    part, power = match["part"] or "", int(match["power"] or 0)
    digits = (match["whole"] + part).strip("0")
    value = float(match["number"])
    if len(digits) <= layer.DIGITS or not layer.SMALLEST < abs(value) < layer.LARGEST:
        return
    if not part and not power:
        if abs(value) < layer.LEAST_WHOLE:
            return
        for low, high, unit in layer.SECONDS:
            if low <= value < high:
                yield layer.TIME, value / unit
    elif match["whole"].isdigit() and layer.SECONDS[0][0] <= value < layer.SECONDS[0][1]:
        yield layer.TIME, value
    decimals = len(part) - power
    if len(digits) >= EXACT_DIGITS or not 0 <= decimals <= layer.MOST_DECIMALS:
        yield layer.FLOAT32, value
    else:
        yield decimals, value


def _moment(match: re.Match[str]) -> float | None:
    text = re.sub(r"[/.]", "-", match["date"]) + "T" + match["clock"] + (match["second"] or ":00")
    try:
        moment = datetime.fromisoformat(text + (match["zone"] or ""))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = moment.timestamp()
    return seconds if math.isfinite(seconds) else None
