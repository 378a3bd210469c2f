"""What an output is made of, as the search sees it: texts, and numbers in their order, each with its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.errors import LeakError

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORK_BYTES = 1 << 30
"""How many bytes of one output are looked at, whatever it unfolds to: a bomb of zeros ends here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A piece of text; ``where`` says its place in words that hold nothing of its content.

    ``loose`` text came out of bytes that were taken for text or for an encoding of it: much of it may be noise.
    """

    where: str
    text: str
    loose: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Numbers in their order, an array [n] of any real type; ``digits`` of them are sure, 0 for all."""

    where: str
    values: NDArray[Any]
    digits: int = 0


Piece = Text | Numbers


class Budget:
    """The bytes that may still be looked at in one output."""

    def __init__(self, name: str, limit: int = WORK_BYTES) -> None:
        self.name, self.limit, self.left = name, limit, limit

    def spend(self, count: int) -> None:
        """Raise ``LeakError`` when more is to be looked at than the limit allows."""
        self.left -= count
        if self.left < 0:
            raise LeakError(
                f"{self.name} unfolds to more than {self.limit} bytes, more than are searched for training rows.",
                left="the outputs on the VM; nothing was stored",
                next="Let train.py write smaller outputs, without archives in them. Changed code trains anew.",
            )
