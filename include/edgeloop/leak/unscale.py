"""Rows behind a scaler: a model that scales its input and keeps rows keeps them scaled, and says itself by how much.

The scaling is undone by the model's own constants, so the rows are known again to some five digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeloop.leak.piece import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

FEWEST_COLUMNS, FEWEST_ROWS = 2, 3
DIGITS = 5
UNDO: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda values, constant: values - constant,
    "Sub": lambda values, constant: values + constant,
    "Mul": lambda values, constant: values / constant,
    "Div": lambda values, constant: values * constant,
}
Step = tuple[str, "NDArray[Any]"]


def unscaled(graph: Any, where: str, values_of: Callable[[Any], NDArray[Any]]) -> Iterator[Numbers]:
    """Every table of a graph as wide as its scaling, with the scaling undone; ``values_of`` reads an initialiser."""
    import numpy as np

    constants = {one.name: values_of(one).astype(np.float64) for one in graph.initializer}
    steps: dict[int, list[Step]] = {}
    for node in graph.node:
        for step in _steps(node, constants):
            steps.setdefault(len(step[1]), []).append(step)
    for name, values in _tables(graph, constants):
        for width, chain in steps.items():
            if len(values) % width == 0 and len(values) >= FEWEST_ROWS * width:
                table = _undone(values.reshape(-1, width), chain)
                yield Numbers(where=f"{where}, {name}, unscaled", values=table.ravel(), digits=DIGITS)


def _undone(table: NDArray[Any], chain: list[Step]) -> NDArray[Any]:
    import numpy as np

    with np.errstate(all="ignore"):
        for operation, constant in reversed(chain):
            table = UNDO[operation](table, constant)
    return table


def _steps(node: Any, constants: dict[str, NDArray[Any]]) -> Iterator[Step]:
    import numpy as np

    if node.op_type == "Scaler":
        attributes = {one.name: np.asarray(one.floats, dtype=np.float64) for one in node.attribute}
        for operation, name in (("Sub", "offset"), ("Mul", "scale")):
            if len(attributes.get(name, ())) >= FEWEST_COLUMNS:
                yield operation, attributes[name]
    elif node.op_type in UNDO:
        for name in node.input:
            if len(constants.get(name, ())) >= FEWEST_COLUMNS:
                yield node.op_type, constants[name]


def _tables(graph: Any, constants: dict[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[Any]]]:
    import numpy as np

    for number, (tensor, values) in enumerate(zip(graph.initializer, constants.values(), strict=False)):
        if len(tensor.dims) > 1:
            yield f"initializer[{number}]", values
    for number, node in enumerate(graph.node):
        for place, one in enumerate(node.attribute):
            if one.name == "support_vectors":
                yield f"node[{number}].attribute[{place}]", np.asarray(one.floats, dtype=np.float64)
