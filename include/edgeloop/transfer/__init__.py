"""Files to blob storage: conditional, checked on the way, read back after."""

from __future__ import annotations

from edgeloop.transfer.upload import Progress, Transferred, file_digest, upload, verify

__all__ = ["Progress", "Transferred", "file_digest", "upload", "verify"]
