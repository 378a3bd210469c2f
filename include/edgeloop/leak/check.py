"""The leak check: outputs against the rows they were made from, before any of them is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import LeakError
from edgeloop.leak.identifiers import identifiers
from edgeloop.leak.marks import Marker
from edgeloop.leak.onnx_pieces import onnx_pieces
from edgeloop.leak.piece import WORK_BYTES, Budget, Text
from edgeloop.leak.search import search
from edgeloop.leak.sketch import sketch
from edgeloop.leak.unfold import unfold, unfold_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from edgeloop.leak.identifiers import Identifiers
    from edgeloop.leak.piece import Piece
    from edgeloop.leak.rows import Rows

MODEL_SUFFIX = ".onnx"
NAMES = "the names of the outputs"
MENTIONED = 5
UNFOLDED = 4
"""A model is looked at as what it says, as bytes beside it, and as what some of them unfold to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Something of the data in an output: which columns, and which row of which file, or "" for a single value."""

    where: str
    columns: tuple[str, ...]
    row: str = ""

    @property
    def words(self) -> str:
        """As a person reads it; no value is in it."""
        if not self.row:
            return f"{self.where}: a value of identifier column {', '.join(self.columns)}"
        return f"{self.where}: {', '.join(self.columns)} of {self.row}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was compared; ``skipped`` are values of identifier columns too short to be searched for, by column."""

    rows: int
    files: int
    marks: int
    skipped: tuple[tuple[str, int], ...] = ()


def check(
    outputs: Mapping[str, Path], rows: Rows, *, names: Sequence[str] = (), columns: tuple[str, ...] = (), alone: bool
) -> Checked:
    """Compare outputs with the data.

    Args:
        outputs: The collected files by their names.
        rows: The data of the training.
        names: The names of everything among the outputs, collected or not: they are told in the log.
        columns: The identifier columns.
        alone: Search for identifiers alone, not for fields of a row together.

    Raises:
        LeakError: Something of the data is in them; it says where, and no value.
    """
    known = identifiers(rows, columns) if columns else ()
    seen = None if alone else sketch(rows)
    marker = Marker(sketch=seen) if seen else None
    leaks: list[Leak] = []
    for piece in _pieces(outputs, names):
        leaks += _identified(piece, known)
        if marker is not None:
            marker.add(piece)
    marks = 0
    if marker is not None and seen is not None:
        found = marker.marks()
        marks = len(found.values)
        leaks += [
            Leak(where=hit.where, columns=hit.columns, row=f"row {hit.row} of {hit.file}")
            for hit in search(found, rows, seen.rows)
        ]
    if leaks:
        raise _refusal(leaks, tuple(outputs))
    return Checked(
        rows=seen.rows if seen else 0,
        files=len(outputs),
        marks=marks,
        skipped=tuple((one.column, one.skipped) for one in known if one.skipped),
    )


def _pieces(outputs: Mapping[str, Path], names: Sequence[str]) -> Iterator[Piece]:
    told = "\n".join((*names, *outputs))
    yield from unfold_text(told, NAMES, Budget("A list of names"))
    for number, (name, path) in enumerate(outputs.items()):
        data = path.read_bytes()
        budget = Budget(name, WORK_BYTES + UNFOLDED * len(data))
        look = onnx_pieces if name.endswith(MODEL_SUFFIX) else unfold
        yield from look(data, _label(number), budget)


def _label(number: int) -> str:
    return f"<{number}>"


def _identified(piece: Piece, known: tuple[Identifiers, ...]) -> Iterator[Leak]:
    for one in known:
        if one.found(piece):
            yield Leak(where=piece.where, columns=(one.column,))


def _refusal(leaks: list[Leak], names: tuple[str, ...]) -> LeakError:
    """What to tell; a file whose name may be a row is told by its number."""
    told = list(dict.fromkeys(one.words for one in leaks))
    named = not any(one.where.startswith(NAMES) for one in leaks)
    for number, name in enumerate(names):
        said = name if named else f"output {number + 1} of {len(names)}"
        told = [words.replace(_label(number), said, 1) for words in told]
    more = f"; and {len(told) - MENTIONED} more" if len(told) > MENTIONED else ""
    return LeakError(
        "What the training put out holds data it was trained on: " + "; ".join(told[:MENTIONED]) + more + ". "
        "The values are not shown.",
        left="the outputs on the VM; nothing was stored and nothing registered",
        next="Let train.py put out no rows: no nearest neighbours or support vectors, no examples in reports. Changed "
        "code trains anew. docs/runbooks/train.md says how to look at the outputs, and what to do about a false alarm.",
    )


__all__ = ["NAMES", "Checked", "Leak", "Text", "check"]
