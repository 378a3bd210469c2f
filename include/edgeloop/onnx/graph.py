"""What a parsed ONNX model says of itself, judged without running any of it."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from edgeloop.onnx.rules import (
    ALIASES,
    DEPTH,
    ENDLESS,
    IR_VERSIONS,
    NODES,
    OPSETS,
    RANDOM,
    SPARE,
    STANDARD,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOAT, EXTERNAL = 1, 1
BRANCH = b"BRANCH"


def judge(model: Any, size: int, features: int | None) -> Verdict:
    """The verdict on an ``onnx.ModelProto`` of ``size`` bytes, whose input should have ``features`` columns."""
    graphs = list(_graphs(model.graph, 0))
    problems = (
        *_stamps(model),
        *(problem for depth, graph in graphs for problem in _graph(graph, depth, size)),
        *_contract(model.graph, features),
    )
    nodes = sum(len(graph.node) for _, graph in graphs)
    crowd = (f"it has {nodes} operators, {NODES} are allowed",) if nodes > NODES else ()
    columns = _columns(model.graph)
    branches = sum(_branches(node) for _, graph in graphs for node in graph.node)
    return Verdict(
        problem="; ".join(dict.fromkeys((*problems, *crowd))),
        features=columns or features or 0,
        nodes=nodes,
        branches=branches,
    )


def _stamps(model: Any) -> Iterator[str]:
    """What the file says of its format, its operators' versions, and of operators of its own."""
    first, last = IR_VERSIONS
    if not first <= model.ir_version <= last:
        yield f"it has format (IR) version {model.ir_version}; {first} to {last} can be read"
    if not model.opset_import:
        yield "it names no opset"
    for one in model.opset_import:
        domain = ALIASES.get(one.domain, one.domain)
        if domain not in OPSETS:
            yield f"it uses operators of domain {one.domain!r}; only ai.onnx and ai.onnx.ml are allowed"
        elif not OPSETS[domain][0] <= one.version <= OPSETS[domain][1]:
            name = domain or "ai.onnx"
            yield f"it needs opset {one.version} of {name}; {OPSETS[domain][0]} to {OPSETS[domain][1]} are supported"
    if model.functions:
        yield f"it defines {len(model.functions)} operators of its own (functions), which are not allowed"
    if model.training_info:
        yield "it holds training information, which no device needs"


def _graphs(graph: Any, depth: int) -> Iterator[tuple[int, Any]]:
    """A graph and those in its operators' attributes, each with its depth; not beyond the first that is too deep."""
    yield depth, graph
    if depth > DEPTH:
        return
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _graphs(inner, depth + 1)


def _graph(graph: Any, depth: int, size: int) -> Iterator[str]:
    if depth > DEPTH:
        yield f"its graphs lie more than {DEPTH} deep in each other"
        return
    for node in graph.node:
        yield from _operator(node)
        for attribute in node.attribute:
            yield from _constants(attribute, size)
    for tensor in graph.initializer:
        yield from _tensor(tensor, size)
    for sparse in graph.sparse_initializer:
        yield from _sparse(sparse, size)


def _operator(node: Any) -> Iterator[str]:
    standard = node.domain in {STANDARD, *ALIASES}
    if ALIASES.get(node.domain, node.domain) not in OPSETS:
        yield f"it uses {node.op_type!r} of domain {node.domain!r}; only ai.onnx and ai.onnx.ml are allowed"
    elif standard and node.op_type in ENDLESS:
        yield f"it uses {node.op_type}, which need not end"
    elif standard and node.op_type in RANDOM:
        yield f"it uses {node.op_type}, which answers the same row differently"


def _constants(attribute: Any, size: int) -> Iterator[str]:
    for tensor in (*((attribute.t,) if attribute.HasField("t") else ()), *attribute.tensors):
        yield from _tensor(tensor, size)
    if attribute.HasField("sparse_tensor"):
        yield from _sparse(attribute.sparse_tensor, size)


def _sparse(sparse: Any, size: int) -> Iterator[str]:
    yield from _tensor(sparse.values, size)
    yield from _tensor(sparse.indices, size)
    yield from _room(sparse.values.name, sparse.dims, size)


def _tensor(tensor: Any, size: int) -> Iterator[str]:
    if tensor.data_location == EXTERNAL or tensor.external_data:
        yield f"its tensor {tensor.name!r} lies in another file (external data), which does not come along"
    yield from _room(tensor.name, tensor.dims, size)


def _room(name: str, dims: Any, size: int) -> Iterator[str]:
    if any(one < 0 for one in dims) or prod(dims) > SPARE * size:
        yield f"its tensor {name!r} claims {'x'.join(map(str, dims))} values, in a file of {size} bytes"


def _contract(graph: Any, features: int | None) -> Iterator[str]:
    """One input float32 [n, features], one output float32: what the scorer feeds it and reads from it."""
    given = _inputs(graph)
    if len(given) != 1 or len(graph.output) != 1:
        yield f"it has {len(given)} inputs and {len(graph.output)} outputs; the scorer's contract is one of each"
        return
    for what, value in (("input", given[0]), ("output", graph.output[0])):
        if not value.type.HasField("tensor_type") or value.type.tensor_type.elem_type != FLOAT:
            yield f"its {what} {value.name!r} is no float32 tensor"
    shape = given[0].type.tensor_type.shape.dim
    if len(shape) != 2:  # noqa: PLR2004 - a table
        yield f"its input has {len(shape)} dimensions; it must be [n, features]"
    elif shape[0].HasField("dim_value"):
        yield f"its input takes exactly {shape[0].dim_value} rows; their number must be open"
    elif not _columns(graph) and not features:
        yield "its input does not say how many features it takes"
    elif features and (found := _columns(graph)) and found != features:
        yield f"its input takes {found} features, pipeline.yaml names {features}"


def _inputs(graph: Any) -> list[Any]:
    # Before IR 4 every initializer was listed among the inputs too.
    known = {one.name for one in graph.initializer}
    return [one for one in graph.input if one.name not in known]


def _columns(graph: Any) -> int:
    """The width of the one input; 0 if it is open or there is no such input."""
    given = _inputs(graph)
    if len(given) != 1 or len(given[0].type.tensor_type.shape.dim) != 2:  # noqa: PLR2004 - a table
        return 0
    return int(given[0].type.tensor_type.shape.dim[1].dim_value)


def _branches(node: Any) -> int:
    """How many branches the trees of an operator have."""
    if not node.op_type.startswith("TreeEnsemble"):
        return 0
    by_name = {one.name: one for one in node.attribute}
    if "nodes_modes" not in by_name:
        return 0
    modes = by_name["nodes_modes"]
    # TreeEnsemble (ai.onnx.ml 5) lists branches alone, as numbers in a tensor.
    return sum(one.startswith(BRANCH) for one in modes.strings) or prod(modes.t.dims or (0,))
