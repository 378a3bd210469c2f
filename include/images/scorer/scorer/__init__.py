"""An HTTP server for one ONNX model on an edge device: Open Inference Protocol v2, JSON."""
