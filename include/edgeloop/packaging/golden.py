"""Golden rows: synthetic inputs and the answers the registered model gives to them.

No measured value is among them, so they may leave the site with the image's record.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.errors import IntegrityError
from edgeloop.records import canonical_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeloop.pipeline import Feature

INPUT, OUTPUT = "X", "Y"


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Rows of float32 features in the model's order, and one float32 answer each."""

    sha256: str
    """Of the model that answered."""
    rows: tuple[tuple[float, ...], ...]
    answers: tuple[float, ...]

    def to_json(self) -> bytes:
        """As stored beside the records."""
        rows = [list(row) for row in self.rows]
        return canonical_json({"sha256": self.sha256, "rows": rows, "answers": list(self.answers)})

    @classmethod
    def from_json(cls, raw: bytes) -> Golden:
        """Back from :meth:`to_json`."""
        body = json.loads(raw)
        rows = tuple(tuple(row) for row in body["rows"])
        return cls(sha256=body["sha256"], rows=rows, answers=tuple(body["answers"]))

    def request(self) -> dict[str, Any]:
        """The rows as an Open Inference Protocol v2 request."""
        width = len(self.rows[0])
        flat = [value for row in self.rows for value in row]
        return {"inputs": [{"name": INPUT, "shape": [len(self.rows), width], "datatype": "FP32", "data": flat}]}

    def differing(self, answer: dict[str, Any]) -> str:
        """Why a v2 answer is not these answers, byte for byte as float32; empty if it is."""
        try:
            found = next(one for one in answer["outputs"] if one["name"] == OUTPUT)
            data = found["data"]
            if found["datatype"] != "FP32" or len(data) != len(self.answers):
                return f"gave {found['datatype']} of {len(data)} values, not FP32 of {len(self.answers)}"
            wrong = sum(packed(one) != packed(other) for one, other in zip(data, self.answers, strict=True))
        except (KeyError, TypeError, StopIteration, OverflowError, struct.error) as error:
            return f"gave no output {OUTPUT} ({type(error).__name__})"
        return f"gave {wrong} of {len(self.answers)} golden answers other than the model's" if wrong else ""


def packed(value: float) -> bytes:
    """The four bytes of ``value`` as float32."""
    return struct.pack("<f", value)


def draw(features: Sequence[Feature], sha256: str, count: int) -> tuple[tuple[float, ...], ...]:
    """``count`` rows between each feature's ``low`` and ``high``, the same for the same model on every machine.

    The first two rows are all-low and all-high; a random generator's stream could change with its library's version, so
    the others come from sha256 in counter mode.
    """
    low = tuple(_float32(one.low) for one in features)
    high = tuple(_float32(one.high) for one in features)
    drawn = [
        tuple(
            _float32(one.low + (one.high - one.low) * _uniform(f"{sha256}:{row}:{column}"))
            for column, one in enumerate(features)
        )
        for row in range(count)
    ]
    return tuple([low, high, *drawn][:count])


def answer(model: bytes, rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """What the ONNX ``model`` answers to ``rows``, computed here; raises ``IntegrityError`` if it is no such model."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    # More threads sum the trees of an ensemble in another order, and the last bit follows.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        found = session.run(None, {session.get_inputs()[0].name: np.asarray(rows, dtype=np.float32)})[0]
    except Exception as error:
        raise IntegrityError(
            f"The registered model does not answer {len(rows)} rows of {len(rows[0])} features: {error}",
            left="nothing was built",
            next="Compare model.features in pipeline.yaml with the columns that train.py feeds the model.",
        ) from error
    return tuple(float(one) for one in np.asarray(found, dtype=np.float32).reshape(-1))


def make(model: bytes, sha256: str, features: Sequence[Feature], count: int) -> Golden:
    """Golden rows of a model and its own answers to them."""
    rows = draw(features, sha256, count)
    answers = answer(model, rows)
    if len(answers) != len(rows):
        raise IntegrityError(
            f"The model gives {len(answers)} answers to {len(rows)} rows; the scorer's contract is one each.",
            left="nothing was built",
            next="Make the model's first output [n, 1] in train.py.",
        )
    if wild := sum(not math.isfinite(one) for one in answers):
        raise IntegrityError(
            f"The model answers {wild} of {len(rows)} rows within the ranges of its features with NaN or infinity.",
            left="nothing was proven or pushed; the devices serve what they served",
            next="Correct low and high of model.features in pipeline.yaml, or train.py; then train again.",
        )
    return Golden(sha256=sha256, rows=rows, answers=answers)


def _float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _uniform(seed: str) -> float:
    """A number in [0, 1) of 53 bits."""
    return (int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") >> 11) / (1 << 53)
