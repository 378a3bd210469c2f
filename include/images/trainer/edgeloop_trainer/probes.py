"""Rows at which a conversion goes wrong: at and beside every threshold of the model's trees, missing, extreme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeloop_trainer.errors import ParityError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

BASES = 8
"""How many rows of the hold-out carry a missing or extreme value in each of their columns."""
FLOAT = np.finfo(np.float32)
_SIZES = tuple(map(float, (FLOAT.smallest_subnormal, FLOAT.tiny, FLOAT.max)))
EXTREMES = (0.0, -0.0, *_SIZES, *(-one for one in _SIZES))
INFINITE = (np.inf, -np.inf)
ROUNDING = 2.0**-24
"""Unit roundoff of float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """The branch nodes of all trees: feature [m], threshold [m], and the box [m, k] of rows that get there."""

    feature: NDArray[np.int64]
    threshold: Rows
    low: Rows
    high: Rows

    def __len__(self) -> int:
        """How many there are."""
        return len(self.feature)


def ensembles(model: Any) -> list[Any]:
    """The tree ensembles of an ONNX model.

    Raises:
        ParityError: One is not asked the model's input itself, or is of a kind whose thresholds cannot be read.
    """
    given = {one.name for one in model.graph.input}
    found = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
    for node in found:
        if node.op_type == "TreeEnsemble":
            raise ParityError(
                "thresholds of TreeEnsemble (ai.onnx.ml 5) are not read; save the model with ai.onnx.ml 3"
            )
        if node.input[0] not in given:
            raise ParityError(
                "the trees are asked what other nodes made of X, so no row at their thresholds can be given; "
                "leave out the scaler before them (trees need none), or scale the data before it is X"
            )
    return found


def branches(model: Any, features: int) -> Branches:
    """Every branch of every tree, with the box of rows that reach it."""
    found = [one for node in ensembles(model) for one in _branches(node, features)]
    shape = (len(found), features)
    return Branches(
        feature=np.array([one[0] for one in found], dtype=np.int64),
        threshold=np.array([one[1] for one in found], dtype=np.float32),
        low=np.array([one[2] for one in found], dtype=np.float32).reshape(shape),
        high=np.array([one[3] for one in found], dtype=np.float32).reshape(shape),
    )


def _branches(ensemble: Any, features: int) -> list[tuple[int, np.float32, Rows, Rows]]:
    attributes = {one.name.removeprefix("nodes_"): one for one in ensemble.attribute}
    trees, nodes, asked, true, false = (
        list(attributes[name].ints) for name in ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    )
    modes = [one.decode() for one in attributes["modes"].strings]
    values = np.array(attributes["values"].floats, dtype=np.float32)
    place = {key: at for at, key in enumerate(zip(trees, nodes, strict=True))}
    inner = {(tree, child) for at, tree in enumerate(trees) if modes[at] != "LEAF" for child in (true[at], false[at])}
    everything = np.full(features, -np.inf, dtype=np.float32), np.full(features, np.inf, dtype=np.float32)
    waiting = [(at, *everything) for key, at in place.items() if key not in inner]
    found = []
    while waiting:
        at, low, high = waiting.pop()
        if modes[at] == "LEAF":
            continue
        column, value = asked[at], values[at]
        found.append((column, value, low, high))
        below, above = _sides(modes[at], value)
        left, right = high.copy(), low.copy()
        left[column], right[column] = min(left[column], below), max(right[column], above)
        waiting += [(place[trees[at], true[at]], low, left), (place[trees[at], false[at]], right, high)]
    return found


def _sides(mode: str, value: np.float32) -> tuple[np.float32, np.float32]:
    """The largest value that goes left and the smallest that goes right; no bounds where a branch is no comparison."""
    least, most = np.float32(-np.inf), np.float32(np.inf)
    if mode == "BRANCH_LEQ":
        return value, np.nextafter(value, most)
    return (np.nextafter(value, least), value) if mode == "BRANCH_LT" else (most, least)


def at_thresholds(found: Branches, rows: Rows) -> Rows:
    """For every branch three rows that get there: exactly at its threshold, one float32 below and one above."""
    exact = found.threshold
    with np.errstate(over="ignore"):
        values = np.concatenate([exact, *(np.nextafter(exact, np.float32(side)) for side in (-np.inf, np.inf))])
    made: Rows = np.concatenate([_reaching(found, rows, value) for value in np.split(values, 3)])
    kept: Rows = made[np.isfinite(values)]
    return kept


def missing(found: Branches, rows: Rows) -> Rows:
    """For every branch a row that gets there and lacks what it asks; rows that lack one column, and all."""
    every = np.full((1, rows.shape[1]), np.nan, dtype=np.float32)
    at_branches = _reaching(found, rows, np.full(len(found), np.nan, dtype=np.float32))
    return np.concatenate([at_branches, _in_each_column(rows, (np.nan,)), every])


def extreme(rows: Rows, largest: float) -> Rows:
    """Rows of the hold-out with one column zero, denormal, or as large as float32 (or ``largest``) goes."""
    return _in_each_column(rows, tuple(max(-largest, min(largest, one)) for one in EXTREMES))


def infinite(rows: Rows) -> Rows:
    """Rows of the hold-out with one column infinite."""
    return _in_each_column(rows, INFINITE)


def _reaching(found: Branches, rows: Rows, values: Rows) -> Rows:
    base = np.clip(rows[np.arange(len(found)) % len(rows)], found.low, found.high)
    base[np.isinf(base)] = np.nan  # beyond a threshold of infinity, which sends on what is there, lies what is missing
    base[np.arange(len(found)), found.feature] = values
    return base


def _in_each_column(rows: Rows, values: tuple[float, ...]) -> Rows:
    bases = rows[np.unique(np.linspace(0, len(rows) - 1, BASES).astype(np.int64))]
    columns = rows.shape[1]
    made = np.repeat(bases, columns * len(values), axis=0)
    column = np.tile(np.repeat(np.arange(columns), len(values)), len(bases))
    made[np.arange(len(made)), column] = np.tile(np.array(values, dtype=np.float32), len(bases) * columns)
    return made


def rounding_bound(model: Any) -> tuple[float, float] | None:
    """Of a model that is nothing but summed trees: the largest answer, and how far rounding alone can take one.

    A sum of n float32 terms, in whatever order, is at most ``(n - 1) * u * sum(|term|)`` from the exact one, and
    rounding the terms adds ``u * sum(|term|)`` (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section
    4.2). Each tree's leaf is a term, and so is the base value; frameworks that sum in float32 as well may be as far off
    on the other side. None for other models, whose rounding the file does not show.
    """
    plain = {"TreeEnsembleRegressor", "Identity", "Reshape", "Cast"}
    found = ensembles(model)
    if len(found) != 1 or {node.op_type for node in model.graph.node} - plain:
        return None
    attributes = {one.name: one for one in found[0].attribute}
    aggregate = attributes["aggregate_function"].s if "aggregate_function" in attributes else b"SUM"
    transform = attributes["post_transform"].s if "post_transform" in attributes else b"NONE"
    if (aggregate, transform) != (b"SUM", b"NONE"):
        return None
    tallest: dict[int, float] = {}
    for tree, weight in zip(attributes["target_treeids"].ints, attributes["target_weights"].floats, strict=True):
        tallest[tree] = max(abs(weight), tallest.get(tree, 0.0))
    base = sum(abs(one) for one in attributes["base_values"].floats) if "base_values" in attributes else 0.0
    scale = sum(tallest.values()) + base
    return scale, 2 * (len(tallest) + 1) * ROUNDING * scale
