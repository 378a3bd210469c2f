"""A tiny pipeline, a share it watches, and files on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeloop import catalog
from edgeloop.share import Folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.catalog import Snapshot

PIPELINE = Path(__file__).parents[2] / "data" / "pipelines" / "tiny_power"


@pytest.fixture
def snapshot() -> Snapshot:
    """The tiny pipeline as its folder reads."""
    found, problems = catalog.read(PIPELINE)
    assert found is not None, problems
    return found


@pytest.fixture
def folder(tmp_path: Path, snapshot: Snapshot) -> Folder:
    """The folder that the tiny pipeline watches, empty."""
    source = snapshot.spec.source
    (tmp_path / source.folder).mkdir()
    return Folder(
        connection=source.connection,
        root=tmp_path,
        below=source.folder,
        pattern=source.pattern,
        exclude=source.exclude,
    )


@pytest.fixture
def drop(folder: Folder) -> Callable[..., Path]:
    """Put a file on the share."""

    def put(name: str, content: str = "site,at,wind,power\n") -> Path:
        path = folder.path / name
        path.write_text(content)
        return path

    return put
