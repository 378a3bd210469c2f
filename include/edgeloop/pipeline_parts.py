"""What every section of a pipeline.yaml is made of: its base class, the types of its values, its own errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = r"^[a-z][a-z0-9_]{1,40}$"
CONTAINER_NAME = r"^[a-z0-9](?:-?[a-z0-9])+$"

Name = Annotated[str, Field(pattern=NAME)]
# Not \w, which is all of Unicode: compiling that 200 times over cost every parse and every task start 45 ms.
ConnectionId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", min_length=1, max_length=200)]
ContainerName = Annotated[str, Field(pattern=CONTAINER_NAME, min_length=3, max_length=63)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Permit = Literal["azure_ml_outputs", "event_names", "public_address", "remote_logs", "training_rows"]
"""What an ``on_premises`` pipeline may let out of the site all the same."""


class Part(BaseModel):
    """Base of every section: no unknown fields, no changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def wrong(remedy: str, *at: str | int) -> PydanticCustomError:
    """What a section's own check raises; ``at`` leads from the section to the field, so that the line can be told."""
    return PydanticCustomError("edgeloop", "{remedy}", {"remedy": remedy, "at": at})


def twice(names: Iterable[str]) -> list[str]:
    """Names that occur more than once, sorted."""
    seen = list(names)
    return sorted({name for name in seen if seen.count(name) > 1})
