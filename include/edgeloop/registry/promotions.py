"""The promotion ledger: which model is candidate, champion, rejected or quarantined, by whom and on what evidence.

Entries of the store's ledger ``promotions``: ``{"event", "model", "version", "from", "at", "by", "why", "evidence",
"origin"}``. Every change is decided on the entries as they are and appended by compare-and-swap, so of two at once one
wins and the other decides again with the winner in view. All are safe to repeat: what is already so appends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConflictError, NotFoundError
from edgeloop.records import ModelVersion
from edgeloop.registry.standing import CANDIDATE, CHAMPION, QUARANTINED, REJECTED, Standing, standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.store import Entry, Store

LEDGER = "promotions"
LISTED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What somebody wants of a model. ``by`` is who, ``why`` a sentence, ``evidence`` the id of a record or empty."""

    event: str
    by: str
    why: str
    evidence: str = ""
    origin: str = "live"


def current(store: Store) -> Standing:
    """Champion, candidate and the set-aside models, as the ledger says now."""
    return standing(store.ledger(LEDGER))


def champion(store: Store) -> ModelVersion | None:
    """The model that should serve on every device, or None before the first promotion."""
    found = current(store).champion
    return store.get(ModelVersion, found) if found else None


def candidate(store: Store) -> ModelVersion | None:
    """The model on its way to the devices, or None."""
    found = current(store).candidate
    return store.get(ModelVersion, found) if found else None


def is_quarantined(store: Store, model_id: str) -> bool:
    """Whether a device, a proof or a person found the model bad."""
    return model_id in current(store).quarantined


def nominate(
    store: Store, model: ModelVersion, *, by: str, why: str, evidence: str = "", force: str = ""
) -> Entry | None:
    """Make ``model`` the candidate, in place of any other; None if it is candidate or champion already.

    Raises ``ConflictError`` for a rejected or quarantined model unless ``force`` gives a reason, which is written down.
    """
    change = Change(
        event=CANDIDATE, by=by, why=f"{why} (forced: {force})" if force else why, evidence=evidence, origin=model.origin
    )

    def decide(now: Standing, _: list[Entry]) -> bool:
        if (model.id in now.quarantined or model.id in now.rejected) and not force:
            verb = "quarantined" if model.id in now.quarantined else "rejected"
            raise ConflictError(
                f"Model version {model.version} ({model.id[:16]}) was {verb}; it is no candidate.",
                left=f"the champion {_short(now.champion)} and the ledger",
                next="Train again, or run the task with 'force' set to the reason why it may go out after all.",
            )
        return model.id not in (now.candidate, now.champion)

    return _change(store, model.id, change, decide)


def promote(
    store: Store, model_id: str, *, by: str, why: str, evidence: str, expected_champion: str, origin: str = "live"
) -> Entry | None:
    """Make ``model_id`` the champion if ``expected_champion`` (a model id, or empty for none) still is.

    Returns the new entry, or None when this promotion already happened: the model is champion, or an entry with the
    same model, predecessor and evidence is in the ledger, even if others were promoted since. Raises ``ConflictError``
    for another champion than expected and for a rejected or quarantined model, ``NotFoundError`` for one that was never
    registered.
    """
    change = Change(event=CHAMPION, by=by, why=why, evidence=evidence, origin=origin)

    def decide(now: Standing, entries: list[Entry]) -> bool:
        done = (CHAMPION, model_id, expected_champion, evidence)
        if now.champion == model_id or (evidence and done in {_promotion(entry.body) for entry in entries}):
            return False
        if model_id in now.quarantined | now.rejected:
            raise ConflictError(
                f"Model {_short(model_id)} was quarantined or rejected and cannot become champion.",
                left=f"the champion {_short(now.champion)}",
                next="Nominate it again with a reason, or promote another.",
            )
        if now.champion != expected_champion:
            raise ConflictError(
                f"Model {_short(model_id)} was to replace champion {_short(expected_champion)}, "
                f"but {_short(now.champion)} is champion by now.",
                left=f"the champion {_short(now.champion)}",
                next="Look at the promotion ledger; if the model is still wanted, train and compare it with this one.",
            )
        return True

    return _change(store, model_id, change, decide)


def reject(store: Store, model_id: str, *, by: str, why: str, evidence: str = "") -> Entry | None:
    """Take the model out of the running, for example when approval was refused; None if it was rejected already."""
    change = Change(event=REJECTED, by=by, why=why, evidence=evidence)

    def decide(now: Standing, _: list[Entry]) -> bool:
        if model_id == now.champion:
            raise ConflictError(
                f"Model {_short(model_id)} is the champion; a champion is quarantined, not rejected.",
                left="the champion",
                next="Quarantine it: the champion before it then takes its place.",
            )
        return model_id not in now.rejected | now.quarantined

    return _change(store, model_id, change, decide)


def quarantine(store: Store, model_id: str, *, by: str, why: str, evidence: str = "") -> Entry | None:
    """Mark the model as bad; if it is champion, the one before it is champion again. None if it already was."""
    change = Change(event=QUARANTINED, by=by, why=why, evidence=evidence)
    return _change(store, model_id, change, lambda now, _: model_id not in now.quarantined)


def _change(
    store: Store, model_id: str, change: Change, wanted: Callable[[Standing, list[Entry]], bool]
) -> Entry | None:
    def decide(entries: list[Entry]) -> dict[str, Any] | None:
        now = standing(entries)
        if model_id not in now.versions:
            known = ", ".join(_short(one) for one in list(now.versions)[-LISTED:]) or "none"
            raise NotFoundError(
                f"Model {_short(model_id)} is not registered; the newest that are: {known}.",
                left="the promotion ledger",
                next="Run the register task of its training first.",
            )
        return entry_body(change, model_id, now) if wanted(now, entries) else None

    return store.append(LEDGER, decide)


def entry_body(change: Change, model_id: str, now: Standing, version: int = 0) -> dict[str, Any]:
    """One line of the ledger; ``version`` only for a model that ``now`` does not know yet."""
    return {
        "event": change.event,
        "model": model_id,
        "version": now.versions.get(model_id, version),
        "from": now.champion,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": change.by,
        "why": change.why,
        "evidence": change.evidence,
        "origin": change.origin,
    }


def _promotion(body: dict[str, Any]) -> tuple[str, str, str, str]:
    return body["event"], body["model"], body["from"], body["evidence"]


def _short(model_id: str) -> str:
    return model_id[:16] or "(none)"
