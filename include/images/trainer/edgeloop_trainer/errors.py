"""What may go wrong, each with a sentence that says what to do.

ExportError   the model cannot be converted, or not without answering differently
ParityError   the ONNX model does not answer as the trained one, or could not be asked
"""


class ExportError(Exception):
    """The model cannot be converted to an ONNX file that answers as it does."""


class ParityError(Exception):
    """The ONNX model answers differently from the model that was trained, or one of them does not answer."""
