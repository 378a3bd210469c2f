"""The words DAGs are tagged with; a policy test holds that no others are used."""

from __future__ import annotations

from enum import StrEnum


class Tag(StrEnum):
    """Stage of the loop, and what kind of attention a DAG wants."""

    EDGELOOP = "edgeloop"
    INTAKE = "stage:intake"
    INGEST = "stage:ingest"
    TRAIN = "stage:train"
    PACKAGE = "stage:package"
    ROLLOUT = "stage:rollout"
    DRIFT = "stage:drift"
    REPROCESS = "stage:reprocess"
    ASKS_A_PERSON = "asks-a-person"


def pipeline_tag(pipeline: str) -> str:
    """The one tag that is not in the enum: which pipeline a DAG belongs to."""
    return f"pipeline:{pipeline}"
