"""Who is champion and who is candidate: pure, folded from the promotion ledger."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConfigurationError
from edgeloop.ledger import Fold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.store import Entry

REGISTERED, CANDIDATE, CHAMPION, REJECTED, QUARANTINED, ALIASED = (
    "registered",
    "candidate",
    "champion",
    "rejected",
    "quarantined",
    "aliased",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """From entry ``seq`` on, written at ``since`` (ISO 8601 UTC), ``champion`` is champion; empty for nobody."""

    since: str
    seq: int
    champion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the ledger says now. All are model ids; ``champions`` oldest first, those that were quarantined left out."""

    versions: dict[str, int]
    champions: tuple[str, ...]
    candidate: str
    rejected: frozenset[str]
    quarantined: frozenset[str]
    seq: int = 0
    """The number of the newest entry."""
    bases: dict[str, str] = field(default_factory=dict)
    """The champion that each nominated model was compared with, or who took its place when it was quarantined."""
    promoted: frozenset[tuple[str, str]] = frozenset()
    """Every promotion's model and evidence."""
    reigns: tuple[Reign, ...] = ()
    """Every change of champion, oldest first."""
    told: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The numbers of the entries about each model."""
    by_alias: frozenset[str] = frozenset()
    """The models that are quarantined only because an alias was set so."""

    @property
    def champion(self) -> str:
        """The model that should serve, or the empty string: the last promoted one that is not quarantined."""
        return self.champions[-1] if self.champions else ""

    @property
    def on_its_way(self) -> str:
        """The candidate, or the empty string where it was compared with a champion of the past and goes no further."""
        return self.candidate if self.basis(self.candidate) == self.champion else ""

    def basis(self, model: str) -> str:
        """The champion that a promotion of ``model`` expects: the one its nomination was decided against."""
        return self.bases.get(model, self.champion)

    def champion_at(self, when: datetime) -> str:
        """Who was champion at that moment, or the empty string.

        Where the clocks of two workers disagree the order of the ledger counts: nothing took effect before what stands
        above it.
        """
        found = bisect_right([one for one, _ in self._effective()], when)
        return self.reigns[found - 1].champion if found else ""

    def reigns_between(self, start: datetime, end: datetime) -> tuple[Reign, ...]:
        """Everybody who was champion at some moment from ``start`` to before ``end``, oldest first."""
        timed = self._effective()
        ends = [since for since, _ in timed[1:]]
        return tuple(
            reign
            for at, (since, reign) in enumerate(timed)
            if reign.champion and since < end and (at >= len(ends) or (ends[at] > start and ends[at] > since))
        )

    def _effective(self) -> list[tuple[datetime, Reign]]:
        timed: list[tuple[datetime, Reign]] = []
        for reign in self.reigns:
            since = datetime.fromisoformat(reign.since)
            timed.append((max(since, timed[-1][0]) if timed else since, reign))
        return timed


def standing(entries: Iterable[Entry], before: Standing | None = None) -> Standing:
    """Fold a promotion ledger, oldest entry first; ``before`` is what the entries up to there came to.

    A rejected or quarantined model is no candidate; nominating it again lifts both. Quarantining the champion gives its
    place back to the champion before it, also in what a candidate was compared with: nobody was promoted meanwhile.
    """
    folding = _Folding(before or NOTHING)
    for entry in entries:
        folding.add(entry)
    return folding.standing()


class _Folding:
    """The sum while it is made: a ledger of thousands of entries would copy its sets thousands of times."""

    def __init__(self, before: Standing) -> None:
        self.versions, self.bases, self.told = dict(before.versions), dict(before.bases), dict(before.told)
        # Oldest first, as a dict's keys: a list is searched through with every promotion.
        self.champions, self.reigns = dict.fromkeys(before.champions), list(before.reigns)
        self.rejected, self.quarantined = set(before.rejected), set(before.quarantined)
        self.promoted = set(before.promoted)
        self.by_alias = set(before.by_alias)
        self.candidate, self.seq = before.candidate, before.seq

    def add(self, entry: Entry) -> None:
        """The next entry."""
        body, was = entry.body, self._champion
        change = {
            REGISTERED: self._registered,
            CANDIDATE: self._nominated,
            CHAMPION: self._promoted,
            REJECTED: self._set_aside,
            QUARANTINED: self._set_aside,
            ALIASED: self._aliased,
        }.get(body["event"])
        if change is None:
            raise ConfigurationError(
                f"Entry {entry.seq} of the promotion ledger says {body['event']!r}, which this Edgeloop does not know.",
                left="the ledger as it is",
                next="Install the newer version of Edgeloop on every component and restart them.",
            )
        change(body)
        self.seq = entry.seq
        if body["model"]:
            self.told[body["model"]] = (*self.told.get(body["model"], ()), entry.seq)
        if self._champion != was:
            self.reigns.append(Reign(since=body.get("at", ""), seq=entry.seq, champion=self._champion))

    @property
    def _champion(self) -> str:
        return next(reversed(self.champions), "")

    def _registered(self, body: dict[str, Any]) -> None:
        self.versions[body["model"]] = body["version"]

    def _nominated(self, body: dict[str, Any]) -> None:
        model = self.candidate = body["model"]
        self.bases[model] = body.get("from", self._champion)
        self.rejected.discard(model)
        self.quarantined.discard(model)
        self.by_alias.discard(model)

    def _promoted(self, body: dict[str, Any]) -> None:
        model = body["model"]
        self.promoted.add((model, body.get("evidence", "")))
        self._crown(model)

    def _crown(self, model: str) -> None:
        self.champions.pop(model, None)
        self.champions[model] = None
        self.candidate = "" if self.candidate == model else self.candidate

    def _set_aside(self, body: dict[str, Any]) -> None:
        model = body["model"]
        self.candidate = "" if self.candidate == model else self.candidate
        if body["event"] == REJECTED:
            self.rejected.add(model)
            return
        self.quarantined.add(model)
        self.by_alias.discard(model)
        self._depose(model)

    def _depose(self, model: str) -> None:
        was = self._champion
        self.champions.pop(model, None)
        if was == model:
            self.bases = {one: self._champion if base == model else base for one, base in self.bases.items()}

    def _aliased(self, body: dict[str, Any]) -> None:
        """Exactly these aliases; what a gate or a person found bad stays so, whatever an alias says."""
        named = body["aliases"]
        bad = set(named.get("quarantined", ()))
        for one in bad:
            self.champions.pop(one, None)
        if champion := named.get("champion", ""):
            self._crown(champion)
        else:
            self.champions.clear()
        self.candidate = named.get("challenger", "")
        if self.candidate:
            self.bases[self.candidate] = self._champion
        self.quarantined -= self.by_alias
        self.by_alias = bad - self.quarantined
        self.quarantined |= bad

    def standing(self) -> Standing:
        """What it came to."""
        return Standing(
            versions=self.versions,
            champions=tuple(self.champions),
            candidate=self.candidate,
            rejected=frozenset(self.rejected),
            quarantined=frozenset(self.quarantined),
            seq=self.seq,
            bases=self.bases,
            promoted=frozenset(self.promoted),
            reigns=tuple(self.reigns),
            told=self.told,
            by_alias=frozenset(self.by_alias),
        )


NOTHING = Standing(versions={}, champions=(), candidate="", rejected=frozenset(), quarantined=frozenset())


def to_json(now: Standing) -> dict[str, Any]:
    """A standing as a head holds it: every id once, elsewhere its place, for a head is written with every change."""
    reigns = [one.champion for one in now.reigns]
    named = [*now.versions, *now.told, *now.bases, *now.bases.values(), *now.champions, *reigns, now.candidate]
    named += sorted(now.rejected | now.quarantined) + sorted(model for model, _ in now.promoted)
    place = {model: at for at, model in enumerate(dict.fromkeys(named))}
    return {
        "models": list(place),
        "versions": [(place[model], number) for model, number in now.versions.items()],
        "champions": [place[model] for model in now.champions],
        "candidate": place[now.candidate],
        "rejected": sorted(place[model] for model in now.rejected),
        "quarantined": sorted(place[model] for model in now.quarantined),
        "seq": now.seq,
        "bases": [(place[model], place[base]) for model, base in now.bases.items()],
        "promoted": sorted((place[model], evidence) for model, evidence in now.promoted),
        "reigns": [(one.since, one.seq, place[one.champion]) for one in now.reigns],
        "told": [(place[model], seqs) for model, seqs in now.told.items()],
        "by_alias": sorted(place[model] for model in now.by_alias),
    }


def from_json(raw: dict[str, Any]) -> Standing:
    """A standing back; raises ``LookupError``, ``TypeError`` or ``ValueError`` for what is none."""
    models = raw["models"]

    def of(places: Iterable[int]) -> frozenset[str]:
        return frozenset(models[at] for at in places)

    return Standing(
        versions={models[at]: number for at, number in raw["versions"]},
        champions=tuple(models[at] for at in raw["champions"]),
        candidate=models[raw["candidate"]],
        rejected=of(raw["rejected"]),
        quarantined=of(raw["quarantined"]),
        seq=raw["seq"],
        bases={models[at]: models[base] for at, base in raw["bases"]},
        promoted=frozenset((models[at], evidence) for at, evidence in raw["promoted"]),
        reigns=tuple(Reign(since=since, seq=seq, champion=models[at]) for since, seq, at in raw["reigns"]),
        told={models[at]: tuple(seqs) for at, seqs in raw["told"]},
        by_alias=of(raw["by_alias"]),
    )


STANDING: Fold[Standing] = Fold(
    name="standing-1",
    add=lambda before, entries: standing(entries, before),
    to_json=to_json,
    from_json=from_json,
)
"""Change the name with the meaning: heads that another version of the fold wrote must not be taken for this one's."""
