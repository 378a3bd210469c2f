"""The rows that were set aside, as JSON lines beside the data: row number, expectation, value, and the line's text."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from edgeloop.validation.rows import IS_WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from edgeloop.validation.lines import Line, Piece
    from edgeloop.validation.verdict import Fault

SAMPLES = 5


class Quarantine:
    """Writes the quarantine of one file piece by piece.

    Args:
        stream: Where the lines go.
        names: The file's header.
        faults: Which rows are set aside, and why.
    """

    def __init__(self, stream: TextIO, names: tuple[str, ...], faults: tuple[Fault, ...]) -> None:
        import numpy as np

        self._stream, self._names, self._faults = stream, names, faults
        self._rows = [np.asarray(one.rows, dtype=np.int64) for one in faults]
        self.lines = 0
        self.samples: dict[str, list[tuple[int, str]]] = {}
        """The first rows of each fault, by its name: number and value."""

    def add(self, piece: Piece, start: int) -> None:
        """The quarantined rows of a piece whose first row has position ``start``, in the order of the file."""
        entries = [(line.number, {"row": line.number, "expectation": IS_WHOLE, "column": "", "text": line.text})
                   for line in piece.torn]  # fmt: skip
        entries += [(line.number, self._entry(line, faults)) for line, faults in self._of(piece, start)]
        for _, entry in sorted(entries, key=lambda one: one[0]):
            self._stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self.lines += len(entries)

    def _of(self, piece: Piece, start: int) -> Iterator[tuple[Line, list[Fault]]]:
        import numpy as np

        by_row: dict[int, list[Fault]] = {}
        for fault, rows in zip(self._faults, self._rows, strict=True):
            begin, end = np.searchsorted(rows, [start, start + len(piece)])
            for row in rows[begin:end].tolist():
                by_row.setdefault(row, []).append(fault)
        for row, faults in by_row.items():
            yield piece.line(row - start), faults

    def _entry(self, line: Line, faults: list[Fault]) -> dict[str, Any]:
        # The text of the field, not its number: what stands in the file is what on-call must find there.
        fields = next(csv.reader(io.StringIO(line.text, newline=""), strict=True))
        values = dict(zip(self._names, fields, strict=True))
        first, *more = [self._reason(fault, line.number, values) for fault in faults]
        entry = {"row": line.number, **first}
        if more:
            entry["also"] = more
        return {**entry, "text": line.text}

    def _reason(self, fault: Fault, number: int, values: dict[str, str]) -> dict[str, Any]:
        found = [values.get(name, "") for name in fault.columns]
        value: str | list[str] = found[0] if len(found) == 1 else found
        kept = self.samples.setdefault(str(fault), [])
        if len(kept) < SAMPLES:
            kept.append((number, ", ".join(found)))
        return {"expectation": fault.expectation, "column": ", ".join(fault.columns), "value": value}
