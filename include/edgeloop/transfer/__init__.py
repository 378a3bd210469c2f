"""Files to blob storage and back: conditional, resumed, checked on the way, read back after, within a bandwidth."""

from __future__ import annotations

from edgeloop.transfer.batch import Outgoing, Shipment, manifest_name, seal, send_all, upload_all
from edgeloop.transfer.download import Fetched, download, stream
from edgeloop.transfer.plan import Plan, Terms, plan
from edgeloop.transfer.progress import Progress
from edgeloop.transfer.proof import Proof, verify
from edgeloop.transfer.target import Transferred, file_digest
from edgeloop.transfer.upload import Courier, upload

__all__ = [
    "Courier",
    "Fetched",
    "Outgoing",
    "Plan",
    "Progress",
    "Proof",
    "Shipment",
    "Terms",
    "Transferred",
    "download",
    "file_digest",
    "manifest_name",
    "plan",
    "seal",
    "send_all",
    "stream",
    "upload",
    "upload_all",
    "verify",
]
