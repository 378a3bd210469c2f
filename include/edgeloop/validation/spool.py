"""Columns that an expectation must see whole, kept on disk until the file has been read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConfigurationError
from edgeloop.validation.columns import frame

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from edgeloop.validation.columns import Columns
    from edgeloop.validation.suite import Rule
    from edgeloop.validation.table import Chunk

MIB = 1024 * 1024


class Spool:
    """The columns of some rules, one Arrow file each.

    Args:
        folder: Where to keep them.
        wanted: The columns of each rule, by its number; all of the file's where none is named.
        memory_bytes: What the columns of one rule may take in memory.
    """

    def __init__(self, folder: Path, wanted: dict[int, tuple[str, ...]], memory_bytes: int) -> None:
        self._folder, self._wanted, self._limit = folder, wanted, memory_bytes
        self._every = any(not names for names in wanted.values())
        self._names = {name for names in wanted.values() for name in names}
        self._columns: Columns = {}
        self._sizes: dict[str, int] = {}
        self._files: dict[str, Any] = {}
        self._rows = 0

    def add(self, chunk: Chunk) -> None:
        """Keep the next rows."""
        import pyarrow as pa

        if not self._wanted:
            return
        self._columns = chunk.columns
        self._rows += len(chunk)
        for at, name in enumerate(chunk.table.column_names):
            if not self._every and name not in self._names:
                continue
            part = chunk.table.select([at])
            self._sizes[name] = self._sizes.get(name, 0) + part.nbytes
            if self._sizes[name] > self._limit:
                continue  # it is counted on, so that the error can tell the need
            if name not in self._files:
                self._files[name] = pa.ipc.new_file(self._path(name), part.schema)
            self._files[name].write_table(part)

    def _path(self, name: str) -> str:
        return str(self._folder / f"column-{sorted([*self._columns]).index(name)}.arrow")

    def _of(self, number: int) -> list[str]:
        return [name for name in self._sizes if name in (self._wanted[number] or self._sizes)]

    def check(self, number: int, rule: Rule) -> None:
        """Raise ``ConfigurationError`` if the rule's columns take more memory than they may."""
        need = sum(self._sizes[name] for name in self._of(number))
        if need <= self._limit:
            return
        sizes = ", ".join(f"{name} {_mib(self._sizes[name])} MiB" for name in self._of(number))
        raise ConfigurationError(
            f"{rule} must see its columns whole; they take {_mib(need)} MiB ({sizes}), "
            f"more than the {_mib(self._limit)} MiB of validation.memory_mb.",
            left="nothing was certified; the file stays as it is",
            next=f"Set validation.memory_mb in pipeline.yaml to at least {_mib(need)}, or write an expectation that is "
            "judged row by row, or let the source write smaller files. Then run the batch again with force, to use "
            "today's pipeline.yaml.",
        )

    def frame(self, number: int) -> pd.DataFrame:
        """The rule's columns as pandas has them; columns that the file lacks are missing."""
        import pandas as pd
        import pyarrow as pa

        made = pd.DataFrame(index=pd.RangeIndex(self._rows))
        for name in self._of(number):
            if (writer := self._files.get(name)) is not None:
                writer.close()
                self._files[name] = None
            with pa.memory_map(self._path(name)) as source:
                made[name] = frame(pa.ipc.open_file(source).read_all(), self._columns)[name]
        return made


def _mib(size: int) -> int:
    return -(-size // MIB)
