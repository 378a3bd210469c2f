"""From a Batch to a Certificate: the expectation suite, the quarantine, the reasons."""

from __future__ import annotations

from edgeloop.validation.certify import Certification, SupersededError
from edgeloop.validation.lookup import batch_of, certificate_of

__all__ = ["Certification", "SupersededError", "batch_of", "certificate_of"]
