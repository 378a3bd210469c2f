"""The promotion ledger: which model is candidate, champion, rejected or quarantined, by whom and on what evidence.

Entries of the store's ledger ``promotions``: ``{"event", "model", "version", "from", "at", "by", "why", "evidence",
"origin"}``, and ``"override"``, the reason why a rejected or quarantined model may go out after all. ``from`` is the
champion when the entry was decided: for a candidate the one it was compared with, whose place it may take and no
other's. Every change is decided on the standing as it is and appended by compare-and-swap, so of two at once one wins
and the other decides again with the winner in view. All are safe to repeat: what is already so appends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConflictError, NotFoundError
from edgeloop.records import ModelVersion
from edgeloop.registry.standing import CANDIDATE, CHAMPION, QUARANTINED, REJECTED, STANDING, Standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.ledger import Ledger
    from edgeloop.store import Entry, Store

LEDGER = "promotions"
LISTED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What somebody wants of a model. ``by`` is who, ``why`` a sentence, ``evidence`` the id of a record or empty.

    ``override`` is the reason why a rejection or quarantine does not count any more.
    """

    event: str
    by: str
    why: str
    evidence: str = ""
    origin: str = "live"
    override: str = ""


def opened(store: Store) -> Ledger[Standing]:
    """The promotion ledger, summed up as a standing: four small reads, however long it is."""
    return store.folded(LEDGER, STANDING)


def current(store: Store) -> Standing:
    """Champion, candidate and the set-aside models, as the ledger says now."""
    return opened(store).read()


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
    store: Store,
    model: ModelVersion,
    *,
    by: str,
    why: str,
    evidence: str = "",
    force: str = "",
    expected_champion: str | None = None,
) -> Entry | None:
    """Make ``model`` the candidate for the place of today's champion; None if it is so already, or is champion.

    ``expected_champion`` is the one it was compared with ("" for none), None where nothing was compared. Raises
    ``ConflictError`` if another is champion by now, and for a rejected or quarantined model unless ``force`` gives a
    reason, which is written down as the entry's ``override``.
    """

    def decide(now: Standing) -> Change | None:
        verb = "quarantined" if model.id in now.quarantined else "rejected" if model.id in now.rejected else ""
        if verb and not force:
            raise ConflictError(
                f"Model version {model.version} ({model.id[:16]}) was {verb}; it is no candidate.",
                left=f"the champion {_short(now.champion)} and the ledger",
                next="Train again, or run the task with 'force' set to the reason why it may go out after all.",
            )
        if expected_champion is not None and expected_champion != now.champion != model.id:
            raise _overtaken(now, model.id, expected_champion)
        named = now.candidate == model.id and now.basis(model.id) == now.champion
        if named or model.id == now.champion:
            return None
        return Change(
            event=CANDIDATE,
            by=by,
            why=f"{why} (forced: {force})" if force else why,
            evidence=evidence,
            origin=model.origin,
            override=force if verb else "",
        )

    return _change(store, model.id, decide)


def promote(
    store: Store, model_id: str, *, by: str, why: str, evidence: str, expected_champion: str, origin: str = "live"
) -> Entry | None:
    """Make ``model_id`` the champion if ``expected_champion`` (a model id, or empty for none) still is.

    Of a nominated model that is ``current(store).basis(model_id)``. Returns the new entry, or None when this promotion
    already happened: the model is champion, or an entry with the same model and evidence is in the ledger, even if
    others were promoted since. Raises ``ConflictError`` for another champion than expected and for a rejected or
    quarantined model, ``NotFoundError`` for one that was never registered.
    """

    def decide(now: Standing) -> Change | None:
        if now.champion == model_id or (evidence and (model_id, evidence) in now.promoted):
            return None
        if model_id in now.quarantined | now.rejected:
            raise ConflictError(
                f"Model {_short(model_id)} was quarantined or rejected and cannot become champion.",
                left=f"the champion {_short(now.champion)}",
                next="Nominate it again with a reason, or promote another.",
            )
        if now.champion != expected_champion:
            raise _overtaken(now, model_id, expected_champion)
        return Change(event=CHAMPION, by=by, why=why, evidence=evidence, origin=origin)

    return _change(store, model_id, decide)


def reject(store: Store, model_id: str, *, by: str, why: str, evidence: str = "") -> Entry | None:
    """Take the model out of the running, for example when approval was refused; None if it was rejected already."""

    def decide(now: Standing) -> Change | None:
        if model_id == now.champion:
            raise ConflictError(
                f"Model {_short(model_id)} is the champion; a champion is quarantined, not rejected.",
                left="the champion",
                next="Quarantine it: the champion before it then takes its place.",
            )
        if model_id in now.rejected | now.quarantined:
            return None
        return Change(event=REJECTED, by=by, why=why, evidence=evidence)

    return _change(store, model_id, decide)


def quarantine(store: Store, model_id: str, *, by: str, why: str, evidence: str = "") -> Entry | None:
    """Mark the model as bad; if it is champion, the one before it is champion again. None if it already was."""

    def decide(now: Standing) -> Change | None:
        if model_id in now.quarantined - now.by_alias:
            return None
        return Change(event=QUARANTINED, by=by, why=why, evidence=evidence)

    return _change(store, model_id, decide)


def _change(store: Store, model_id: str, wanted: Callable[[Standing], Change | None]) -> Entry | None:
    def decide(now: Standing) -> dict[str, Any] | None:
        if model_id not in now.versions:
            known = ", ".join(_short(one) for one in list(now.versions)[-LISTED:]) or "none"
            raise NotFoundError(
                f"Model {_short(model_id)} is not registered; the newest that are: {known}.",
                left="the promotion ledger",
                next="Run the register task of its training first.",
            )
        change = wanted(now)
        return entry_body(change, model_id, now) if change else None

    return opened(store).append(decide)


def _overtaken(now: Standing, model_id: str, expected: str) -> ConflictError:
    return ConflictError(
        f"Model {_short(model_id)} was to replace champion {_short(expected)}, "
        f"but {_short(now.champion)} is champion by now.",
        left=f"the champion {_short(now.champion)}",
        next="Look at the promotion ledger; if the model is still wanted, train and compare it with this one, or "
        "nominate it again with a reason.",
    )


def entry_body(change: Change, model_id: str, now: Standing, version: int = 0) -> dict[str, Any]:
    """One line of the ledger; ``version`` only for a model that ``now`` does not know yet."""
    body = {
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
    return body | ({"override": change.override} if change.override else {})


def _short(model_id: str) -> str:
    return model_id[:16] or "(none)"
