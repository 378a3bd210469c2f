"""Every partition of a stage: what the store knows of it, joined with what Airflow's runs say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop import registry
from edgeloop.drift.certified import newest_certificates, parts_of
from edgeloop.drift.labels import complete_intervals
from edgeloop.records import (
    Batch,
    Certificate,
    Dataset,
    DriftVerdict,
    ModelImage,
    ModelVersion,
    Rollout,
    TrainingRun,
)
from edgeloop.reprocess import event_time
from edgeloop.reprocess.units import Attempt, Unit, newest, state_of
from edgeloop.rollout.plan import Step
from edgeloop.share.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edgeloop.pipeline import Pipeline
    from edgeloop.registry.standing import Standing
    from edgeloop.reprocess.event_time import Span
    from edgeloop.store import Store


def survey(store: Store, spec: Pipeline, stage: str, attempts: Iterable[Attempt]) -> list[Unit]:
    """All partitions of ``stage``: those the store holds work for, and those that Airflow has runs of.

    ``attempts`` are the runs of the stage's DAG, oldest first.
    """
    return SURVEYS[stage](_Look(store=store, spec=spec, attempts=newest(attempts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What every survey reads: the records, and the newest run of each key."""

    store: Store
    spec: Pipeline
    attempts: dict[str, Attempt]

    def unit(self, key: str, span: Span | None, *, finished: bool = False, barred: str = "", by: str = "force") -> Unit:
        """One partition; where no record dates it, the day of its run does."""
        attempt = self.attempts.get(key)
        if span is None:
            span = event_time.day_of(self.attempts[key].at, "run")
        return Unit(
            key=key,
            span=span,
            state=state_of(attempt),
            attempt=attempt,
            finished=finished,
            barred=barred,
            lifted_by=by,
        )


def _ingest(look: _Look) -> list[Unit]:
    batches = look.store.all(Batch)
    certificates: dict[str, list[Certificate]] = {}
    for one in look.store.all(Certificate):
        certificates.setdefault(one.batch, []).append(one)
    standing: dict[str, Batch] = {}
    for batch in batches:
        held = standing.get(batch.group)
        if held is None or (batch.claimed_at, batch.id) > (held.claimed_at, held.id):
            standing[batch.group] = batch
    # An intake that lost the race leaves a record that no claim names; started, it would certify what no longer lies
    # on the share, under a later claim than what does.
    named, claimed = {batch.id: batch for batch in batches}, Journal(look.store).read().standing
    standing |= {group: named[one] for group, one in claimed.items() if one in named}
    found = []
    for batch in batches:
        own, now = certificates.get(batch.id, []), standing[batch.group]
        barred = "" if now.id == batch.id else f"batch {now.key} replaced it"
        found.append(look.unit(batch.key, event_time.of_batch(batch, own), finished=bool(own), barred=barred))
    return found


def _train(look: _Look) -> list[Unit]:
    batches = {batch.key: batch for batch in look.store.all(Batch)}
    certificates: dict[str, list[Certificate]] = {}
    for one in look.store.all(Certificate):
        certificates.setdefault(one.batch, []).append(one)
    verdicts = {f"drift-{one.id[:16]}": one for one in look.store.all(DriftVerdict)}
    certified = {batch.key for batch in batches.values() if batch.id in certificates}

    def span(key: str) -> Span | None:
        if key in batches:
            return event_time.of_batch(batches[key], certificates.get(batches[key].id, []))
        if key in verdicts:
            return event_time.of_interval(verdicts[key].interval)
        fixed = look.store.fixed("datasets", key)
        dataset = look.store.find(Dataset, fixed) if fixed else None
        return event_time.until(dataset.window_end) if dataset else None

    return [
        look.unit(key, span(key), finished=_trained(look.store, key)) for key in sorted(certified | {*look.attempts})
    ]


def _trained(store: Store, key: str) -> bool:
    fixed = store.fixed("datasets", key)
    return fixed is not None and bool(store.children(fixed, TrainingRun))


def _package(look: _Look) -> list[Unit]:
    now = registry.current(look.store)
    found = []
    for model in look.store.all(ModelVersion):
        if (span := event_time.until(model.window_end)) is None and model.key not in look.attempts:
            continue
        finished = any(one.digest for one in look.store.children(model.id, ModelImage))
        found.append(look.unit(model.key, span, finished=finished, barred=_overtaken(now, model), by="promote"))
    return found


def _rollout(look: _Look) -> list[Unit]:
    now = registry.current(look.store)
    models = {one.id: one for one in look.store.all(ModelVersion)}
    images = {one.key: one for one in look.store.all(ModelImage) if one.digest and one.model in models}
    keys = {key for key in look.attempts if key.partition("@")[0] in images}
    keys |= {Step(image=key, ring=0).key for key, image in images.items() if image.model == now.candidate}
    found = []
    for key in sorted(keys):
        image, ring = images[key.partition("@")[0]], int(key.rpartition("@ring")[2])
        model = models[image.model]
        if (span := event_time.until(model.window_end)) is None and key not in look.attempts:
            continue
        done = any(one.ring == ring and one.outcome == "passed" for one in look.store.children(image.id, Rollout))
        found.append(look.unit(key, span, finished=done, barred=_overtaken(now, model), by="promote"))
    return found


def _overtaken(now: Standing, model: ModelVersion) -> str:
    if model.id in (now.candidate, now.champion):
        return ""
    if model.id in now.quarantined | now.rejected:
        return f"its model, version {model.version}, was rejected or quarantined"
    serving = now.versions.get(now.champion, 0)
    return f"its model, version {model.version}, is no candidate" + (f" (version {serving} serves)" if serving else "")


def _drift(look: _Look) -> list[Unit]:
    parts = [part for one in newest_certificates(look.store) for part in parts_of(one)]
    sites = [site.name for site in look.spec.sites]
    judged = {one.interval for one in look.store.all(DriftVerdict)}
    complete = {one.key for one in complete_intervals(parts, sites, look.spec.drift.interval)}
    spans = {key: event_time.of_interval(key) for key in sorted(complete | {*look.attempts})}
    return [look.unit(key, span, finished=key in judged) for key, span in spans.items()]


SURVEYS: dict[str, Callable[[_Look], list[Unit]]] = {
    "ingest": _ingest,
    "train": _train,
    "package": _package,
    "rollout": _rollout,
    "drift": _drift,
}
