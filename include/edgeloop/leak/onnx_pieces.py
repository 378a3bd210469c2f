"""An ONNX file as texts and numbers: every field of every message, whatever its name.

What the parser does not show, unknown fields or bytes beyond, is searched as bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from edgeloop.errors import LeakError
from edgeloop.leak.piece import Numbers, Text
from edgeloop.leak.unfold import LEAST, runs, unfold, unfold_text
from edgeloop.leak.unpack import unpacked
from edgeloop.leak.unscale import unscaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgeloop.leak.piece import Budget, Piece

EXTERNAL = 1
FLOAT16 = 10
KINDS = {1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8", 12: "<u4", 13: "<u8"}
"""TensorProto.DataType of onnx.proto to NumPy's; others are searched as bytes."""
INDEX = re.compile(r"\[\d+\]")
SHORTEST = 3
BYTE = 255


def onnx_pieces(data: bytes, where: str, budget: Budget) -> Iterator[Piece]:
    """The pieces of a model.onnx; bytes that are no ONNX are searched as bytes.

    Raises:
        LeakError: It keeps tensors in another file, or unfolds beyond the budget.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        yield from unfold(data, where, budget)
        return
    walk = _Walk(where, budget)
    yield from walk.message(model, "")
    yield from walk.gathered()
    if walk.unknown or model.ByteSize() != len(data):
        yield from unfold(data, f"{where}, beside its ONNX", budget)


class _Walk:
    """One walk over all messages of a model."""

    def __init__(self, where: str, budget: Budget) -> None:
        self.where, self.budget, self.unknown = where, budget, False
        self._strings: dict[str, list[str]] = {}
        self._singles: dict[str, list[float]] = {}
        self._seen: set[str | bytes] = set()

    def message(self, message: Any, path: str) -> Iterator[Piece]:
        """Every field, in order."""
        from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-untyped]

        self.unknown = self.unknown or len(UnknownFieldSet(message)) > 0
        if message.DESCRIPTOR.name == "TensorProto":
            yield from self._tensor(message, path)
        elif message.DESCRIPTOR.name == "GraphProto":
            yield from unscaled(message, f"{self.where}, {path}", _values)
        arrays: list[NDArray[Any]] = []
        for field, value in message.ListFields():
            name = f"{path}.{field.name}".lstrip(".")
            values = value if field.is_repeated else [value]
            if field.message_type is not None:
                for number, one in enumerate(values):
                    yield from self.message(one, f"{name}[{number}]")
                    arrays += _floats(one)
            elif field.cpp_type == field.CPPTYPE_STRING:
                for one in values:
                    yield from self._string(one, name)
            else:
                yield from self._number(values, name)
        yield from self._side_by_side(arrays, path)

    def gathered(self) -> Iterator[Piece]:
        """Names, keys and single numbers that stand alone in their messages, one after the other."""
        import numpy as np

        for path, texts in self._strings.items():
            yield Text(where=f"{self.where}, {path}", text="\n".join(texts))
        for path, singles in self._singles.items():
            yield Numbers(where=f"{self.where}, {path}", values=np.asarray(singles, dtype=np.float64))

    def _string(self, value: str | bytes, name: str) -> Iterator[Piece]:
        if name.endswith("raw_data"):
            return
        if value not in self._seen:
            # A forest says BRANCH_LEQ once for every node.
            self._seen.add(value)
            if isinstance(value, bytes):
                yield from unfold(value, f"{self.where}, {name}", self.budget)
            elif len(value) >= LEAST:
                yield from unfold_text(value, f"{self.where}, {name}", self.budget)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        self._strings.setdefault(INDEX.sub("[]", name), []).append(value)

    def _number(self, values: Any, name: str) -> Iterator[Piece]:
        import numpy as np

        if len(values) >= SHORTEST:
            array = np.asarray(values)
            yield Numbers(where=f"{self.where}, {name}", values=array)
            if (data := _characters(array)) is not None:
                yield from unfold(data, f"{self.where}, {name}, as bytes", self.budget, 1)
        else:
            self._singles.setdefault(INDEX.sub("[]", name), []).extend(values)

    def _tensor(self, tensor: Any, path: str) -> Iterator[Piece]:
        import numpy as np

        if tensor.data_location == EXTERNAL or len(tensor.external_data):
            raise LeakError(
                f"{self.where}, {path} keeps its numbers in another file, which is not collected.",
                left="the outputs on the VM; nothing was stored",
                next="Let train.py save the model whole (onnx.save without external data). Changed code trains anew.",
            )
        where, raw = f"{self.where}, {path}", tensor.raw_data
        if tensor.data_type == FLOAT16 and len(tensor.int32_data):
            halves = np.asarray(tensor.int32_data, dtype=np.int64).astype(np.uint16).view(np.float16)
            yield Numbers(where=where, values=halves)
        if raw:
            yield from self._raw(raw, tensor.data_type, where)
        values = _values(tensor)
        if raw and tensor.data_type in KINDS and (data := _characters(values)) is not None:
            yield from unfold(data, f"{where}, as bytes", self.budget, 1)
        shape = tuple(tensor.dims)
        if len(shape) == 2 and min(shape) >= SHORTEST and shape[0] * shape[1] == len(values):  # noqa: PLR2004 - a table
            yield Numbers(where=f"{where}, read by columns", values=values.reshape(shape).T.ravel())

    def _raw(self, raw: bytes, kind: int, where: str) -> Iterator[Piece]:
        import numpy as np

        if kind not in KINDS or KINDS[kind].endswith("1"):
            yield from unfold(raw, where, self.budget)
            return
        self.budget.spend(len(raw))
        for each in dict.fromkeys((KINDS[kind], "<f4", "<f8")):
            width = np.dtype(each).itemsize
            whole = len(raw) - len(raw) % width
            yield Numbers(where=where, values=np.frombuffer(raw[:whole], each))
        for how, run in runs(raw):
            yield from unfold_text(run, f"{where}, {how}", self.budget, 1)
        for how, inner in unpacked(raw, self.budget):
            yield from unfold(inner, f"{where}, {how}", self.budget, 1)

    def _side_by_side(self, arrays: list[NDArray[Any]], path: str) -> Iterator[Piece]:
        """Arrays of one length beside each other: each may be a column."""
        import numpy as np

        by_length: dict[int, list[NDArray[Any]]] = {}
        for one in arrays:
            by_length.setdefault(len(one), []).append(one.astype(np.float64))
        for length, columns in by_length.items():
            if length >= SHORTEST and len(columns) >= SHORTEST:
                values = np.stack(columns, axis=1).ravel()
                yield Numbers(where=f"{self.where}, {path}: arrays of {length}, side by side", values=values)


def _characters(values: NDArray[Any]) -> bytes | None:
    """Whole numbers from 0 to 255 as the bytes that they may stand for; None if they are others."""
    import numpy as np

    if len(values) < LEAST or values.dtype.kind not in "fiu" or values.dtype.itemsize == 1:
        return None
    if not ((values >= 0) & (values <= BYTE)).all() or (values != np.trunc(values)).any():
        return None
    return values.astype(np.uint8).tobytes()


def _values(tensor: Any) -> NDArray[Any]:
    import numpy as np

    if tensor.raw_data and tensor.data_type in KINDS:
        kind = np.dtype(KINDS[tensor.data_type])
        return np.frombuffer(tensor.raw_data[: len(tensor.raw_data) - len(tensor.raw_data) % kind.itemsize], kind)
    for values in (tensor.float_data, tensor.double_data, tensor.int64_data, tensor.int32_data):
        if len(values):
            return np.asarray(values)
    return np.empty(0)


def _floats(message: Any) -> list[NDArray[Any]]:
    """The arrays of a message that could be a column each."""
    import numpy as np

    kind = message.DESCRIPTOR.name
    if kind == "TensorProto":
        return [_values(message)]
    return [np.asarray(message.floats)] if kind == "AttributeProto" and len(message.floats) else []
