"""What a workspace may be told of a model version, pure: of an ``on_premises`` pipeline figures, digests, addresses.

The model and its figures are what is deployed, and may leave. A reason that a person typed, or a text that train.py
made up, may hold anything, and a time of day is the event time of a row.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeloop.azure_ml.model_version import shortened
from edgeloop.residency import private

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeloop.pipeline import Pipeline
    from edgeloop.registry.backend import Listed

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,255}")
DIGEST = re.compile(r"(?:sha256:)?[0-9a-f]{12,64}")
ADDRESSES, ADDRESS = (
    frozenset({"image", "image_reference", "image_registry", "reference", "registry", "repository"}),
    re.compile(r"[\w.:/@-]{1,255}", re.ASCII),
)
DAYS, DAY = frozenset({"window_end"}), 10
WORDS: Mapping[str, frozenset[str]] = {"origin": frozenset({"rerun", "backfill"})}


def told(spec: Pipeline, version: Listed) -> Listed:
    """The version as the workspace of ``spec`` may show it, and can."""
    if not private(spec):
        return shortened(version)
    days = {name: text[:DAY] for name, text in version.properties.items() if name in DAYS}
    return shortened(
        replace(version, properties={**_fit(version.properties), **days}, tags=_fit(version.tags)),
    )


def _fit(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in texts.items() if PLAIN.fullmatch(name) and _is_fit(name, text)}


def _is_fit(name: str, text: str) -> bool:
    if name in DAYS:
        return False
    address = name in ADDRESSES and ADDRESS.fullmatch(text)
    return bool(address or DIGEST.fullmatch(text) or text in WORDS.get(name, ()) or _number(text))


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text == text.strip()
    except ValueError:
        return False
