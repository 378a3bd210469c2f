"""An HTTP server for one ONNX model on an edge device: Open Inference Protocol v2, JSON."""

import os

# onnxruntime sends events to Microsoft from its import on; disable_telemetry_events() comes too late for the first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
