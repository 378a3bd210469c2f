"""The one ONNX model of the image: loaded, checked against its digest, warmed up."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

# The wheel holds a telemetry client that starts with the import; a device must talk to nobody.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class ModelError(Exception):
    """The image's model cannot be served; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that has answered once; `features` names the columns of X."""

    name: str
    version: str
    sha256: str
    features: tuple[str, ...]
    session: Any

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Answer float32 [n, features] with float32 [n, outputs].

        Raises:
            ModelError: The answer has another number of rows or is not finite.
        """
        y = np.asarray(self.session.run(None, {self.session.get_inputs()[0].name: x})[0], dtype=np.float32)
        y = y.reshape(-1, 1) if y.ndim == 1 else y
        if len(y) != len(x) or not np.isfinite(y).all():
            raise ModelError(f"the model gave {y.shape} for {x.shape}, or a value that is not finite")
        return y


def load(folder: Path, threads: int = 1) -> Model:
    """Load `model.onnx` and `model.json` of a folder and infer once.

    Raises:
        ModelError: A file is missing, is not what model.json says, or does not answer.
    """
    ort.disable_telemetry_events()
    try:
        content = (folder / "model.onnx").read_bytes()
        card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        features = tuple(card["features"])
        model_id = (card["name"], str(card["version"]), card["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"model.onnx or model.json in {folder}: {error!r}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != model_id[2]:
        raise ModelError(f"model.onnx has sha256 {digest}, model.json says {model_id[2]}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        model = Model(name=model_id[0], version=model_id[1], sha256=digest, features=features, session=session)
        model.predict(np.zeros((1, len(features)), dtype=np.float32))
    except Exception as error:  # onnxruntime's exceptions share no base class below Exception
        raise ModelError(f"the model does not answer: {' '.join(str(error).split())}") from error
    return model
