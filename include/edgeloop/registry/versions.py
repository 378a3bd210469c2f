"""Registering a trained model: its bytes, its version number, its record."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Protocol

from edgeloop.errors import ConflictError, IntegrityError, TrainingFailedError
from edgeloop.onnx import Verdict, judge
from edgeloop.records import ModelVersion, TrainingRun, canonical_json, sha256_hex
from edgeloop.registry import parity
from edgeloop.registry.decision import accuracy_of, not_finite
from edgeloop.registry.promotions import Change, entry_body, opened
from edgeloop.registry.standing import REGISTERED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeloop.registry.standing import Standing
    from edgeloop.store import Store

TRIED = 1000
_TRIED: dict[tuple[str, int | None], Verdict] = {}
"""What this process found fit to be loaded, by digest and number of features."""


class ModelSource(Protocol):
    """Where model bytes are."""

    def get(self, name: str) -> bytes:
        """All of a blob."""
        ...


class ModelBlobs(Protocol):
    """Where model bytes go; :class:`edgeloop.azure.blob.BlobContainer` is one."""

    def put_new(self, name: str, data: bytes, *, metadata: dict[str, str] | None = None) -> None:
        """Write only if absent, else raise ``ConflictError``."""
        ...

    def digest(self, name: str) -> tuple[int, str]:
        """Size in bytes and sha256 of what is stored."""
        ...


def register(
    store: Store,
    blobs: ModelBlobs,
    *,
    pipeline: str,
    onnx: bytes,
    training_run: TrainingRun,
    metrics: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
    window_end: str = "",
    config: str = "",
    by: str = "edgeloop",
    features: int | None = None,
    most_apart: float | None = None,
) -> ModelVersion:
    """Store the model and give it the next version number; the same bytes are the same version for ever.

    In this order, each step safe to repeat: the bytes (``models/<sha256>.onnx``, conditional), the ledger entry (whose
    compare-and-swap decides the number: no gaps, no number twice), the record. A try that died leaves at most bytes or
    an entry without a record, and the next one completes it. Bytes that another training made before stay that
    version; the lineage then names both trainings.

    ``features`` is how many columns the model's input should have, ``most_apart`` how far its answers may be from those
    of the model that was trained, in the target's unit, whatever its parity figures allow. Bytes that are registered
    already need no such figures: models of before they were asked for stay what they are.

    Raises:
        TrainingFailedError: The ONNX may not be loaded, is not shown to answer as the trained model does, or a metric
            is missing, NaN or infinite; nothing was stored.
        IntegrityError: The blob of that name holds other bytes.
    """
    check_metrics(metrics, training_run.id)
    verdict = check_onnx(onnx, training_run.id, features)
    sha256 = sha256_hex(onnx)
    blob = f"models/{sha256}.onnx"
    wanted = ModelVersion(
        pipeline=pipeline,
        origin=training_run.origin,
        sha256=sha256,
        size=len(onnx),
        blob=blob,
        version=0,
        training_run=training_run.id,
        metrics=canonical_json(dict(metrics)).decode(),
        tags=tuple(sorted(f"{name}={value}" for name, value in (tags or {}).items())),
        window_end=window_end,
        config=config or training_run.config,
    )
    if store.find(ModelVersion, wanted.id) is None:
        demand = parity.Demand(sha256=sha256, branches=verdict.branches, most_apart=most_apart)
        shown = parity.gate(metrics, training_run.id, demand)
        wanted = dataclasses.replace(wanted, metrics=canonical_json(shown).decode())
    store_bytes(blobs, blob, onnx, sha256)
    version = _number(store, wanted, by)
    stored = store.put(dataclasses.replace(wanted, version=version))
    store.link(training_run.id, stored)
    return stored


def check_metrics(metrics: Mapping[str, Any], training_run: str) -> None:
    """Raise ``TrainingFailedError`` unless there is an accuracy and every number, however deep, is finite."""
    if bad := not_finite(metrics):
        raise TrainingFailedError(
            f"The metrics of training run {training_run[:16]} are not finite: {', '.join(bad)}.",
            left="nothing was registered; the champion serves on",
            next="Read the training's log, correct train.py or the data, then clear the train task.",
        )
    accuracy_of(metrics, f"Training run {training_run[:16]}")


def check_onnx(onnx: bytes, training_run: str, features: int | None = None) -> Verdict:
    """Raise ``TrainingFailedError`` unless a device may load the bytes; they are tried in a process of their own.

    The same bytes are tried once in each worker: what they are does not change.
    """
    key = (sha256_hex(onnx), features)
    verdict = _TRIED.get(key) or judge(onnx, features=features)
    if verdict.problem:
        raise TrainingFailedError(
            f"The model.onnx of training run {training_run[:16]} cannot be loaded: {verdict.problem}.",
            left="nothing was registered; the champion serves on",
            next="Correct how train.py writes the model (docs/pipeline.md, train.py), then clear the train task.",
        )
    if len(_TRIED) >= TRIED:
        _TRIED.clear()
    _TRIED[key] = verdict
    return verdict


def require_loadable(blobs: ModelSource, model: ModelVersion, features: int) -> None:
    """Try the file of a version that was registered before files were tried; later ones are not read again.

    Raises:
        IntegrityError: No device may load it.
    """
    if parity.NAME in json.loads(model.metrics):
        return
    verdict = judge(blobs.get(model.blob), features=features)
    if verdict.problem:
        raise IntegrityError(
            f"Version {model.version} of {model.pipeline} cannot be loaded: {verdict.problem}.",
            left="nothing was built; the devices serve what they served",
            next="Train anew: what is registered today is tried before it gets a number.",
        )


def store_bytes(blobs: ModelBlobs, blob: str, onnx: bytes, sha256: str) -> None:
    """Store the bytes under their name, or find them there; raises ``IntegrityError`` if others are."""
    try:
        blobs.put_new(blob, onnx, metadata={"sha256": sha256})
    except ConflictError:
        found = blobs.digest(blob)
        if found != (len(onnx), sha256):
            raise IntegrityError(
                f"Blob {blob} holds {found[0]} bytes with sha256 {found[1]}, not what its name says.",
                left="the blob as it is; nothing was registered",
                next=f"Find out who wrote {blob}, move it away, then clear the register task.",
            ) from None


def _number(store: Store, model: ModelVersion, by: str) -> int:
    """The version number of ``model``: the ledger's, or the next one, appended with its entry in one step."""
    known = 0
    change = Change(
        event=REGISTERED, by=by, why="registered after training", evidence=model.training_run, origin=model.origin
    )

    def decide(now: Standing) -> dict[str, Any] | None:
        nonlocal known
        known = now.versions.get(model.id, 0)
        return None if known else entry_body(change, model.id, now, version=max(now.versions.values(), default=0) + 1)

    entry = opened(store).append(decide)
    return int(entry.body["version"]) if entry else known
