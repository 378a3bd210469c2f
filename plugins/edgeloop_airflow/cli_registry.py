"""`edgeloop standing`, `history` and `quarantine`: what the promotion ledger says, and to take a model out."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

from edgeloop import registry
from edgeloop.errors import ConfigurationError
from edgeloop.records import ModelImage
from edgeloop.rollout import history as devices
from edgeloop.rollout.exposure import exposures
from edgeloop.rollout.plan import Step
from edgeloop_airflow import hooks
from edgeloop_airflow.assets import dag_id

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from edgeloop.ledger import Entry
    from edgeloop.registry import Standing
    from edgeloop_airflow.hooks import Desk

DONE = 0
SHORT = 16
LAST = 20
MIRRORED = "azure_ml"
MODEL = "a version (3, v3) or the start of a model's id"


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add these verbs."""
    text = "Champion, challenger and what is out of the running, now or on a day."
    made = verbs.add_parser("standing", help="which model is champion, now or on a day", description=text)
    made.add_argument("pipeline", metavar="PIPELINE")
    made.add_argument("--on", default="", metavar="DAY", help="who was champion on that day, YYYY-MM-DD UTC")
    made.set_defaults(run=run_standing)
    text = "The promotion ledger: what happened when, by whom, why, on which evidence. Newest last."
    made = verbs.add_parser("history", help="what happened to the models of a pipeline", description=text)
    made.add_argument("pipeline", metavar="PIPELINE")
    made.add_argument("model", metavar="MODEL", nargs="?", default="", help=f"of this one only: {MODEL}")
    made.add_argument("--last", type=int, default=LAST, metavar="N", help=f"so many entries ({LAST}); 0 is all")
    made.set_defaults(run=run_history)
    text = "Take a model out of the running as bad. It is rolled out again only with a reason, which is written down."
    made = verbs.add_parser("quarantine", help="take a model out of the running", description=text)
    made.add_argument("pipeline", metavar="PIPELINE")
    made.add_argument("model", metavar="MODEL", help=MODEL)
    made.add_argument("--why", required=True, help="one sentence for whoever reads the ledger")
    made.add_argument("--by", default="", help="who says so; your login by default")
    made.set_defaults(run=run_quarantine)


def run_standing(asked: argparse.Namespace) -> int:
    """Print who stands where."""
    desk = hooks.desk(asked.pipeline)
    now = registry.current(desk.store)
    lines = _on(desk, now, asked.on) if asked.on else _now(desk, now)
    _print([f"{asked.pipeline}: {len(now.versions)} versions, {now.seq} entries in the promotion ledger", *lines])
    return DONE


def run_history(asked: argparse.Namespace) -> int:
    """Print entries of the ledger, those of one model or of all."""
    if asked.last < 0:
        raise ConfigurationError(f"--last {asked.last} is no number of entries.", next="Give 0 for all, or more.")
    store = hooks.desk(asked.pipeline).store
    model = registry.which(registry.current(store), asked.model) if asked.model else ""
    found = registry.history(store, model, last=asked.last)
    _print([line for entry in found for line in _told(entry)] or [f"Nothing happened in {asked.pipeline} yet."])
    return DONE


def run_quarantine(asked: argparse.Namespace) -> int:
    """Write it down, and say what serves it still."""
    if not asked.why.strip():
        raise ConfigurationError(
            "A quarantine needs a reason.", left="the promotion ledger", next="Say it after --why, in one sentence."
        )
    desk = hooks.desk(asked.pipeline)
    before = registry.current(desk.store)
    model = registry.which(before, asked.model)
    done = registry.quarantine(desk.store, model, by=asked.by or getpass.getuser(), why=asked.why.strip())
    now, name = registry.current(desk.store), _name(before, model)
    lines = [f"{name} is quarantined." if done else f"{name} was quarantined before; nothing is added."]
    if done and before.champion == model:
        follows = f"{_name(now, now.champion)} is champion again" if now.champion else "there is none now"
        lines.append(f"It was champion; {follows}.")
    lines += _serving(desk, now, model)
    if desk.snapshot.spec.registry.backend == MIRRORED:
        lines.append(f"Next: `edgeloop reconcile {asked.pipeline} --mend`, so that the workspace shows it too.")
    _print(lines)
    return DONE


def _now(desk: Desk, now: Standing) -> list[str]:
    lines = [f"champion     {_name(now, now.champion)}"]
    if now.reigns:
        lines.append(_under(registry.entry(desk.store, now.reigns[-1].seq)))
    lines.append(f"challenger   {_name(now, now.candidate)}")
    if now.candidate:
        lines.append(f"             for the place of {_name(now, now.basis(now.candidate))}")
    for word, models in (("quarantined", now.quarantined), ("rejected", now.rejected - now.quarantined)):
        for at, one in enumerate(sorted(models, key=lambda one: now.versions.get(one, 0))):
            lines.append(f"{word if not at else '':<12} {_name(now, one)}")
    return lines


def _on(desk: Desk, now: Standing, day: str) -> list[str]:
    try:
        start, end = devices.day(day)
    except ValueError as error:
        raise ConfigurationError(f"{day!r} is no day.", next="Write it as 2014-01-31.") from error
    found = now.reigns_between(start, end)
    if not found:
        return [f"{day}: there was no champion"]
    lines = []
    for one in found:
        lines += [f"{day}: champion {_name(now, one.champion)}", _under(registry.entry(desk.store, one.seq))]
    return lines


def _serving(desk: Desk, now: Standing, model: str) -> Iterable[str]:
    """The devices that the model is on, and how it comes off them."""
    images = [one for one in desk.store.children(model, ModelImage) if one.digest]
    digests, exposed = {one.digest for one in images}, {site for one in images for site in exposures(desk.store, one)}
    on = []
    for site in (one.name for one in desk.snapshot.spec.sites):
        seen = devices.history(desk.store, site)
        # Who was never looked at since devices are: what was to be switched there is all that is known.
        if seen[-1].digest in digests if seen else site in exposed:
            on.append(site)
    if not on:
        yield "No device is known to serve it."
        return
    yield f"It still serves on {', '.join(on)}."
    if not now.champion:
        yield "Next: no model takes its place. Train one, or stop the containers by hand: docs/runbooks/rollout.md."
        return
    keys = [Step(image=one.key, ring=0).key for one in desk.store.children(now.champion, ModelImage) if one.digest]
    yield (
        f"Next: roll {_name(now, now.champion)} out there: trigger {dag_id(desk.snapshot.spec.name, 'rollout')} with "
        f"partition key {keys[0] if keys else '<key of its image>@ring0'}."
    )


def _told(entry: Entry) -> list[str]:
    body = entry.body
    what = f"{entry.seq:>5}  {body['at']}  {body['event']:<11} v{body['version']}@{body['model'][:SHORT] or '(none)'}"
    instead = f", champion then {body['from'][:SHORT]}" if body["from"] else ""
    more = [f"       by {body['by']}: {body['why']}"]
    if body.get("override"):
        more.append(f"       overrides a quarantine or rejection: {body['override']}")
    evidence = f", evidence {body['evidence'][:SHORT]}" if body["evidence"] else ""
    return [f"{what} ({body['origin']}{instead}{evidence})", *more]


def _under(entry: Entry) -> str:
    body = entry.body
    return f"             since {body['at']} by {body['by']}: {body['why']} (entry {entry.seq}, {body['event']})"


def _name(now: Standing, model: str) -> str:
    return f"version {now.versions.get(model, 0)} ({model[:SHORT]})" if model else "(none)"


def _print(lines: Iterable[str]) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
