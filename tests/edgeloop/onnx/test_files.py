"""Files that call themselves models: which may be loaded, and what is said of the others."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.shipyard import linear

from edgeloop.errors import EngineError, TrainingFailedError
from edgeloop.onnx import Limits, check, judge, judge_all, rules
from edgeloop.packaging import golden
from edgeloop.pipeline import Feature
from edgeloop.registry.versions import check_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).resolve().parents[2] / "data" / "onnx"
MLP = (DATA / "mlp.onnx").read_bytes()
SHORT = Limits(size=1 << 20, seconds=2, memory=256 << 20)
MUTATIONS = 150
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def model(*nodes: Any, opset: int = 17, ml: int = 0, ir: int = 8, **graph: Any) -> onnx.ModelProto:
    """A model of these nodes from X [n, 2] to Y [n, 1]; ``graph``: other ``inputs``, ``outputs``, ``given`` tensors."""
    made = helper.make_graph(
        list(nodes) or [helper.make_node("ReduceSum", ["X", "axes"], ["Y"], keepdims=1)],
        "small",
        graph.get("inputs", [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])]),
        graph.get("outputs", [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, 1])]),
        graph.get("given", [helper.make_tensor("axes", TensorProto.INT64, [1], [1])]),
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid("ai.onnx.ml", ml)] if ml else [])]
    return helper.make_model(made, opset_imports=opsets, ir_version=ir)


def saved(made: onnx.ModelProto, change: Callable[[onnx.ModelProto], Any] = lambda _: None) -> bytes:
    """The bytes of a model after a change."""
    change(made)
    return bytes(made.SerializeToString())


def constant(name: str, *values: int) -> Any:
    """An int64 initializer."""
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def table(name: str, kind: int = TensorProto.FLOAT, shape: tuple[Any, ...] = (None, 2)) -> Any:
    """The description of an input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def external(made: onnx.ModelProto) -> None:
    """Say that a tensor lies in another file."""
    tensor = made.graph.initializer[0]
    tensor.ClearField("int64_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def function(made: onnx.ModelProto) -> None:
    """Give it an operator of its own."""
    node = helper.make_node("Add", ["a", "a"], ["b"])
    made.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], [node], made.opset_import))


def nested(depth: int) -> onnx.ModelProto:
    """Ifs in Ifs in Ifs."""
    shape = table("Y", shape=(None, 1))
    inner = helper.make_graph([helper.make_node("ReduceSum", ["X", "axes"], ["Y"])], "inner", [], [shape])
    for _ in range(depth):
        node = helper.make_node("If", ["yes"], ["Y"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([node], "outer", [], [shape])
    given = [constant("axes", 1), helper.make_tensor("yes", TensorProto.BOOL, [], [True])]
    return model(*inner.node, given=given)


def endless() -> onnx.ModelProto:
    """A loop of 2^62 turns."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, [])],
        [info("on", TensorProto.BOOL, [])],
    )
    nodes = [helper.make_node("Loop", ["turns", "yes"], [], body=body)]
    given = [constant("axes", 1), helper.make_tensor("turns", TensorProto.INT64, [], [2**62])]
    given.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    return model(*nodes, helper.make_node("ReduceSum", ["X", "axes"], ["Y"]), given=given)


def of_size(*nodes: Any, given: tuple[Any, ...] = ()) -> onnx.ModelProto:
    """Something large called `big`, added to the answer so that nobody may leave it out."""
    tail = [
        helper.make_node("ReduceSum", ["big"], ["all"], keepdims=0),
        helper.make_node("ReduceSum", ["X", "axes"], ["sum"]),
        helper.make_node("Add", ["sum", "all"], ["Y"]),
    ]
    return model(*nodes, *tail, given=[constant("axes", 1), *given])


def claimed(made: onnx.ModelProto) -> None:
    """Let a tensor of one value claim four million millions."""
    made.graph.initializer[0].dims[:] = [2_000_000, 2_000_000]


BOMB = helper.make_node("ConstantOfShape", ["shape"], ["big"])
GROWING = (
    helper.make_node("Cast", ["X"], ["whole"], to=TensorProto.INT64),
    helper.make_node("ReduceMax", ["whole"], ["most"], keepdims=0),
    helper.make_node("Range", ["zero", "most", "one"], ["counted"]),
    helper.make_node("Cast", ["counted"], ["big"], to=TensorProto.FLOAT),
)
SCALARS = tuple(helper.make_tensor(name, TensorProto.INT64, [], [value]) for name, value in (("zero", 0), ("one", 1)))
CUSTOM = partial(helper.make_node, inputs=["X"], outputs=["Y"])


def archive() -> bytes:
    """A zip, as torch.save writes one."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("archive/data.pkl", b"x")
    return stream.getvalue()


WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "huge": (bytes(SHORT.size + 1), f"it has {SHORT.size + 1} bytes, {SHORT.size} are allowed"),
    "pickle": (pickle.dumps({"weights": [1.0]}), "it is a Python pickle"),
    "zip": (archive(), "it is a zip archive"),
    "png": (PNG, "it is a PNG picture"),
    "gzip": (gzip.compress(MLP), "it is a gzip file"),
    "html": (b"\n<!DOCTYPE html><html><body>404</body></html>", "it is a page of HTML"),
    "json": (b'{"error": "no such blob"}', "it is a text"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "it is a Git LFS pointer"),
    "text": (b"no model at all", "it cannot be loaded|holds no graph"),
    "zeros": (bytes(100), "it cannot be loaded"),
    "a message without graph": (b"\x08\x08", "it holds no graph"),
    "truncated": (MLP[: len(MLP) // 2], "it cannot be loaded"),
    "a byte short": (MLP[:-1], "it cannot be loaded"),
    "operators too new": (saved(model(opset=27)), "needs opset 27 of ai.onnx; 7 to 26"),
    "operators too old": (saved(model(opset=6)), "needs opset 6 of ai.onnx; 7 to 26"),
    "tree operators too new": (saved(model(ml=6)), "needs opset 6 of ai.onnx.ml; 1 to 5"),
    "format too new": (saved(model(ir=14)), r"format \(IR\) version 14; 3 to 13"),
    "no opset": (saved(model(), lambda m: m.ClearField("opset_import")), "names no opset"),
    "a domain of its own": (saved(model(CUSTOM("Twice", domain="mine"))), "uses 'Twice' of domain 'mine'"),
    "Microsoft's operators": (saved(model(CUSTOM("Gelu", domain="com.microsoft"))), "of domain 'com.microsoft'"),
    "a domain it asks for": (
        saved(model(), lambda m: m.opset_import.append(helper.make_opsetid("mine", 1))),
        "operators of domain 'mine'",
    ),
    "an operator nobody knows": (saved(model(CUSTOM("Twice"))), "No Op registered for Twice"),
    "functions": (saved(model(), function), "1 operators of its own"),
    "external data": (saved(model(), external), r"'axes' lies in another file \(external data\)"),
    "nested": (saved(nested(6)), "more than 4 deep"),
    "endless": (saved(endless()), "uses Loop, which need not end"),
    "random": (
        saved(model(helper.make_node("RandomNormalLike", ["X"], ["Y"]))),
        "answers the same row differently",
    ),
    "a claim": (saved(model(), claimed), "claims 2000000x2000000 values, in a file of"),
    "a bomb": (saved(of_size(BOMB, given=(constant("shape", 2**29),))), "more memory than it may"),
    "a bomb that a row sets off": (saved(of_size(*GROWING, given=SCALARS)), "more memory than it may|cannot be loaded"),
    "two inputs": (saved(model(inputs=[table("X"), table("Z")])), "2 inputs and 1 outputs"),
    "no output": (saved(model(outputs=[])), "1 inputs and 0 outputs"),
    "float64": (saved(model(inputs=[table("X", TensorProto.DOUBLE)])), "its input 'X' is no float32 tensor"),
    "one row only": (saved(model(inputs=[table("X", shape=(1, 2))])), "takes exactly 1 rows"),
    "three dimensions": (saved(model(inputs=[table("X", shape=(None, 2, 2))])), "has 3 dimensions"),
    "two answers": (
        saved(model(helper.make_node("Identity", ["X"], ["Y"]), outputs=[table("Y")])),
        "answers 1 rows with 1x2 numbers",
    ),
    "another width": (linear(1.0, 2.0, 3.0), "takes 3 features, pipeline.yaml names 2"),
}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, rules.Verdict]:
    """What is said of each wrong file, all tried by one process."""
    names = list(WRONG)
    return dict(zip(names, judge_all([WRONG[name][0] for name in names], features=2, limits=SHORT), strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_no_model_for_a_device_is_told_why(verdicts: dict[str, rules.Verdict], name: str) -> None:
    """Each gets a sentence of what it is or lacks, and nothing that was tried before it hurts it."""
    import re

    assert re.search(WRONG[name][1], verdicts[name].problem), verdicts[name].problem
    assert len(verdicts[name].problem) < 1000
    assert verdicts[name].problem.isprintable()


def test_models_that_may_be_loaded() -> None:
    """PyTorch's export, a linear model, an older opset and format, an If: width and size of each are told."""
    good = [MLP, linear(1.0, 2.0), saved(model(opset=13, ir=7)), saved(nested(2)), saved(model(opset=26, ml=5, ir=13))]
    found = judge_all(good)
    assert [one.problem for one in found] == [""] * len(good)
    assert [one.features for one in found] == [3, 2, 2, 2, 2]


@pytest.mark.parametrize("change", ["bytes", "fields"])
def test_no_mutation_hurts(change: str) -> None:
    """Files with flipped bytes or odd values in their fields give a verdict each, and the process lives through all."""
    generator = random.Random(5)
    sources = [MLP, linear(1.0, 2.0), forest()]
    mutate = {"bytes": flipped, "fields": odd}[change]
    files = [mutate(generator.choice(sources), generator) for _ in range(MUTATIONS)]

    found = judge_all(files, limits=SHORT)

    assert len(found) == MUTATIONS
    assert any(one.problem for one in found)


def forest() -> bytes:
    """A tree of three leaves."""
    attributes = {
        "nodes_treeids": [0] * 5, "nodes_nodeids": [0, 1, 2, 3, 4], "nodes_featureids": [0, 1, 0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"], "nodes_values": [1.0, 2.0, 0.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 2, 0, 0, 0], "nodes_falsenodeids": [4, 3, 0, 0, 0],
        "nodes_missing_value_tracks_true": [0] * 5, "target_treeids": [0] * 3, "target_nodeids": [2, 3, 4],
        "target_ids": [0] * 3, "target_weights": [1.0, 2.0, 3.0], "n_targets": 1,
    }  # fmt: skip
    node = helper.make_node("TreeEnsembleRegressor", ["X"], ["Y"], domain="ai.onnx.ml", **attributes)
    return saved(model(node, ml=3, given=[]))


def flipped(content: bytes, generator: random.Random) -> bytes:
    """Some bytes changed, left out or put in."""
    mutated = bytearray(content)
    for _ in range(generator.choice((1, 1, 3, 20))):
        at = generator.randrange(len(mutated))
        end = at + generator.choice((0, 1, 1, 9))
        mutated[at:end] = generator.randbytes(generator.choice((0, 1, 1, 9)))
    return bytes(mutated)


def odd(content: bytes, generator: random.Random) -> bytes:
    """Some fields, however deep, set to values nobody means."""
    made = onnx.load_model_from_string(content)
    fields = list(scalars(made))
    for _ in range(generator.choice((1, 1, 4))):
        message, field = generator.choice(fields)
        value = {
            field.CPPTYPE_FLOAT: generator.choice((0.0, float("nan"), float("inf"), -3e38)),
            field.CPPTYPE_STRING: generator.choice(("", "X", "Y", "Cast", "LEAF")),
        }.get(field.cpp_type, generator.choice((0, 1, -1, 2, 255, 2**31 - 1, -(2**31))))
        if field.cpp_type == field.CPPTYPE_UINT64:
            value = 2**40
        if field.type == field.TYPE_BYTES:
            value = str(value).encode()
        if field.is_repeated:
            sequence = getattr(message, field.name)
            sequence[generator.randrange(len(sequence))] = value
        elif field.cpp_type != field.CPPTYPE_ENUM:
            setattr(message, field.name, value)
    return bytes(made.SerializeToString())


def scalars(message: Any) -> Any:
    """Every field of every message that is set and no message itself."""
    for field, value in message.ListFields():
        if field.message_type is None:
            yield message, field
        else:
            for one in value if field.is_repeated else [value]:
                yield from scalars(one)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed with SIGSEGV"),
        ("while True: pass", "took longer than it may"),
        ("import time; time.sleep(3600)", "took longer than it may"),
        ("bytearray(1 << 31)", "more memory than it may"),
    ],
)
def test_a_crash_a_hang_and_a_flood_are_verdicts(
    body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An onnxruntime that dies, never returns or eats the memory is the model's fault, and the worker lives on."""
    fake = tmp_path / "onnxruntime.py"
    fake.write_text(
        "def set_default_logger_severity(level): pass\n"
        "def disable_telemetry_events(): pass\n"
        "class SessionOptions: pass\n"
        f"def InferenceSession(*args, **kwargs):\n    {body}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    first, second = judge_all([MLP, MLP], limits=Limits(seconds=1, memory=64 << 20))
    assert words in first.problem
    assert words in second.problem


def test_a_process_that_cannot_do_its_work_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where onnxruntime is not even installed nothing is known about the file, and the error says where to look."""
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('no such wheel')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EngineError, match="no such wheel") as caught:
        judge(MLP)
    assert "installation" in caught.value.next


def test_registering_refuses_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the training, the file's problem and what to do; a good file is tried once in a worker."""
    with pytest.raises(TrainingFailedError, match=r"training run abc cannot be loaded: it is a zip archive") as caught:
        check_onnx(archive(), "abc")
    assert "clear the train task" in caught.value.next
    first = check_onnx(MLP, "abc", 3)
    monkeypatch.setattr(check, "_tried", lambda *_: pytest.fail("tried again"))
    assert check_onnx(MLP, "other", 3) is first


def test_a_model_of_another_framework_answers_golden_rows() -> None:
    """PyTorch's own answers to 64 rows are onnxruntime's within rounding, and golden rows can be made of it."""
    kept = json.loads((DATA / "mlp.json").read_text())
    answers = np.array(golden.answer(MLP, kept["rows"]))
    assert np.abs(answers - np.array(kept["answers"])).max() < 1e-5 * np.abs(kept["answers"]).max()
    features = tuple(Feature(name=name, low=0, high=20) for name in ("Ws", "Ot", "Va"))
    made = golden.make(MLP, "0" * 64, features, 8)
    assert len(set(made.answers)) == 8


def test_the_rules_are_the_scorers_onnxruntime() -> None:
    """The opsets that are allowed are the last ones this onnxruntime supports, which is the scorer's image's."""
    import onnxruntime

    pins = (Path(__file__).resolve().parents[3] / "include" / "images" / "scorer" / "requirements.txt").read_text()
    assert f"onnxruntime=={onnxruntime.__version__} " in pins
    for changes in ({"opset": 27}, {"opset": 17, "ml": 6}, {"ir": 14}):
        made = model(helper.make_node("Neg", ["X"], ["Y"]), given=[], outputs=[table("Y")], **changes)
        with pytest.raises(Exception, match=r"till opset|max supported IR"):
            onnxruntime.InferenceSession(saved(made), providers=["CPUExecutionProvider"])
