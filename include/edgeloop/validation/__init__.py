"""From a Batch to a Certificate: the expectation suite, the quarantine, the reasons."""

from __future__ import annotations

from edgeloop.validation.certify import Certification
from edgeloop.validation.intervals import Labels, batch_of, certificate_of, intervals_of, labels_of, newest

__all__ = ["Certification", "Labels", "batch_of", "certificate_of", "intervals_of", "labels_of", "newest"]
