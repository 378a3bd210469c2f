"""The record of a training in a workspace, also of one that was driven over SSH: a mirror of what the store says.

The service chooses a run's id, so a run is found again by the training's id in its tags, and which run is the
training's is decided once in the store. A try that died anywhere is finished by the next one; two at once end with one
run.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from edgeloop.azure_ml.tracking import Metric
from edgeloop.errors import CloudError
from edgeloop.records import sha256_hex
from edgeloop.registry import paired, parity
from edgeloop.residency import private
from edgeloop.residency_outputs import require_figures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from edgeloop.azure_ml.tracking import Run, Tracking
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint
    from edgeloop.pipeline import Pipeline
    from edgeloop.records import TrainingRun
    from edgeloop.store import Store

TRAINING_TAG, STATE_TAG = "edgeloop_training", "edgeloop_state"
SHORT = 24
MOST_TEXT = 500
"""The longest value of a parameter (Azure's limit)."""
ODD = re.compile(r"[^A-Za-z0-9_\-. /]")
"""What a metric's name may not hold."""
KEYS = "azure_ml_runs"
NUMBERS = (int, float)


class State(StrEnum):
    """How a training is, in the words of MLflow."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What a workspace is told of one training; ``seconds`` is how long it trained."""

    training: str
    experiment: str
    name: str
    state: State
    tags: tuple[tuple[str, str], ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    metrics: tuple[tuple[str, float], ...] = ()
    seconds: float = 0.0


class Memory(Protocol):
    """Which run is the training's, decided once."""

    def find(self) -> str | None:
        """The run that was decided on, or None."""
        ...

    def decide(self, run_id: str, runs: list[str]) -> str:
        """The run that counts: ``run_id``, or what an earlier try decided. ``runs`` are all that the workspace has."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreMemory:
    """A decision that lives in the pipeline's store."""

    store: Store
    key: str

    def find(self) -> str | None:
        """What was decided."""
        return self.store.fixed(KEYS, self.key)

    def decide(self, run_id: str, runs: list[str]) -> str:
        """The first to say it decides."""
        del runs
        return self.store.fix(KEYS, self.key, run_id)


class NoMemory:
    """Without a store the earliest run counts."""

    def find(self) -> str | None:
        """Nothing was decided."""
        return None

    def decide(self, run_id: str, runs: list[str]) -> str:
        """The earliest of all."""
        return runs[0] if runs else run_id


def memory_of(store: Store, workspace: WorkspaceEndpoint, record: RunRecord) -> StoreMemory:
    """The decision about a training in one workspace and experiment."""
    return StoreMemory(
        store=store, key=sha256_hex(f"{workspace.id.casefold()} {record.experiment} {record.training}".encode())[:32]
    )


def record_of(run: TrainingRun, spec: Pipeline, state: State, *, asset: str = "") -> RunRecord:
    """What may be told of a training: digests, figures and names of pipeline.yaml, never a text of train.py.

    ``asset`` is the data asset it was trained on.

    Raises:
        ResidencyError: If metrics.json of an ``on_premises`` pipeline holds other things than figures.
    """
    metrics = json.loads(run.metrics) if run.metrics else {}
    # The counts of every block are lists, and the parity figures hold the model's digest: neither is told.
    require_figures(spec, parity.without_digest({name: one for name, one in metrics.items() if name != paired.NAME}))
    section = spec.azure_ml
    tags = {
        "edgeloop_pipeline": run.pipeline,
        "edgeloop_dataset": run.dataset,
        "edgeloop_code": run.code,
        "edgeloop_image": run.image,
        "edgeloop_champion": run.champion,
        "edgeloop_config": run.config,
        "edgeloop_origin": run.origin,
        "edgeloop_backend": spec.training.backend,
        "edgeloop_compute": section.compute if section else "",
        "edgeloop_data_asset": asset,
        "edgeloop_model_sha256": next((one.sha256 for one in run.outputs if one.path.endswith(".onnx")), ""),
    }
    return RunRecord(
        training=run.id,
        experiment=(section.experiment if section else "") or run.pipeline,
        name=f"train-{run.id[:SHORT]}",
        state=state,
        tags=tuple(sorted((name, value) for name, value in tags.items() if value)),
        parameters=tuple(_parameters(run.parameters, told=not private(spec))),
        metrics=tuple(sorted(figures(metrics))) if state is State.FINISHED else (),
        seconds=run.seconds,
    )


def _parameters(parameters: str, *, told: bool) -> Iterator[tuple[str, str]]:
    for name, value in sorted(json.loads(parameters or "{}").items()):
        if told or isinstance(value, NUMBERS):
            yield name, str(value)[:MOST_TEXT]


def figures(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number in metrics.json by its path, ``per_site/R80711/accuracy``; texts and lists are left out."""
    for name, value in metrics.items():
        path = f"{prefix}/{name}" if prefix else name
        if isinstance(value, dict):
            yield from figures(value, path)
        elif isinstance(value, NUMBERS):
            yield ODD.sub("_", path), float(value)


def mirror(
    tracking: Tracking, record: RunRecord, memory: Memory, say: Callable[..., None], *, now: Callable[[], float]
) -> str:
    """Make the workspace say what ``record`` says; returns the run's id there.

    ``now`` is the time in seconds since 1970.
    """
    run = _run(tracking, record, memory, now)
    told = run.status == record.state.value and (STATE_TAG, record.state.value) in run.tags
    if told or run.status == State.FINISHED.value:
        say("Run %s in experiment %s says %s already", run.run_id, record.experiment, run.status)
        return run.run_id
    end = None if record.state is State.RUNNING else max(_milliseconds(now()), run.start_time)
    stamp = run.start_time + int(record.seconds * 1000)
    figures_ = tuple(Metric(key=key, value=value, timestamp=stamp) for key, value in record.metrics)
    tags = {**dict(record.tags), TRAINING_TAG: record.training, STATE_TAG: record.state.value}
    tracking.log(run.run_id, figures_, dict(record.parameters), tags)
    # The state comes last: a run that says it is finished has its figures. A new one says it runs before it has any.
    tracking.update(run.run_id, record.state.value, stamp if record.state is State.FINISHED else end)
    say("Run %s in experiment %s says %s", run.run_id, record.experiment, record.state.value)
    return run.run_id


def _run(tracking: Tracking, record: RunRecord, memory: Memory, now: Callable[[], float]) -> Run:
    """The training's run: the one decided on, one that an earlier try made, or a new one."""
    decided = memory.find()
    found = tracking.find(decided) if decided else None
    if found is not None:
        return found
    experiment = tracking.experiment(record.experiment)
    known = tracking.tagged(experiment, TRAINING_TAG, record.training)
    if not known:
        began = _milliseconds(now() - record.seconds)
        mine = tracking.create(experiment, record.name, began, {TRAINING_TAG: record.training})
        known = tracking.tagged(experiment, TRAINING_TAG, record.training)
    else:
        mine = known[0].run_id
    counts = memory.decide(mine, [one.run_id for one in known])
    kept = tracking.find(counts)
    if kept is None:
        # The one decided on was deleted in the studio; what is decided stays, so the tag leads to the next one.
        counts = mine
        kept = tracking.find(mine)
    for one in known:
        if one.run_id != counts:
            tracking.delete(one.run_id)
    if mine != counts:
        tracking.delete(mine)
    if kept is None:
        raise CloudError(
            f"The run of training {record.training} was deleted in the workspace while it was written.",
            left="the training's record in the store",
            next="Clear the task: it makes the run anew.",
        )
    return kept


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
