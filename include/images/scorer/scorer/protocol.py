"""The Open Inference Protocol v2 in JSON: bytes to arrays and back. Pure; knows no model and no socket."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUT, TIME, OUTPUT = "X", "event_time", "Y"
_MATRIX = 2  # dimensions of X


class RequestError(Exception):
    """The request cannot be answered; `status` is the HTTP status, the message says what to send instead."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that can be answered: x is float32 [n, features]; `times` are UTC instants, one per row, or None."""

    id: str | None
    x: NDArray[np.float32]
    times: tuple[datetime, ...] | None


def parse(body: bytes, features: int) -> Request:
    """Read an inference request for a model of so many features.

    Raises:
        RequestError: For everything that is not such a request, with what is wrong in words.
    """
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise RequestError("the body must be a JSON object with a field 'inputs'")
    identity = raw.get("id")
    if identity is not None and not isinstance(identity, str):
        raise RequestError("'id' must be a string")
    _check_outputs(raw.get("outputs"))
    tensors = _tensors(raw.get("inputs"))
    if INPUT not in tensors:
        raise RequestError(f"there is no input named {INPUT!r}")
    x = _matrix(tensors[INPUT], features)
    times = _times(tensors[TIME], len(x)) if TIME in tensors else None
    return Request(id=identity, x=x, times=times)


def answer(name: str, version: str, identity: str | None, y: NDArray[np.float32]) -> bytes:
    """The inference response; floats have the shortest digits that give the same float32 again."""
    body: dict[str, Any] = {"model_name": name, "model_version": version}
    if identity is not None:
        body["id"] = identity
    data = np.ascontiguousarray(y.reshape(-1))
    body["outputs"] = [{"name": OUTPUT, "datatype": "FP32", "shape": list(y.shape), "data": data}]
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def failure(text: str) -> bytes:
    """The protocol's error body."""
    return orjson.dumps({"error": text})


def _tensors(inputs: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(inputs, list) or not inputs:
        raise RequestError("'inputs' must be a list of at least one tensor")
    tensors: dict[str, dict[str, Any]] = {}
    for tensor in inputs:
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
            raise RequestError("each input must be an object with 'name', 'datatype', 'shape' and 'data'")
        name = tensor["name"]
        if name not in (INPUT, TIME):
            raise RequestError(f"there is no input named {name!r}; the inputs are {INPUT!r} and {TIME!r}")
        if name in tensors:
            raise RequestError(f"input {name!r} is there twice")
        tensors[name] = tensor
    return tensors


def _check_outputs(outputs: Any) -> None:
    if outputs is None:
        return
    if not isinstance(outputs, list) or any(not isinstance(o, dict) or o.get("name") != OUTPUT for o in outputs):
        raise RequestError(f"'outputs' must be a list; the only output is {OUTPUT!r}")


def _shape(tensor: dict[str, Any]) -> tuple[int, ...]:
    shape = tensor.get("shape")
    # bool is an int to Python, not to JSON.
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise RequestError(f"'shape' of {tensor['name']!r} must be a list of sizes")
    return tuple(shape)


def _matrix(tensor: dict[str, Any], features: int) -> NDArray[np.float32]:
    if tensor.get("datatype") != "FP32":
        raise RequestError(f"'datatype' of {INPUT!r} must be 'FP32', not {tensor.get('datatype')!r}")
    shape = _shape(tensor)
    if len(shape) != _MATRIX or shape[1] != features or shape[0] < 1:
        raise RequestError(f"'shape' of {INPUT!r} must be [n, {features}] with n of at least 1, not {list(shape)}")
    data = _flat(tensor, shape)
    # A string would silently become a number in numpy, and null a NaN.
    wrong = {type(value).__name__ for value in data if type(value) is not float and type(value) is not int}
    if wrong:
        raise RequestError(f"'data' of {INPUT!r} must be finite numbers; found {', '.join(sorted(wrong))}")
    with np.errstate(over="ignore"):
        x = np.asarray(data, dtype=np.float64).astype(np.float32).reshape(shape)
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise RequestError(f"'data' of {INPUT!r} at [{row}][{column}] does not fit into a float32")
    return x


def _times(tensor: dict[str, Any], rows: int) -> tuple[datetime, ...]:
    if tensor.get("datatype") != "BYTES":
        raise RequestError(f"'datatype' of {TIME!r} must be 'BYTES', not {tensor.get('datatype')!r}")
    shape = _shape(tensor)
    if shape not in ((rows,), (rows, 1)):
        raise RequestError(f"'shape' of {TIME!r} must be [{rows}], one instant per row of {INPUT!r}, not {list(shape)}")
    return tuple(_instant(value) for value in _flat(tensor, shape))


def _instant(value: Any) -> datetime:
    try:
        instant = datetime.fromisoformat(value)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise RequestError(f"{str(value)[:40]!r} in {TIME!r} is not an ISO 8601 instant with Z or an offset")


def _flat(tensor: dict[str, Any], shape: tuple[int, ...]) -> list[Any]:
    """The data row by row: the protocol allows it flat or nested."""
    data = tensor.get("data")
    if not isinstance(data, list):
        raise RequestError(f"'data' of {tensor['name']!r} must be a list")
    if len(shape) == _MATRIX and data and isinstance(data[0], list):
        if len(data) != shape[0] or any(not isinstance(row, list) or len(row) != shape[1] for row in data):
            raise RequestError(f"'data' of {tensor['name']!r} is not of shape {list(shape)}")
        data = list(chain.from_iterable(data))
    if len(data) != int(np.prod(shape, dtype=object)):
        raise RequestError(
            f"'data' of {tensor['name']!r} holds {len(data)} values, its shape {list(shape)} asks for others"
        )
    return data
