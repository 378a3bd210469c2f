"""Fix the dataset: which certified data a key trains on is decided once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from edgeloop import registry
from edgeloop.records import Certificate, Dataset, TrainingRun
from edgeloop.training import dataset
from edgeloop.training.plan import parameters_of
from edgeloop_airflow import hooks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from edgeloop_airflow.hooks import Desk

KEY = "{{ dag_run.partition_key or run_id }}"


def pinned_desk(desk: Desk, key: str) -> Desk:
    """The desk of the snapshot that a key trains under: a batch's own for its key, today's for any other."""
    pinned = desk.store.fixed("training_configs", key)
    if pinned is None:
        batch = key.rpartition("@")[2]
        own = [one for one in desk.store.all(Certificate) if batch and "@" in key and one.batch.startswith(batch)]
        pinned = own[0].config if own else ""
    return desk.at(pinned)


class FixDatasetOperator(BaseOperator):
    """Chooses the certified data of the trailing window and fixes it under the run's key; returns the dataset's id.

    Args:
        pipeline: The pipeline's name.
        key: What the choice is fixed under; by default the run's partition key.
        force: A reason to train although the champion serves well or the same was trained before.

    Skipped with the reason while there are too few months, while nothing asks for a training, or when the same data
    was trained with the same code and parameters.
    """

    template_fields: Sequence[str] = ("key", "force")

    def __init__(self, *, pipeline: str, key: str = KEY, force: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.key = key
        self.force = force

    def execute(self, context: Context) -> str:
        """Find what the key was fixed to, or choose and fix it; raises ``AirflowSkipException``."""
        del context
        desk = hooks.desk(self.pipeline)
        fixed = desk.store.fixed("datasets", self.key)
        if fixed is not None:
            self.log.info("Key %s was fixed to dataset %s before", self.key, fixed)
            return fixed
        desk = pinned_desk(desk, self.key)
        chosen = self._choose(desk)
        if isinstance(chosen, dataset.Skip):
            raise AirflowSkipException(f"Nothing is trained for {self.key}: {chosen.why}.")
        desk.store.fix("training_configs", self.key, desk.snapshot.save(desk.blobs))
        stored = desk.store.put(chosen)
        self.log.info(
            "Dataset %s: %d files of %d certificates, %s to %s, held out from %s",
            stored.id, len(stored.files), len(stored.certificates),
            stored.window_start, stored.window_end, stored.holdout_start,
        )  # fmt: skip
        return desk.store.fix("datasets", self.key, stored.id)

    def _choose(self, desk: Desk) -> Dataset | dataset.Skip:
        spec = desk.snapshot.spec
        champion, candidate = registry.champion(desk.store), registry.candidate(desk.store)
        skip = dataset.may_train(
            self.key, spec, champion=champion.id if champion else "", candidate=candidate.id if candidate else ""
        )
        if skip and not self.force:
            return skip
        certificates = desk.store.all(Certificate)
        reason = self.force or ("drift" if self.key.startswith(dataset.DRIFT_KEY) else f"new data {self.key}")
        chosen = dataset.choose_window(
            certificates, spec, reason=reason, config=desk.snapshot.digest, origin=_origin(certificates, self.key)
        )
        if isinstance(chosen, dataset.Skip) or self.force:
            return chosen
        trained = dataset.already_trained(
            desk.store.children(chosen.id, TrainingRun),
            code=desk.snapshot.code_digest,
            parameters=parameters_of(spec),
        )
        if trained:
            return dataset.Skip(why=f"training {trained[:12]} had the same data, code and parameters")
        return chosen


def _origin(certificates: list[Certificate], key: str) -> str:
    batch = key.rpartition("@")[2]
    own = (one.origin for one in certificates if "@" in key and batch and one.batch.startswith(batch))
    return next(own, "live")
