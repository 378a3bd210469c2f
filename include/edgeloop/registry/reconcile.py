"""What a mirror shows otherwise than the store, and how each difference is mended. The store is never written.

``differences`` and ``image_differences`` are pure; ``mend`` writes the mirror, and only what was found to differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from edgeloop.errors import EdgeloopError, UnreachableError
from edgeloop.registry.backend import ALIASES, Listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from edgeloop.records import ModelImage
    from edgeloop.registry.backend import ModelRegistry

SHORT, STORE = 16, "the store"
IMAGE_TAG = "image"
"""What a push adds to its version last; tags of others say nothing of that."""


class What(StrEnum):
    """Kinds of difference; those in ``MENDED`` end by writing the mirror."""

    MISSING = "missing"
    BYTES = "bytes"
    PROPERTIES = "properties"
    TAGS = "tags"
    ALIASES = "aliases"
    OTHER_MODEL = "other model"
    UNKNOWN = "unknown"
    IMAGE = "image"
    UNTAGGED = "untagged"


MENDED = frozenset({What.MISSING, What.BYTES, What.PROPERTIES, What.TAGS, What.ALIASES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that ``where`` shows otherwise than the store; ``remedy`` says how it ends."""

    version: int
    what: What
    where: str
    says: str
    remedy: str

    @property
    def mendable(self) -> bool:
        """Whether writing the mirror ends it."""
        return self.what in MENDED

    def __str__(self) -> str:
        """One line for a terminal or a log."""
        return f"version {self.version}: {self.says} in {self.where} ({self.what}); {self.remedy}"


def differences(truth: Iterable[Listed], mirror: Iterable[Listed], where: str) -> tuple[Difference, ...]:
    """Everything that ``mirror`` shows otherwise than ``truth``, in order of version; empty if nothing.

    Tags that a mirror has beside the store's are its own matter.
    """
    ours, theirs = ({one.version: one for one in side} for side in (truth, mirror))
    found: list[Difference] = []
    for number in sorted(ours.keys() | theirs.keys()):
        wanted, shown = ours.get(number), theirs.get(number)
        if wanted is None:
            found.append(_unknown(theirs[number], max(ours, default=0), where))
        elif shown is None:
            found.append(_mended(number, What.MISSING, where, f"model {wanted.model[:SHORT]} is missing"))
        else:
            found += _compared(wanted, shown, where)
    return tuple(found)


def _compared(wanted: Listed, shown: Listed, where: str) -> list[Difference]:
    number = wanted.version
    if shown.model != wanted.model:
        who = f"is model {shown.model[:SHORT]}" if shown.model else "was registered by somebody else"
        remedy = "delete it there by hand, then --mend: a version is never changed in place"
        says = f"{who}, and the number is that of model {wanted.model[:SHORT]}"
        return [Difference(version=number, what=What.OTHER_MODEL, where=where, says=says, remedy=remedy)]
    found = []
    if (shown.sha256, shown.size) != (wanted.sha256, wanted.size):
        told = f"{shown.size} bytes of sha256 {shown.sha256[:SHORT]}" if shown.sha256 else "gone, or without a digest"
        says = f"the bytes are {told}, not {wanted.size} of {wanted.sha256[:SHORT]}"
        found.append(_mended(number, What.BYTES, where, says))
    wrong = _names(wanted.properties, shown.properties) | _names(shown.properties, wanted.properties)
    if wrong:
        found.append(_mended(number, What.PROPERTIES, where, f"properties differ: {', '.join(sorted(wrong))}"))
    if wrong := _names(wanted.tags, shown.tags):
        found.append(_mended(number, What.TAGS, where, f"tags differ: {', '.join(sorted(wrong))}"))
    if shown.aliases != wanted.aliases:
        says = f"is shown as {_named(shown.aliases)} and is {_named(wanted.aliases)}"
        found.append(_mended(number, What.ALIASES, where, says))
    return found


def _names(wanted: Mapping[str, str], shown: Mapping[str, str]) -> set[str]:
    return {name for name, value in wanted.items() if shown.get(name) != value}


def _mended(number: int, what: What, where: str, says: str) -> Difference:
    return Difference(version=number, what=what, where=where, says=says, remedy="--mend writes it as the store has it")


def _unknown(shown: Listed, newest: int, where: str) -> Difference:
    who = f"model {shown.model[:SHORT]}" if shown.model else "a version that somebody else registered"
    blocks = " and will be in the way when the store gets to that number" if shown.version > newest else ""
    remedy = "the store does not know it; was it restored from a backup? If not, delete it there by hand"
    says = f"{who} is there{blocks}"
    return Difference(version=shown.version, what=What.UNKNOWN, where=where, says=says, remedy=remedy)


def _named(aliases: frozenset[str]) -> str:
    return " and ".join(one for one in ALIASES if one in aliases) or "nothing"


def image_differences(
    images: Iterable[ModelImage], truth: Iterable[Listed], holds: Callable[[str, str], bool], where: str
) -> tuple[Difference, ...]:
    """What a container registry lacks of the images that were pushed; ``holds`` is asked by repository and digest.

    An image whose digest never came back to its model version is told too.
    """
    known = {one.model: one for one in truth}
    found: list[Difference] = []
    for image in sorted(images, key=lambda one: (known[one.model].version if one.model in known else 0, one.id)):
        if not image.digest:
            continue
        model = known.get(image.model)
        number = model.version if model else 0
        repository = image.reference.partition("@")[0].partition("/")[2]
        if not holds(repository, image.digest):
            key = f"v{number}@{image.model[:SHORT]}"
            remedy = f"push it again: trigger the package DAG with key {key} and a reason as 'force'"
            says = f"image {image.digest[:19]} of {repository} is missing, or one of its blobs"
            found.append(Difference(version=number, what=What.IMAGE, where=where, says=says, remedy=remedy))
    pushed = {image.model for image in images if image.digest}
    for one in known.values():
        if one.model in pushed and IMAGE_TAG not in one.tags:
            says, remedy = "no tag of the version names its pushed image", "clear the push task of its package run"
            found.append(Difference(version=one.version, what=What.UNTAGGED, where=STORE, says=says, remedy=remedy))
    return tuple(found)


def aliases_of(truth: Iterable[Listed]) -> dict[str, tuple[int, ...]]:
    """Every alias with the versions that have it, as :meth:`ModelRegistry.alias` takes them."""
    listed = list(truth)
    found = {alias: tuple(one.version for one in listed if alias in one.aliases) for alias in ALIASES}
    return {alias: numbers for alias, numbers in found.items() if numbers}


def mend(
    found: Iterable[Difference],
    truth: Iterable[Listed],
    mirror: ModelRegistry,
    content: Callable[[Listed], bytes],
    say: Callable[..., None],
) -> None:
    """Write the mirror as the store has it, wherever ``found`` says that it differs and that writing helps.

    A version that cannot be mended does not hold up the others: what failed first is raised when all were tried. A
    mirror that does not answer is asked for nothing more. Safe to repeat, and to run at once with itself.
    """
    ours = {one.version: one for one in truth}
    kinds: dict[int, set[What]] = {}
    for one in found:
        kinds.setdefault(one.version, set()).add(one.what)
    # A number that is another model's there gets no alias: it would be that model which is shown as champion.
    shown = {number: one for number, one in ours.items() if What.OTHER_MODEL not in kinds.get(number, ())}
    failed: list[EdgeloopError] = []
    for number in sorted(kinds.keys() & shown.keys()):
        try:
            _mend(ours[number], kinds[number], mirror, content, say)
        except UnreachableError:
            raise
        except EdgeloopError as error:
            say("Version %d is not mended: %s", number, error.what)
            failed.append(error)
            del shown[number]
    if any(What.ALIASES in one or What.MISSING in one for one in kinds.values()):
        mirror.alias(aliases_of(shown.values()))
        say("Aliases are those of the store")
    if failed:
        raise failed[0]


def _mend(
    wanted: Listed,
    kinds: set[What],
    mirror: ModelRegistry,
    content: Callable[[Listed], bytes],
    say: Callable[..., None],
) -> None:
    if What.MISSING in kinds:
        # Its aliases come when all are there, the old champion's taken off first: nobody sees two.
        mirror.publish(replace(wanted, aliases=frozenset()), content(wanted))
        say("Version %d is published", wanted.version)
    elif kinds & {What.BYTES, What.PROPERTIES}:
        mirror.publish(wanted, content(wanted))
        say("Version %d is published again", wanted.version)
    elif What.TAGS in kinds:
        mirror.tag(wanted.version, wanted.tags)
        say("Version %d has the store's tags", wanted.version)
