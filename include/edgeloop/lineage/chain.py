"""A chain as data: what stands in it, how each link was tried, and whether all of it holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class State(StrEnum):
    """``unproven`` is what could not be tried: a registry or a device that does not answer."""

    SOUND = "sound"
    UNPROVEN = "unproven"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was tried: ``what`` should be so.

    ``found`` says how it is where it is not so, ``next`` what to type or to do then, where one thing helps.
    """

    what: str
    state: State
    found: str = ""
    next: str = ""

    @classmethod
    def of(cls, what: str, found: str, next: str = "") -> Check:  # noqa: A002 - as in an error
        """Sound if there is nothing to say against it, else broken."""
        return cls(what=what, state=State.BROKEN if found else State.SOUND, found=found, next=next if found else "")

    def to_dict(self) -> dict[str, str]:
        """Plain JSON values."""
        return {"what": self.what, "state": self.state.value, "found": self.found, "next": self.next}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One thing in a chain.

    ``kind`` as records call it, or ``device``, ``code``, ``file``; ``id`` is its whole id or digest, ``name`` what
    people call it. ``facts`` are what to tell of it, ``links`` the next things on the way.
    """

    kind: str
    id: str
    name: str
    facts: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    links: tuple[Node, ...] = ()

    def having(self, checks: tuple[Check, ...], links: tuple[Node, ...] = ()) -> Node:
        """This one with what was tried of it and what is behind it."""
        return replace(self, checks=checks, links=links)

    def walk(self) -> Iterator[Node]:
        """This one and everything behind it."""
        yield self
        for one in self.links:
            yield from one.walk()

    @property
    def state(self) -> State:
        """Of its own checks the worst."""
        states = {one.state for one in self.checks}
        return next((one for one in (State.BROKEN, State.UNPROVEN) if one in states), State.SOUND)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": self.kind,
            "id": self.id,
            "name": self.name,
            "state": self.state.value,
            "facts": list(self.facts),
            "checks": [one.to_dict() for one in self.checks],
            "links": [one.to_dict() for one in self.links],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """What was asked for, what it was made of, and what was made of it."""

    subject: Node
    made_of: tuple[Node, ...] = ()
    made_into: tuple[Node, ...] = ()

    def nodes(self) -> Iterator[Node]:
        """Everything in it; what can be reached on two ways comes twice."""
        for one in (self.subject, *self.made_of, *self.made_into):
            yield from one.walk()

    def wrong(self) -> tuple[tuple[Node, Check], ...]:
        """Every check that does not hold, broken ones first, each once."""
        found = {
            (one.kind, one.id, check): one
            for one in self.nodes()
            for check in one.checks
            if check.state is not State.SOUND
        }
        return tuple((node, key[2]) for key, node in sorted(found.items(), key=lambda pair: pair[0][2].state.value))

    @property
    def checks(self) -> int:
        """How many different things were tried."""
        return len({(one.kind, one.id, check.what) for one in self.nodes() for check in one.checks})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "subject": self.subject.to_dict(),
            "made_of": _dicts(self.made_of),
            "made_into": _dicts(self.made_into),
            "checks": self.checks,
            "wrong": [{"kind": node.kind, "id": node.id, **check.to_dict()} for node, check in self.wrong()],
        }


def _dicts(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    return [one.to_dict() for one in nodes]
