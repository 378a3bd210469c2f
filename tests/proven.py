"""Metrics as a training leaves them: with the figures of a passed comparison, bound to the file."""

from __future__ import annotations

from typing import Any

from edgeloop.records import sha256_hex

ROWS = 2000


def proven(onnx: bytes, metrics: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """``metrics`` with ``rows_holdout`` and ``parity`` for these bytes; ``changes`` replace figures of ``parity``."""
    figures = {
        "rows": ROWS,
        "threshold_rows": 300,
        "nan_rows": 100,
        "extreme_rows": 200,
        "refused_rows": 0,
        "mismatched_rows": 0,
        "largest_difference": 0.001,
        "tolerance": 0.01,
        "passed": True,
        "sha256": sha256_hex(onnx),
    }
    return {"rows_holdout": ROWS, **metrics, "parity": figures | changes}
