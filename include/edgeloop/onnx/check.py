"""Files judged in another process, so that none of them can hurt this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from edgeloop.errors import EngineError
from edgeloop.onnx.rules import Limits, Verdict, readable, unfit

if TYPE_CHECKING:
    from collections.abc import Sequence

START_SECONDS = 60.0
"""What loading onnx and onnxruntime may take on a machine that is busy with other things."""


def judge(content: bytes, *, features: int | None = None, limits: Limits | None = None) -> Verdict:
    """What an ONNX file is, and why it may not be loaded; ``features`` is the width that its input should have.

    Raises:
        EngineError: The process that tries it could not do its work; nothing is known about the file.
    """
    return judge_all([content], features=features, limits=limits)[0]


def judge_all(contents: Sequence[bytes], *, features: int | None = None, limits: Limits | None = None) -> list[Verdict]:
    """As :func:`judge`, several files in one go."""
    bounds = limits or Limits()
    found = {at: Verdict(problem=problem) for at, one in enumerate(contents) if (problem := unfit(one, bounds))}
    waiting = [at for at in range(len(contents)) if at not in found]
    if waiting:
        found |= dict(zip(waiting, _tried([contents[at] for at in waiting], features, bounds), strict=True))
    return [found[at] for at in range(len(contents))]


def _tried(contents: list[bytes], features: int | None, limits: Limits) -> list[Verdict]:
    asked = {"features": features, "seconds": limits.seconds, "memory": limits.memory}
    given = b"".join(json.dumps({"size": len(one), **asked}).encode() + b"\n" + one for one in contents)
    # One thread each: a pool of them for a few rows would only cost memory and a fork that copies it.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-P", "-m", "edgeloop.onnx.trial"]
    whole = START_SECONDS + len(contents) * (limits.seconds + 1)
    try:
        done = subprocess.run(command, input=given, capture_output=True, env=environment, timeout=whole, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(str(error)) from error
    lines = done.stdout.splitlines()
    if done.returncode or len(lines) != len(contents):
        raise _failed(f"exit code {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}")
    return [Verdict(**json.loads(line)) for line in lines]


def _failed(why: str) -> EngineError:
    return EngineError(
        f"The process that tries ONNX files did not do its work: {readable(why)}",
        left="the file; nothing was loaded or registered",
        next="Look at this worker's free memory and its installation (python -c 'import onnx, onnxruntime'), then "
        "clear the task.",
    )
