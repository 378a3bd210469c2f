"""What the promotion ledger says to a rollout: whether its model may go out, and whose place it takes in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from edgeloop.errors import ConflictError, RolloutFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.records import Rollout
    from edgeloop.registry.standing import Standing
    from edgeloop.rollout.exposure import Exposure
    from edgeloop.store import Entry
    from edgeloop_airflow.rollout_stage import Stage

RUNBOOK = "See docs/runbooks/registry.md."


def require_wanted(now: Stage, force: str) -> str:
    """Let only a candidate, or the champion, go on to the devices; with ``force``, nominate any other again.

    Returns what was done to the registry, in words. Raises ``AirflowSkipException`` for a model that another took the
    place of, ``AirflowFailException`` for one that was quarantined: that takes a reason, written into the ledger.
    """
    from edgeloop import registry

    standing, model = registry.current(now.store), now.model.id
    if model == standing.champion:
        return ""
    met = standing.basis(model) == standing.champion
    if model == standing.candidate and met:
        return ""
    if force:
        registry.nominate(now.store, now.model, by=now.ring.by, why="rollout", force=force)
        return f"Model version {now.model.version} is candidate again: {force}"
    if model in standing.quarantined:
        raise AirflowFailException(str(_quarantined(now)))
    if model == standing.candidate:
        raise _overtaken(now, standing)
    raise AirflowSkipException(f"Model version {now.model.version} is no longer the candidate; no device is changed.")


def refuse_quarantined(now: Stage) -> None:
    """Raise ``AirflowFailException`` if somebody quarantined the model while its ring was watched or asked about."""
    from edgeloop import registry

    if registry.is_quarantined(now.store, now.model.id):
        raise AirflowFailException(str(_quarantined(now)))


def back_on_quarantined(now: Stage, exposed: Iterable[Exposure]) -> str:
    """What to add to a restore's reason where a device goes back to a model that was quarantined meanwhile.

    It serves at least; what it serves is for the champion's rollout to change.
    """
    from edgeloop import registry
    from edgeloop.records import ModelImage

    bad = registry.current(now.store).quarantined
    sites = []
    for one in exposed:
        digest = one.before.rpartition("@sha256:")[2]
        if digest and any(image.model in bad for image in now.store.children(digest, ModelImage)):
            sites.append(one.site)
    if not sites:
        return ""
    return f"; {', '.join(sites)} went back to a quarantined version: roll the champion's image out there"


def promote(now: Stage, record: Rollout) -> Entry | None:
    """Make the model champion in the place of the one that it was compared with; None if it is champion already.

    Raises ``AirflowFailException`` if that is no longer the champion, or the model was taken out meanwhile.
    """
    from edgeloop import registry

    expected = registry.current(now.store).basis(now.model.id)
    try:
        return registry.promote(
            now.store,
            now.model.id,
            by=now.ring.by,
            why="passed every ring",
            evidence=record.id,
            expected_champion=expected,
            origin=now.origin,
        )
    except ConflictError as error:
        # Else it would be the candidate for ever, and no drift would ask for another training.
        registry.reject(now.store, now.model.id, by=now.ring.by, why=f"passed every ring and was refused: {error.what}")
        refused = RolloutFailedError(
            f"Every ring has passed, but version {now.model.version} does not become champion: {error.what}",
            left=f"version {now.model.version} on {', '.join(now.ring.sites)} and the rings before; {error.left}",
            next="Either roll the champion's image out (trigger this DAG with its key), or, if this one is wanted all "
            f"the same, trigger this DAG with the same partition key and the reason as 'force'. {RUNBOOK}",
        )
        raise AirflowFailException(str(refused)) from error


def _quarantined(now: Stage) -> ConflictError:
    from edgeloop import registry

    entry = registry.set_aside(now.store, now.model.id)
    told = f" on {entry.body['at']} by {entry.body['by']}: {entry.body['why']}" if entry else ""
    exposed = ", ".join(sorted(one.site for one in now.ring.exposed()))
    return ConflictError(
        f"Model version {now.model.version} was quarantined{told}. It goes no further.",
        left=f"it on {exposed}, until the champion's image is rolled out there" if exposed else "every device as it is",
        next="If it may go out after all, trigger this DAG with the same partition key and the reason as 'force'; that "
        f"overrides the quarantine and is written into the promotion ledger. {RUNBOOK}",
    )


def _overtaken(now: Stage, standing: Standing) -> Exception:
    """Take a candidate out that was compared with a champion of the past, so that it holds up no later one."""
    from edgeloop import registry

    before, champion = (
        f"version {standing.versions.get(one, 0)}" if one else "no champion"
        for one in (standing.basis(now.model.id), standing.champion)
    )
    why = f"it was compared with {before}, and {champion} is champion by now"
    registry.reject(now.store, now.model.id, by=now.ring.by, why=why)
    told = f"Model version {now.model.version} goes no further: {why}"
    exposed = sorted(one.site for one in now.ring.exposed())
    if not exposed:
        return AirflowSkipException(f"{told}; no device is changed. A new retraining is compared with that one.")
    return AirflowFailException(
        str(
            RolloutFailedError(
                f"{told}.",
                left=f"version {now.model.version} on {', '.join(exposed)}; the devices of this ring as they were",
                next="Roll the champion's image out to those devices (trigger this DAG with its key), or, if this "
                f"version is wanted all the same, trigger this DAG with its key and the reason as 'force'. {RUNBOOK}",
            )
        )
    )
