"""Edgeloop's library: what each stage of the loop does, without Airflow."""

import os
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("edgeloop")
except PackageNotFoundError:  # a source tree on PYTHONPATH that was never installed
    __version__ = "0+uninstalled"

# The Linux wheel of onnxruntime sends events to Microsoft from its import on, names in the model's graph among them;
# disable_telemetry_events() after it is too late for the first of them (both seen, 1.31.1).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
