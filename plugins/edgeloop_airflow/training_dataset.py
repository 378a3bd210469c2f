"""Fix the dataset: which certified data a key trains on is decided once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from edgeloop import registry
from edgeloop.origin import BACKFILL, RERUN
from edgeloop.records import Certificate, Dataset, TrainingRun, sha256_hex
from edgeloop.training import dataset
from edgeloop.training.asked import Asked
from edgeloop.training.plan import plan
from edgeloop.training.retrain import recipe_image
from edgeloop.training.waiting import Waiting
from edgeloop_airflow import hooks, run_note
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.emission import runs_behind
from edgeloop_airflow.origin import origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from edgeloop.origin import Origin
    from edgeloop_airflow.hooks import Desk

KEY = "{{ dag_run.partition_key or run_id }}"
RUN = "{{ run_id }}"
NOT = "Nothing is trained for "
BY = {RERUN: "asked for by hand", BACKFILL: "a backfill"}


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
    was trained with the same code and parameters; and while later runs of the DAG wait: the last of them trains for
    all. What somebody started by hand gives way to nothing and trains for itself.
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
        """Find what the key was fixed to, or choose and fix it; raises ``AirflowSkipException``.

        Why it trains, or why not, stands on the run as its note.
        """
        try:
            fixed, why = self._decide(context)
        except AirflowSkipException as skip:
            run_note.leave(context, run_note.LEFT + str(skip).removeprefix(NOT), self.log.info)
            raise
        run_note.leave(context, f"{run_note.TRAINED}{why}", self.log.info)
        return fixed

    def _decide(self, context: Context) -> tuple[str, str]:
        """The dataset's id, and why it is trained on."""
        desk, key = hooks.desk(self.pipeline), forced_key(self.key, self.force, self.run)
        waiting, why = Waiting(desk.store), origin(context)
        fixed = desk.store.fixed("datasets", key)
        if fixed is not None:
            self.log.info("Key %s was fixed to dataset %s before", key, fixed)
            waiting.settle(key)
            return fixed, self._told(desk, key, why)
        # A model of a rerun goes nowhere: it can do nothing for those that wait, nor they for it.
        alone = bool(self.force) or not why.live or bool(why.promote)
        if not alone and (behind := runs_behind(context)):
            waiting.note(key)
            raise AirflowSkipException(f"{behind} runs wait behind this one: the last of them trains for {key}.")
        others = () if alone else waiting.keys()
        asked = Asked(keys=(self.key, *(one for one in others if one != self.key)), force=self.force)
        # A batch's own snapshot may be older than the change that somebody who waits was asked for.
        desk = pinned_desk(desk, asked.leading, key)
        chosen = self._choose(desk, asked, why)
        if isinstance(chosen, dataset.Skip):
            # Whoever gave way to this run would have come to the same.
            waiting.drop(others)
            raise AirflowSkipException(f"{NOT}{', '.join(asked.named)}: {chosen.why}.")
        stored = self._fix(desk, key, chosen)
        waiting.take(others, key)
        fixed = desk.store.fix("datasets", key, stored.id)
        waiting.settle(key)
        return fixed, self._told(desk, key, why)

    def _told(self, desk: Desk, key: str, why: Origin) -> str:
        reason = desk.store.fixed("training_reasons", key) or self.force
        return reason if why.live else f"{reason} ({BY[why.kind]})"

    def _fix(self, desk: Desk, key: str, chosen: Dataset) -> Dataset:
        desk.store.fix("training_configs", key, desk.snapshot.save(desk.blobs))
        stored = desk.store.put(chosen)
        # The same data may have been a dataset before, for another reason.
        desk.store.fix("training_reasons", key, chosen.reason)
        self.log.info(
            "Dataset %s: %d files of %d certificates, %s to %s, held out from %s",
            stored.id, len(stored.files), len(stored.certificates),
            stored.window_start, stored.window_end, stored.holdout_start,
        )  # fmt: skip
        self.log.info("Trained because: %s", chosen.reason)
        return stored

    def _choose(self, desk: Desk, asked: Asked, why: Origin) -> Dataset | dataset.Skip:
        spec = desk.snapshot.spec
        champion, candidate = registry.champion(desk.store), registry.candidate(desk.store)
        skip = dataset.may_train(
            asked.keys, spec, champion=champion.id if champion else "", candidate=candidate.id if candidate else ""
        )
        if skip and not self.force:
            return skip
        chosen = dataset.choose_window(
            desk.store.all(Certificate),
            spec,
            reason=asked.reason(desk.store),
            config=desk.snapshot.digest,
            origin=why.kind,
        )
        if isinstance(chosen, dataset.Skip) or self.force:
            return chosen
        image = recipe_image(desk.store) if asked.by_recipe else ""
        if asked.by_recipe and not image:
            # Nobody could see which image it was: the training itself is found if it was done.
            return chosen
        wanted = plan(desk.snapshot, chosen, image=image)
        trained = dataset.already_trained(desk.store.children(chosen.id, TrainingRun), wanted, live=why.live)
        if trained:
            return dataset.Skip(why=f"training {trained[:12]} had the same data, code and parameters")
        return chosen
