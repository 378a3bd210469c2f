"""The process that loads a file it does not trust: ``python -m edgeloop.onnx.trial``.

Models come on standard input, each behind a line of JSON; for each a line of JSON goes out. Every model is tried in a
child of its own, forked when the libraries are loaded, with an end to its memory and its time.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

from edgeloop.onnx import graph
from edgeloop.onnx.rules import Verdict, readable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ROWS = (0.0, 1.0, -1.0, 1e6, 1e12, 3e38, float("nan"))
"""Each fills a row: what a size, an index or a count is made of will be as large as these."""


def main(given: BinaryIO, said: BinaryIO) -> None:
    """Try every model that is given, one after the other."""
    import onnx  # noqa: F401 - loaded once here, for all children
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    onnxruntime.disable_telemetry_events()
    while line := given.readline():
        asked = json.loads(line)
        content = given.read(asked["size"])
        said.write(_apart(content, asked) + b"\n")
        said.flush()


def _apart(content: bytes, asked: dict[str, Any]) -> bytes:
    """What the child says of a model, or how it ended."""
    theirs, ours = os.pipe()
    child = os.fork()
    if not child:
        os.close(theirs)
        _confine(len(content), asked)
        os.write(ours, _verdict(content, asked["features"]))
        os._exit(0)
    os.close(ours)
    with os.fdopen(theirs, "rb") as pipe:
        found = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        ended = signal.Signals(os.WTERMSIG(status))
        why = "took longer than it may" if ended in {signal.SIGALRM, signal.SIGXCPU} else f"crashed with {ended.name}"
        return _line(Verdict(problem=f"onnxruntime {why} when it loaded or asked it"))
    return found


def _confine(size: int, asked: dict[str, Any]) -> None:
    """From here on: so much more memory, so many seconds, no file to write, no dump of memory."""
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - pathlib is not what a forked child should need
        now = int(statm.read().split()[0]) * resource.getpagesize()
    room = now + asked["memory"] + 10 * size
    seconds = max(1, round(asked["seconds"]))
    for what, most in (
        (resource.RLIMIT_AS, room),
        (resource.RLIMIT_CPU, seconds + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 2)


def _verdict(content: bytes, features: int | None) -> bytes:
    try:
        return _line(_judge(content, features))
    except MemoryError:
        return _line(Verdict(problem="it takes more memory than it may"))
    except Exception as error:  # noqa: BLE001 - protobuf's, onnx's and onnxruntime's share no base but Exception
        words = readable(str(error))
        if "bad_alloc" in words or "Failed to allocate memory" in words:
            words = "it takes more memory than it may"
        return _line(Verdict(problem=f"it cannot be loaded: {type(error).__name__}: {words}"))


def _line(verdict: Verdict) -> bytes:
    return json.dumps(asdict(verdict)).encode()


def _judge(content: bytes, features: int | None) -> Verdict:
    import onnx

    model = onnx.ModelProto()
    model.ParseFromString(content)
    if not model.HasField("graph"):
        return Verdict(problem="it is no ONNX: it holds no graph")
    verdict = graph.judge(model, len(content), features)
    if verdict.problem:
        return verdict
    onnx.checker.check_model(model)
    del model
    problem = "; ".join(dict.fromkeys(_asked(content, verdict.features)))
    return Verdict(problem=problem, features=verdict.features, nodes=verdict.nodes, branches=verdict.branches)


def _asked(content: bytes, features: int) -> Iterator[str]:
    """What is wrong with a model's answers to some rows."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # which would ask for more memory than the model
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    rows = np.repeat(np.array(ROWS, dtype=np.float32)[:, None], features, axis=1)
    for asked in (rows[:1], rows):
        one, again = (session.run(None, {name: asked})[0] for _ in range(2))
        yield from _odd(one, len(asked))
        if not np.array_equal(one, again, equal_nan=True):
            yield "it answers the same rows differently"


def _odd(answer: NDArray[Any], rows: int) -> Iterator[str]:
    import numpy as np

    if not isinstance(answer, np.ndarray) or answer.dtype != np.float32:
        yield "it does not answer with float32"
    elif answer.shape not in {(rows,), (rows, 1)}:
        shape = "x".join(map(str, answer.shape)) or "one"
        yield f"it answers {rows} rows with {shape} numbers; the contract is one each"


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
