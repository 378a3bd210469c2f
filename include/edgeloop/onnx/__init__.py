"""Whether an ONNX file may be loaded: by a device's scorer, or by onnxruntime anywhere on a worker.

:mod:`~edgeloop.onnx.rules` says what is allowed, :mod:`~edgeloop.onnx.graph` reads a file by it, and
:mod:`~edgeloop.onnx.trial` loads and asks it in a process of its own, which may crash, hang or run out of memory.
"""

from edgeloop.onnx.check import judge, judge_all
from edgeloop.onnx.rules import Limits, Verdict

__all__ = ["Limits", "Verdict", "judge", "judge_all"]
