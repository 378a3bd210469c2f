"""A scorer that really runs: its own process, a small ONNX model, a folder as the device's share.

For tests/images and for the player's tests; fixtures in the conftest.py beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCORER = Path(__file__).parents[2] / "include" / "images" / "scorer"
DEADLINE = 30.0


def make_model(folder: Path, features: int = 3, *, scale: float = 0.1) -> bytes:
    """Write a linear model of so many features with its card; return the ONNX bytes."""
    from onnx import TensorProto, helper

    weights = (np.arange(1, features + 1, dtype=np.float32) * np.float32(scale)).reshape(features, 1)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["X", "W"], ["out"])],
        "linear",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, features])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("W", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content = model.SerializeToString()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    card = {"name": "small", "version": "7", "features": [f"f{i}" for i in range(features)]}
    (folder / "model.json").write_text(json.dumps({**card, "sha256": hashlib.sha256(content).hexdigest()}))
    return content


@dataclass(slots=True)
class Scorer:
    """A running scorer process."""

    process: subprocess.Popen[str]
    port: int
    share: Path
    onnx: bytes

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One HTTP exchange over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def infer(self, body: Any) -> tuple[int, Any]:
        """POST an inference request given as an object."""
        status, content = self.ask("POST", "/v2/models/small/infer", json.dumps(body).encode())
        return status, json.loads(content)

    def logged(self) -> list[dict[str, Any]]:
        """Every whole line of the prediction log."""
        files = sorted((self.share / "predictions").rglob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the process and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)


def launch(folder: Path, share: Path, **environment: str) -> tuple[subprocess.Popen[str], int]:
    """Start `python -m scorer` on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "PYTHONPATH": str(SCORER),
        "EDGELOOP_MODEL": str(folder),
        "EDGELOOP_SHARE": str(share),
        "EDGELOOP_SITE": "R80711",
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "scorer"],
        env={**os.environ, **settings, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return process, port


def await_ready(process: subprocess.Popen[str], port: int) -> None:
    """Poll until the server says it is ready."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"the scorer did not become ready: {process.communicate()[0]}")
