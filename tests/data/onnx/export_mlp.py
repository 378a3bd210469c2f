"""Make mlp.onnx: a small PyTorch network, exported by PyTorch itself. Needs what README.md names; no test runs this.

    python export_mlp.py

It learns a made-up power curve from synthetic rows, so nothing measured is in it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import torch

HERE = Path(__file__).parent
FEATURES, HIDDEN, STEPS = 3, 16, 400


def data(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of [wind speed, temperature, vane] and the power of a made-up turbine."""
    rng = np.random.default_rng(seed)
    x = rng.uniform([0, -10, -30], [20, 35, 30], size=(rows, FEATURES)).astype(np.float32)
    y = 2000 / (1 + np.exp(-(x[:, 0] - 9) / 1.5)) - 2 * x[:, 1] - 0.1 * x[:, 2] ** 2
    return torch.from_numpy(x), torch.from_numpy(y.astype(np.float32)[:, None])


class Network(torch.nn.Module):
    """Two hidden layers; scales its input itself, since a device knows no scaler."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([20.0, 35.0, 30.0]))
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(FEATURES, HIDDEN), torch.nn.Tanh(),
            torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.ReLU(),
            torch.nn.Linear(HIDDEN, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [n, 3] -> [n, 1]."""
        return self.layers(x / self.scale) * 1000


def main() -> None:
    """Train, export, and keep what PyTorch answers to some rows."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, (x, y) = Network(), data(4096, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.l1_loss(model(x), y).backward()
        optimizer.step()
    model.eval()
    target = HERE / "mlp.onnx"
    torch.onnx.export(
        model, (x[:4],), target, input_names=["X"], output_names=["Y"], dynamic_shapes=({0: torch.export.Dim("n")},),
        opset_version=18, dynamo=True, external_data=False,
    )  # fmt: skip
    proto = onnx.load(target)
    proto.doc_string = ""
    for node in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        node.doc_string = ""
        del node.metadata_props[:]  # the exporter notes the stack of every operator, with this machine's paths
    del proto.metadata_props[:]
    onnx.save(proto, target)
    held, _ = data(64, 1)
    with torch.no_grad():
        answers = model(held).reshape(-1)
    content = {"rows": held.tolist(), "answers": answers.tolist()}
    (HERE / "mlp.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
