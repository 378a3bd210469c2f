"""What the demo tells while it works: one live line of progress, and at the end the table of proof."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from lab.loop import Found

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of proof: a stage, what went in and came out, how it was reached, and what was seen outside."""

    stage: str
    went_in: str
    came_out: str
    ids: str
    how: Found
    checked: str


class Story:
    """The demo's voice; use as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.rows: list[Row] = []
        self._status = console.status("starting")
        self._began = time.monotonic()
        self._told = 0.0

    def __enter__(self) -> Self:
        """Start the live line."""
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the live line."""
        self._status.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(f"[dim]{self._clock()}[/] {text}", highlight=False)

    def tick(self, what: str, seconds: float) -> None:
        """The live line; where there is no terminal, a line every 15 seconds."""
        self._status.update(f"waiting for {what} ({seconds:.0f} s)")
        if not self.console.is_terminal and time.monotonic() - self._told > 15:  # noqa: PLR2004 - named in the docstring
            self._told = time.monotonic()
            self.say(f"waiting for {what} ({seconds:.0f} s)")

    def add(self, row: Row) -> None:
        """A line of proof, told at once and kept for the table."""
        self.rows.append(row)
        how = "found" if row.how.found else f"{row.how.seconds:.0f} s"
        self.say(f"[bold]{row.stage}[/]: {row.went_in} → {row.came_out} [cyan]({how})[/]")
        self.say(f"  checked: {row.checked}")

    def timed(self, what: str, work: Callable[[], T]) -> T:
        """Do ``work`` under a live line."""
        self._status.update(what)
        return work()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to another live display."""
        self._status.stop()
        try:
            yield
        finally:
            self._status.start()

    def print_table(self) -> None:
        """All lines of proof."""
        table = Table(title="What happened, and what was seen from outside")
        for name in ("stage", "in", "out", "ids and digests", "seconds", "checked against the part itself"):
            table.add_column(name, overflow="fold")
        for row in self.rows:
            seconds = "found" if row.how.found else f"{row.how.seconds:.0f}"
            table.add_row(row.stage, row.went_in, row.came_out, row.ids, seconds, row.checked)
        self.console.print(table)

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60:02d}:{seconds % 60:02d}"
