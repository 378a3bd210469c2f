"""From files on a share to a Batch: scan, settle, claim."""

from __future__ import annotations

from edgeloop.share.claim import Claim, Claims, Intake
from edgeloop.share.emission import Emissions, Fate, Right
from edgeloop.share.grouping import group_of
from edgeloop.share.scan import Folder
from edgeloop.share.source import Seen

__all__ = ["Claim", "Claims", "Emissions", "Fate", "Folder", "Intake", "Right", "Seen", "group_of"]
