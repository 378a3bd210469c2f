"""How `up` and `down` tell what they are doing."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLOURS = {"started": "green", "found": "cyan", "stopped": "green", "was down": "cyan", "failed": "red"}


class Progress(Protocol):
    """Told of each part as it is worked on; called from several threads."""

    def begin(self, part: str) -> None:
        """`part` is being worked on from now."""

    def end(self, part: str, how: str, seconds: float) -> None:
        """`part` ended `how` ("started", "found", "stopped", "was down", "failed")."""


class Silent:
    """Says nothing."""

    def begin(self, part: str) -> None:
        """Say nothing."""

    def end(self, part: str, how: str, seconds: float) -> None:
        """Say nothing."""


class Screen:
    """A table that lives while parts are worked on; one line per ended part when there is no terminal."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        self._title = title
        self._console = console or Console()
        self._began: dict[str, float] = {}
        self._ended: dict[str, tuple[str, float]] = {}
        self._spinners: dict[str, Spinner] = {}
        self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=8)

    def __enter__(self) -> Self:
        """Take the terminal, if it is one."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last table on the terminal."""
        if self._console.is_terminal:
            self._live.stop()

    def begin(self, part: str) -> None:
        """Show a spinner for `part`."""
        self._spinners[part] = Spinner("dots")
        self._began[part] = time.monotonic()

    def end(self, part: str, how: str, seconds: float) -> None:
        """Show how `part` ended."""
        self._began.setdefault(part, time.monotonic())
        self._ended[part] = (how, seconds)
        if not self._console.is_terminal:
            self._console.print(f"{self._title}: {part:<10} {how:<9} {seconds:6.1f} s", highlight=False)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_row(Text(self._title, style="bold"), "", "")
        now = time.monotonic()
        for part, began in list(self._began.items()):
            if part in self._ended:
                how, seconds = self._ended[part]
                table.add_row(f"  {part}", Text(how, style=_COLOURS.get(how, "")), f"{seconds:.1f} s")
            else:
                table.add_row(f"  {part}", self._spinners[part], f"{now - began:.1f} s")
        return table


@contextmanager
def told(progress: Progress, part: str, how: str) -> Iterator[None]:
    """Tell `progress` that `part` begins, and that it ended `how`, or failed."""
    began = time.monotonic()
    progress.begin(part)
    try:
        yield
    except BaseException:
        progress.end(part, "failed", time.monotonic() - began)
        raise
    progress.end(part, how, time.monotonic() - began)
