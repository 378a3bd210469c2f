"""Model versions and the promotion ledger: what is registered, what is candidate, what is champion, and why."""

from edgeloop.registry.blob_backend import BlobRegistry
from edgeloop.registry.decision import Decision, Rules, compare, may_go_out
from edgeloop.registry.history import champion_at, entry, history, set_aside, which
from edgeloop.registry.promotions import (
    candidate,
    champion,
    current,
    is_quarantined,
    nominate,
    promote,
    quarantine,
    reject,
)
from edgeloop.registry.standing import Standing
from edgeloop.registry.tags import tag, tags
from edgeloop.registry.versions import register

__all__ = [
    "BlobRegistry",
    "Decision",
    "Rules",
    "Standing",
    "candidate",
    "champion",
    "champion_at",
    "compare",
    "current",
    "entry",
    "history",
    "is_quarantined",
    "may_go_out",
    "nominate",
    "promote",
    "quarantine",
    "register",
    "reject",
    "set_aside",
    "tag",
    "tags",
    "which",
]
