"""From files on a share to a Batch: scan, settle, claim."""

from __future__ import annotations

from edgeloop.share.claim import Claim, Claims, Intake, group_of, rule_of, watch
from edgeloop.share.emission import Emissions, Fate, Right
from edgeloop.share.scan import Folder, Seen

__all__ = ["Claim", "Claims", "Emissions", "Fate", "Folder", "Intake", "Right", "Seen", "group_of", "rule_of", "watch"]
