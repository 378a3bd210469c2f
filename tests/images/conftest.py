"""Scorers for tests; all end with the test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scorer_process import Scorer, await_ready, launch, make_model

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Scorer]]:
    """Start scorers with so many features and these settings; all end with the test."""
    running: list[subprocess.Popen[str]] = []

    def _start(features: int = 3, **environment: str) -> Scorer:
        onnx = make_model(tmp_path / "model", features)
        share = tmp_path / "share"
        share.mkdir(exist_ok=True)
        process, port = launch(tmp_path / "model", share, **environment)
        running.append(process)
        await_ready(process, port)
        return Scorer(process, port, share, onnx)

    yield _start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def scorer(start: Callable[..., Scorer]) -> Scorer:
    """One running scorer of three features."""
    return start()
