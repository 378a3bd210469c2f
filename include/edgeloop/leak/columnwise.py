"""Tables in a text, read downwards: a dump by columns has the fields of a row far apart."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHORTEST = 3
"""Rows and columns a table has at least."""
CELL = re.compile(r"[^\s,;|\"'\[\]{}()<>]+")
DIGIT = re.compile(r"\d")


def columnwise(text: str) -> str | None:
    """The text's tables turned on their side, or None if there are none.

    Tables are lines after each other with the same count of cells that hold digits, and lists or objects of the same
    length below one JSON value, as pandas writes a frame.
    """
    tables = list(_json_tables(text))
    if not tables:
        tables = list(_line_tables(text.splitlines()))
    return "\n".join("\n".join(" ".join(row) for row in zip(*table, strict=True)) for table in tables) or None


def _line_tables(lines: Sequence[str]) -> Iterator[list[list[str]]]:
    run: list[list[str]] = []
    for line in (*lines, ""):
        cells = [cell for cell in CELL.findall(line) if DIGIT.search(cell)]
        if run and len(cells) != len(run[0]):
            if len(run) >= SHORTEST and len(run[0]) >= SHORTEST:
                yield run
            run = []
        if cells:
            run.append(cells)


def _json_tables(text: str) -> Iterator[list[list[str]]]:
    if text.lstrip()[:1] not in ("{", "["):
        return
    try:
        # The digits as they were written say how exact a number is.
        value: Any = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return
    waiting = [value]
    while waiting:
        one = waiting.pop()
        inner = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
        waiting += [each for each in inner if isinstance(each, dict | list)]
        by_length: dict[int, list[list[str]]] = {}
        for each in inner:
            cells = _cells(each)
            if len(cells) >= SHORTEST:
                by_length.setdefault(len(cells), []).append(cells)
        yield from (table for table in by_length.values() if len(table) >= SHORTEST)


def _cells(value: Any) -> list[str]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    cells = [str(one) for one in inner if isinstance(one, str | int | float)]
    return cells if len(cells) == len(inner) else []
