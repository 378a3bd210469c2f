"""The versions that decide what a certificate says: an upgrade of either judges a batch anew."""

from __future__ import annotations

from importlib.metadata import version

import edgeloop


def library() -> str:
    """``edgeloop 0.1.0, great_expectations 1.24.1``, without importing the latter."""
    return f"edgeloop {edgeloop.__version__}, great_expectations {version('great_expectations')}"
