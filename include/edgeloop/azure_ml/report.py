"""What a workspace is told around a training, in one go: the VM, the dataset, the run. The store stays the truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.azure_ml import compute, data_asset
from edgeloop.azure_ml.mirror import State, memory_of, mirror, record_of
from edgeloop.azure_ml.tracking import Tracking
from edgeloop.errors import EdgeloopError, UnreachableError
from edgeloop.records import Dataset, TrainingRun, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.azure_ml.arm import ArmClient
    from edgeloop.azure_ml.compute import VmTarget
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint
    from edgeloop.pipeline import Pipeline
    from edgeloop.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A training and everything beside it that its workspace should show.

    ``container_url`` is where the pipeline's data is; a SAS in it is told nobody.
    """

    spec: Pipeline
    run: TrainingRun
    state: State
    target: VmTarget
    container_url: str


def begun(store: Store, key: str, run: str) -> TrainingRun | None:
    """The training that a run of the ``train`` task decided on, or None if it has not come that far."""
    text = store.fixed("trainings", sha256_hex(f"{key} {run}".encode())[:32])
    return TrainingRun.from_dict(json.loads(text)) if text else None


def tell(
    report: Report,
    *,
    arm: ArmClient,
    workspace: WorkspaceEndpoint,
    store: Store,
    say: Callable[..., None],
    now: Callable[[], float],
) -> str:
    """Make the workspace show the training; returns the run's id there.

    The three parts do not wait for each other: a name that is taken by another compute does not hide a training. What
    failed first is raised when all were tried; a workspace that does not answer is asked for nothing more.
    """
    told: dict[str, str] = {}

    def attach() -> None:
        compute.attach(arm, workspace, report.target, say)

    def register() -> None:
        dataset = store.get(Dataset, report.run.dataset)
        data_asset.keep_table(dataset, report.container_url, store.objects)
        asset = data_asset.asset_of(dataset, report.spec, report.container_url)
        told["asset"] = data_asset.register(arm, workspace, asset, say).reference

    def write() -> None:
        record = record_of(report.run, report.spec, report.state, asset=told.get("asset", ""))
        memory = memory_of(store, workspace, record)
        told["run"] = mirror(Tracking(arm, workspace), record, memory, say, now=now)

    failed: list[EdgeloopError] = []
    for part in (attach, register, write):
        try:
            part()
        except UnreachableError:
            raise
        except EdgeloopError as error:
            say("Not told: %s", error.what)
            failed.append(error)
    if failed:
        raise failed[0]
    return told["run"]
