"""Fix the dataset: which certified data a key trains on is decided once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from edgeloop import registry
from edgeloop.records import Certificate, Dataset, TrainingRun, sha256_hex
from edgeloop.training import dataset
from edgeloop.training.plan import parameters_of
from edgeloop_airflow import hooks
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.origin import origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from edgeloop.origin import Origin
    from edgeloop_airflow.hooks import Desk

KEY = "{{ dag_run.partition_key or run_id }}"
RUN = "{{ run_id }}"


def forced_key(key: str, force: str, run_id: str) -> str:
    """What a forced run decides under instead of ``key``: what was decided before must trap nobody."""
    return f"{key}+{sha256_hex(f'{force} {run_id}'.encode())[:16]}" if force else key


def pinned_desk(desk: Desk, key: str, forced: str = "") -> Desk:
    """The desk of the snapshot that a key trains under: a batch's own for its key, today's for any other.

    A run ``forced`` to decide under a key of its own trains under what that was fixed to, else under today's.
    """
    if forced and forced != key:
        return desk.at(desk.store.fixed("training_configs", forced) or "")
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
        force: A reason to choose anew, as the certificates and pipeline.yaml are today, and to train although the
            champion serves well or the same was trained before.
        run: What a forced choice is fixed under together with the key.

    Skipped with the reason while there are too few months, while nothing asks for a training, or when the same data
    was trained with the same code and parameters.
    """

    template_fields: Sequence[str] = ("key", "force", "run")

    def __init__(self, *, pipeline: str, key: str = KEY, force: str = "", run: str = RUN, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.key = key
        self.force = force
        self.run = run

    @discreet
    def execute(self, context: Context) -> str:
        """Find what the key was fixed to, or choose and fix it; raises ``AirflowSkipException``."""
        desk, key = hooks.desk(self.pipeline), forced_key(self.key, self.force, self.run)
        fixed = desk.store.fixed("datasets", key)
        if fixed is not None:
            self.log.info("Key %s was fixed to dataset %s before", key, fixed)
            return fixed
        desk = pinned_desk(desk, self.key, key)
        chosen = self._choose(desk, origin(context))
        if isinstance(chosen, dataset.Skip):
            raise AirflowSkipException(f"Nothing is trained for {self.key}: {chosen.why}.")
        desk.store.fix("training_configs", key, desk.snapshot.save(desk.blobs))
        stored = desk.store.put(chosen)
        self.log.info(
            "Dataset %s: %d files of %d certificates, %s to %s, held out from %s",
            stored.id, len(stored.files), len(stored.certificates),
            stored.window_start, stored.window_end, stored.holdout_start,
        )  # fmt: skip
        return desk.store.fix("datasets", key, stored.id)

    def _choose(self, desk: Desk, why: Origin) -> Dataset | dataset.Skip:
        spec = desk.snapshot.spec
        champion, candidate = registry.champion(desk.store), registry.candidate(desk.store)
        skip = dataset.may_train(
            self.key, spec, champion=champion.id if champion else "", candidate=candidate.id if candidate else ""
        )
        if skip and not self.force:
            return skip
        certificates = desk.store.all(Certificate)
        reason = self.force or ("drift" if self.key.startswith(dataset.DRIFT_KEY) else f"new data {self.key}")
        chosen = dataset.choose_window(certificates, spec, reason=reason, config=desk.snapshot.digest, origin=why.kind)
        if isinstance(chosen, dataset.Skip) or self.force:
            return chosen
        trained = dataset.already_trained(
            desk.store.children(chosen.id, TrainingRun),
            code=desk.snapshot.code_digest,
            parameters=parameters_of(spec),
            live=why.live,
        )
        if trained:
            return dataset.Skip(why=f"training {trained[:12]} had the same data, code and parameters")
        return chosen
