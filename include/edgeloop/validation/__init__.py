"""From a Batch to a Certificate: the expectation suite, the quarantine, the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeloop.validation.certify import Certification, SupersededError
    from edgeloop.validation.lookup import batch_of, certificate_of

__all__ = ["Certification", "SupersededError", "batch_of", "certificate_of"]

_HOMES = {"Certification": "certify", "SupersededError": "certify", "batch_of": "lookup", "certificate_of": "lookup"}


def __getattr__(name: str) -> Any:
    """What the package offers, imported when it is asked for: every parse of a DAG file reads the package's names."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
