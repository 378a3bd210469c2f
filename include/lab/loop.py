"""Drives one pipeline's loop on a site from outside, as its people do: the historian exports, on-call approves.

Every wait looks at the store first, so driving a loop that already went round finds each result and starts nothing.
A run that failed ends the wait at once, with the last lines of the log of the task that failed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgeloop import registry
from edgeloop.azure.blob import BlobAccount
from edgeloop.errors import EdgeloopError
from edgeloop.records import Batch, Certificate, DriftVerdict, ModelImage, ModelVersion, sha256_hex
from edgeloop.store import Store
from lab import historian
from lab.airflow_api import AirflowApi, wait_for
from lab.airflow_http import AirflowApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edgeloop.pipeline import Pipeline
    from lab.airflow_records import Run, Task
    from lab.site import Site

T = TypeVar("T")
LOG_LINES = 25
FAILURE_CHECK_SECONDS = 3.0
STAGES = ("intake", "ingest", "train", "package", "rollout", "drift")


class LoopFailedError(EdgeloopError):
    """A run of the loop failed while something was waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A result that was waited for: ``found`` when it was there before anybody waited, else the seconds it took."""

    seconds: float
    found: bool


class Loop:
    """One pipeline on one site.

    Args:
        site: A site that is up.
        spec: The pipeline.
        admin: REST client that looks at runs and logs.
        oncall: REST client that answers gates.
        tick: Called about twice a second while waiting, with what is waited for and the seconds so far.
    """

    def __init__(
        self,
        site: Site,
        spec: Pipeline,
        admin: AirflowApi,
        oncall: AirflowApi,
        tick: Callable[[str, float], None] | None = None,
    ) -> None:
        self.site, self.spec, self.admin, self.oncall = site, spec, admin, oncall
        self._tick = tick or (lambda _what, _seconds: None)
        self.account = BlobAccount(
            connection=spec.storage.connection, connection_string=site.blob.private.connection_string
        )
        self.blobs = self.account.container(spec.storage.container)
        self.predictions = self.account.container(spec.storage.predictions)
        self.store = Store(self.blobs)
        self._since = datetime.now(UTC)
        self._checked = 0.0
        self.tolerated: set[str] = set()
        """Run ids whose failure is part of the plan."""

    def export(self, files: Iterable[Path]) -> historian.Exported:
        """Let the historian export files to the pipeline's folder on the share."""
        return historian.export(self.site, self.spec.source.folder, files)

    def certificate(self, group: str, files: Iterable[Path], seconds: float = 240) -> tuple[Certificate, Batch, Found]:
        """Wait until the batch of exactly these files is certified."""
        wanted = {(file.name, sha256_hex(file.read_bytes())) for file in files}

        def look() -> tuple[Certificate, Batch] | None:
            for batch in self.store.all(Batch):
                if batch.group == group and {(Path(one.path).name, one.sha256) for one in batch.files} == wanted:
                    certificates = self.store.children(batch.id, Certificate)
                    return (certificates[0], batch) if certificates else None
            return None

        (certificate, batch), how = self._wait(look, f"{group} to be certified", seconds)
        return certificate, batch, how

    def model(self, beyond: ModelVersion | None = None, seconds: float = 420) -> tuple[ModelVersion, Found]:
        """Wait for a model that may serve: the first one, or one of a later version than ``beyond``."""
        floor = beyond.version if beyond else 0

        def look() -> ModelVersion | None:
            nominated = [
                (entry.body["version"], entry.body["model"])
                for entry in self.store.ledger("promotions")
                if entry.body["event"] in ("candidate", "champion") and entry.body["version"] > floor
            ]
            return self.store.get(ModelVersion, min(nominated)[1]) if nominated else None

        return self._wait(look, f"a model beyond version {floor}", seconds)

    def image(self, model: ModelVersion, seconds: float = 240) -> tuple[ModelImage, Found]:
        """Wait until the model's image is proven and pushed."""

        def look() -> ModelImage | None:
            pushed = [one for one in self.store.children(model.id, ModelImage) if one.digest]
            return pushed[0] if pushed else None

        return self._wait(look, f"the image of v{model.version}", seconds)

    def answer(self, image: ModelImage, model: ModelVersion, option: str, seconds: float = 300) -> tuple[str, Found]:
        """Answer the canary's gate as ``oncall``; a model that is champion already was approved. Returns by whom."""
        dag, key = self.dag("rollout"), f"{image.key}@ring0"
        if (champion := registry.champion(self.store)) and champion.version >= model.version:
            return self._approver(dag, key), Found(seconds=0.0, found=True)

        def look() -> str | None:
            for gate in self.oncall.gates(dag):
                if self.admin.run(dag, gate.run_id).partition_key == key:
                    self.oncall.answer(gate, option)
                    return "oncall"
            return None

        return self._wait(look, f"the canary's gate of v{model.version}", seconds)

    def champion(self, model: ModelVersion, seconds: float = 300) -> Found:
        """Wait until the model went through its last ring."""

        def look() -> bool:
            champion = registry.champion(self.store)
            return champion is not None and champion.version >= model.version

        return self._wait(look, f"v{model.version} to pass its last ring", seconds)[1]

    def verdict(
        self, interval: str, model: ModelVersion | None = None, seconds: float = 240
    ) -> tuple[DriftVerdict, Found]:
        """Wait for the verdict on an interval (of one model, if given) that rests on enough rows."""

        def look() -> DriftVerdict | None:
            for verdict in self.store.all(DriftVerdict):
                same = verdict.interval == interval and (model is None or verdict.model == model.id)
                if same and verdict.verdict != "inconclusive":
                    return verdict
            return None

        return self._wait(look, f"the verdict on {interval}", seconds)

    def dag(self, stage: str) -> str:
        """The id of a stage's DAG."""
        return f"{self.spec.name}_{stage}"

    def heal(self) -> int:
        """Clear what failed in an earlier life of this site, as on-call would; returns how many runs."""
        failed = [run for stage in STAGES for run in self._failed_of(stage)]
        for run in failed:
            self.oncall.clear_run(run.dag_id, run.run_id, only_failed=True)
        return len(failed)

    def failed(self) -> list[Run]:
        """Runs of this pipeline that failed since this loop was opened, but for those tolerated."""
        runs = [run for stage in STAGES for run in self._failed_of(stage)]
        return [run for run in runs if run.run_id not in self.tolerated and run.ended and run.ended > self._since]

    def _failed_of(self, stage: str) -> tuple[Run, ...]:
        """A fresh Airflow is healthy before it has read its DAGs; one that it does not know yet has no runs."""
        try:
            return self.admin.runs(self.dag(stage), state="failed")
        except AirflowApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return ()

    def explain(self, run: Run) -> str:
        """Which task of a run failed, and the last lines of its log."""
        for task in self.admin.tasks(run.dag_id, run.run_id):
            if task.state == "failed":
                return f"{run.dag_id}.{task.task_id} ({run.partition_key}):\n{self._tail(task)}"
        return f"{run.dag_id} ({run.partition_key}) failed, and no task of it did"

    def _tail(self, task: Task) -> str:
        return "\n".join(self.admin.log(task).splitlines()[-LOG_LINES:])

    def _approver(self, dag: str, key: str) -> str:
        answered = [gate for gate in self.admin.gates(dag, pending=False) if gate.responded_by]
        mine = [gate for gate in answered if self.admin.run(dag, gate.run_id).partition_key == key]
        return mine[0].responded_by or "" if mine else ""

    def _wait(self, look: Callable[[], T | None], what: str, seconds: float) -> tuple[T, Found]:
        began = time.monotonic()
        if answer := look():
            return answer, Found(seconds=0.0, found=True)

        def tick(waited: float) -> None:
            self._tick(what, waited)
            if time.monotonic() - self._checked > FAILURE_CHECK_SECONDS:
                self._checked = time.monotonic()
                if failed := self.failed():
                    raise LoopFailedError(
                        f"While waiting for {what}: {self.explain(failed[0])}",
                        left="everything as it is",
                        next=f"look at run {failed[0].run_id} in the UI, or clear it",
                    )

        answer = wait_for(look, seconds=seconds, what=what, progress=tick)
        return answer, Found(seconds=time.monotonic() - began, found=False)
