"""Which certified batches a training is fed, decided from the certificates alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from edgeloop.certificates import newest_of_each_group
from edgeloop.errors import IntegrityError
from edgeloop.origin import LIVE
from edgeloop.records import Dataset, canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.pipeline import Pipeline
    from edgeloop.records import Certificate, TrainingRun

SPILL = 0.05
"""A month with a smaller share of a certificate's rows is spill over a time zone's edge, not that month's data."""
DRIFT_KEY, CODE_KEY, CRON_KEY = ASKED = ("drift-", "code-", "cron-")
"""How partition keys begin that somebody asked for: drift, a changed recipe, the clock."""
WAITING_KEY = "waiting-"
"""How one begins that asks for no more than those that wait do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Why nothing is trained, in words for the task's log."""

    why: str


def months_of(certificate: Certificate) -> frozenset[str]:
    """The months (``2014-01``) its rows belong to, in UTC."""
    rows: Counter[str] = Counter()
    for line in certificate.coverage:
        day, _, rest = line.partition(" ")
        rows[day[:7]] += int(rest.rpartition(" ")[2])
    if not rows:
        return frozenset({certificate.event_start[:7]})
    total = rows.total()
    return frozenset(month for month, count in rows.items() if count >= SPILL * total)


def choose_window(
    certificates: Iterable[Certificate], spec: Pipeline, *, reason: str = "", config: str = "", origin: str = "live"
) -> Dataset | Skip:
    """The newest certified data of the trailing ``training.window_months``, or why there is not enough of it.

    The window ends with the newest certified event and spans whole months; the hold-out are its last
    ``training.holdout_days``.
    """
    filled = [one for one in newest_of_each_group(certificates) if one.rows and one.files]
    newest = sorted(filled, key=lambda one: (one.event_start, one.group))
    if not newest:
        return Skip(why="no batch is certified yet")
    months = _last_months(max(max(months_of(one)) for one in newest), spec.training.window_months)
    inside = [one for one in newest if months_of(one) & months]
    there = sorted(set().union(*map(months_of, inside)) & months)
    if len(there) < spec.training.minimum_months:
        return Skip(
            why=f"the window holds {len(there)} of the {spec.training.minimum_months} months that are needed: "
            + ", ".join(there)
        )
    start = min(_time(one.event_start) for one in inside)
    end = _whole_second(max(_time(one.event_end) for one in inside))
    holdout = end - timedelta(days=spec.training.holdout_days)
    if holdout <= start:
        return Skip(why=f"the last {spec.training.holdout_days} days are held out and nothing is left to train on")
    return Dataset(
        pipeline=spec.name,
        origin=origin,
        files=tuple(file for one in inside for file in one.files),
        certificates=tuple(one.id for one in inside),
        window_start=_text(start),
        window_end=_text(end),
        holdout_start=_text(holdout),
        reason=reason,
        config=config,
    )


def may_train(keys: Iterable[str], spec: Pipeline, *, champion: str, candidate: str) -> Skip | None:
    """Whether any of some partition keys trains under ``training.retrain_on``; keys that were asked for always do."""
    if any(key.startswith(ASKED) for key in keys) or spec.training.retrain_on == "new_data":
        return None
    if champion:
        return Skip(why=f"champion {champion[:12]} serves and new data trains only when it drifts (retrain_on: drift)")
    if candidate:
        return Skip(why=f"candidate {candidate[:12]} is on its way to become the first champion (retrain_on: drift)")
    return None


def _last_months(last: str, count: int) -> frozenset[str]:
    number = int(last[:4]) * 12 + int(last[5:7]) - 1
    return frozenset(f"{one // 12:04d}-{one % 12 + 1:02d}" for one in range(number - count + 1, number + 1))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _whole_second(when: datetime) -> datetime:
    """The next whole second: an exclusive end must stay behind the last event."""
    return when.replace(microsecond=0) + timedelta(seconds=1 if when.microsecond else 0)


def _text(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def require_certified(dataset: Dataset, certificates: Iterable[Certificate | None]) -> None:
    """Refuse a dataset with a file that none of its certificates vouches for.

    Args:
        dataset: What is to be trained on.
        certificates: The records it names, None for one that is not there.

    Raises:
        IntegrityError: Naming every such blob; nothing was trained.
    """
    vouched = {file for one in certificates if one is not None for file in one.files}
    strange = [file.path for file in dataset.files if file not in vouched]
    if not strange and dataset.files:
        return
    named = "".join(f"\n  {path}" for path in strange) or " it names no blob at all"
    raise IntegrityError(
        f"Dataset {dataset.id} holds {len(strange)} of {len(dataset.files)} blobs without a certificate:{named}",
        left="the dataset's record and the blobs; nothing was trained on them",
        next="Trigger the ingest DAG of their batches with force, so that they are validated; then trigger this DAG "
        "with a new partition key, which fixes a dataset of certified batches.",
    )


def file_names(dataset: Dataset) -> tuple[str, ...]:
    """What the dataset's files are called on the VM: blob names may repeat between batches, these do not."""
    return tuple(f"{number:04d}-{file.path.rpartition('/')[2]}" for number, file in enumerate(dataset.files))


def dataset_json(dataset: Dataset, spec: Pipeline) -> bytes:
    """What train.py reads as /data/dataset.json; it holds no secret and no row."""
    body: dict[str, Any] = {
        "pipeline": spec.name,
        "target": spec.columns.target,
        "time": spec.columns.time,
        "site": spec.columns.site,
        "tolerance": spec.model.tolerance,
        "domain": spec.model.domain,
        "features": [one.name for one in spec.model.features],
        "window_start": dataset.window_start,
        "window_end": dataset.window_end,
        "holdout_start": dataset.holdout_start,
        "block_hours": spec.registry.block_hours,
        "parameters": spec.training.parameters,
        "files": [{"name": name} for name in file_names(dataset)],
    }
    return canonical_json(body)


def already_trained(trained: Iterable[TrainingRun], wanted: TrainingRun, *, live: bool = True) -> str:
    """The id of a finished training of the same dataset with the same recipe as ``wanted``, or an empty text.

    An image that ``wanted`` does not name, or names by the start of its id, is compared no further than that. To a
    ``live`` run only live trainings count: the model of a rerun or backfill stayed where it was, and skipping would
    keep the same data from ever getting to the devices. The training itself is found, not done again.
    """
    for one in trained:
        same = (one.code, one.parameters) == (wanted.code, wanted.parameters)
        same = same and one.inputs in ("", wanted.inputs) and one.image.removeprefix("sha256:").startswith(wanted.image)
        if same and (one.origin == LIVE or not live):
            return one.id
    return ""
