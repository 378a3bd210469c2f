"""Whether a record that somebody edited still reads as one: a text where a text belongs. Pure."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from edgeloop.record_base import FileRef

if TYPE_CHECKING:
    from edgeloop.record_base import Record

SINGLE = {"str": str, "int": int, "float": int | float}
SEVERAL = {"tuple[str, ...]": str, "tuple[FileRef, ...]": FileRef}


def unreadable(record: Record) -> tuple[str, ...]:
    """The names of fields that hold something else than they are declared to.

    An id is made of some fields only, and JSON takes anything: nothing else tells that such a record cannot be shown.
    """
    return tuple(one.name for one in fields(record) if not _fits(getattr(record, one.name), str(one.type)))


def _fits(value: Any, declared: str) -> bool:
    if declared in SINGLE:
        return isinstance(value, SINGLE[declared])
    if declared in SEVERAL:
        return isinstance(value, tuple) and all(isinstance(one, SEVERAL[declared]) and _whole(one) for one in value)
    return True


def _whole(value: Any) -> bool:
    return not isinstance(value, FileRef) or not [
        one.name for one in fields(value) if not _fits(getattr(value, one.name), str(one.type))
    ]
