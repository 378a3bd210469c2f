"""Judging one interval of event time: labels and prediction logs in, one stored verdict out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop import registry
from edgeloop.drift.certified import covering, evidence, newest_certificates, parts_of, prediction_logs, table_of
from edgeloop.drift.join import Labels, Predictions, in_order, join, split_lines
from edgeloop.drift.judge import INCONCLUSIVE, Policy, Tally, choose, judge, tally
from edgeloop.drift.labels import bounds, intervals_between, missing_sites, watermark
from edgeloop.drift.retrain import refusal
from edgeloop.records import Certificate, DriftVerdict, ModelVersion, canonical_json, sha256_hex
from edgeloop.residency_guard import require_private
from edgeloop.transfer import Terms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgeloop.azure.blob import BlobContainer, BlobItem
    from edgeloop.pipeline import Pipeline
    from edgeloop.store import Store

SHORT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What judging works with: ``blobs`` hold data and records, ``predictions`` the logs carried from the devices.

    Raises ``ResidencyError`` when either is not at the site and the pipeline is ``on_premises``.
    """

    spec: Pipeline
    store: Store
    blobs: BlobContainer
    predictions: BlobContainer

    def __post_init__(self) -> None:
        """Refuse before the first request."""
        require_private(self.spec, self.blobs)
        require_private(self.spec, self.predictions)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the pipeline's sites."""
        return tuple(site.name for site in self.spec.sites)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What an interval can be judged on: its certificates, the sites that still lack labels, and the logs."""

    key: str
    certificates: tuple[Certificate, ...]
    missing: tuple[str, ...]
    logs: tuple[BlobItem, ...]

    @property
    def watermark(self) -> str:
        """The sha256 of the certificates that the labels come from."""
        return watermark(one.id for one in self.certificates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Tallies of every model that predicted in the interval, and how many lines were passed over and why."""

    tallies: tuple[Tally, ...]
    lines: int
    malformed: int
    repeated: int
    ambiguous: int


def ground_of(bench: Bench, key: str, certificates: Iterable[Certificate] | None = None) -> Ground:
    """Look up what there is for ``key``; ``certificates`` spares reading the newest ones again.

    Raises ``ValueError`` if ``key`` is no interval.
    """
    bounds(key)
    near = covering(newest_certificates(bench.store) if certificates is None else certificates, key)
    parts = [part for one in near for part in parts_of(one)]
    here = {part.certificate_id for part in parts if not missing_sites([part], [part.site], key)}
    return Ground(
        key=key,
        certificates=tuple(one for one in near if one.id in here),
        missing=tuple(missing_sites(parts, bench.sites, key)),
        logs=tuple(prediction_logs(bench.predictions, bench.sites, key)),
    )


def examine(bench: Bench, ground: Ground) -> Examination:
    """Read logs and labels, one file at a time, and count; raises ``NotFoundError`` if a certified file is gone."""
    predictions, labels = Predictions(), Labels()
    terms = Terms.of(bench.spec.transfer, bench.spec.name)
    for name in in_order(item.name for item in ground.logs):
        predictions.add(split_lines(bench.predictions.chunks(name)), ground.key)
    for file in (file for one in ground.certificates for file in one.files):
        labels.add(table_of(bench.blobs, file, terms), bench.spec.columns, bench.spec.model.domain, ground.key)
    return Examination(
        tallies=tuple(tally(join(predictions, labels), bench.spec.model.tolerance)),
        lines=predictions.lines,
        malformed=predictions.malformed,
        repeated=predictions.repeated,
        ambiguous=len(labels.ambiguous),
    )


def known_verdict(bench: Bench, ground: Ground, model: str) -> DriftVerdict | None:
    """The verdict on these labels and this model, if one was given that more predictions cannot change."""
    return bench.store.find(
        DriftVerdict,
        DriftVerdict(pipeline=bench.spec.name, interval=ground.key, model=model, watermark=ground.watermark).id,
    )


def settle(
    bench: Bench,
    ground: Ground,
    examination: Examination,
    champion: ModelVersion,
    *,
    force: str = "",
    origin: str = "live",
) -> DriftVerdict:
    """Judge the champion, or the registered model with the most rows, and store the verdict.

    The identity of a verdict that decides about the champion is interval, model and label watermark. An inconclusive
    one, or one about another model, also carries which logs there were, so that predictions of the champion that are
    carried up later are judged; a forced one carries the reason.
    """
    models = {one.sha256: one for one in bench.store.all(ModelVersion)} | {champion.sha256: champion}
    known = [one for one in examination.tallies if one.sha256 in models]
    policy = Policy(fall=bench.spec.drift.fall, minimum_rows=bench.spec.drift.minimum_rows)
    model = models[choose(known, champion.sha256, policy.minimum_rows)]
    verdict = judge([one for one in known if one.sha256 == model.sha256], accuracy_of(model), policy)
    return bench.store.put(
        DriftVerdict(
            pipeline=bench.spec.name,
            origin=origin,
            interval=ground.key,
            model=model.id,
            watermark=_mark(ground, force, final=verdict.outcome != INCONCLUSIVE and model.id == champion.id),
            rows=verdict.rows,
            accuracy=verdict.accuracy,
            reference=verdict.reference,
            mae=verdict.mae,
            verdict=verdict.outcome,
            reason=verdict.reason,
            per_site=canonical_json(dict(verdict.per_site)).decode(),
        )
    )


def accuracy_of(model: ModelVersion) -> float:
    """The hold-out accuracy a model was registered with."""
    return float(json.loads(model.metrics)["accuracy"])


def unjudged(bench: Bench, *, force: bool = False) -> list[str]:
    """Complete intervals with predictions but without a verdict on these labels, or with an unheard one.

    Unheard is a fall of the champion that was never trained for, because the request was lost or because a candidate
    was on its way that then did not make it. With ``force`` the heard ones too. Nothing is due while no model is
    deployed.
    """
    champion = registry.champion(bench.store)
    if champion is None:
        return []
    certificates = newest_certificates(bench.store)
    verdicts = bench.store.all(DriftVerdict)
    keys = sorted({key for one in certificates for key in _keys(one, bench.spec)})
    due = []
    for key in keys:
        ground = ground_of(bench, key, certificates)
        if ground.logs and not ground.missing and (force or not _heard(bench.store, ground, verdicts, champion)):
            due.append(key)
    return due


def _heard(store: Store, ground: Ground, verdicts: Sequence[DriftVerdict], champion: ModelVersion) -> bool:
    marks = {ground.watermark, f"{ground.watermark}+{evidence(ground.logs)[:SHORT]}"}
    found = [one for one in verdicts if one.interval == ground.key and one.watermark in marks]
    return bool(found) and all(one.model != champion.id or refusal(store, one) for one in found)


def _keys(certificate: Certificate, spec: Pipeline) -> Iterable[str]:
    return intervals_between(certificate.event_start, certificate.event_end, spec.drift.interval)


def _mark(ground: Ground, force: str, *, final: bool) -> str:
    mark = ground.watermark
    if not final:
        mark += f"+{evidence(ground.logs)[:SHORT]}"
    if force:
        mark += f"+{sha256_hex(force.encode())[:SHORT]}"
    return mark
