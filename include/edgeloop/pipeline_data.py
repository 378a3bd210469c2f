"""The sections of a pipeline.yaml about data: where it arrives, how it is judged, where it goes and how."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, model_validator

from edgeloop.pipeline_parts import CONTAINER_NAME, ConnectionId, ContainerName, Part, wrong


class Nudge(Part):
    """A queue that Azure's BlobCreated events arrive in; each only wakes intake, which looks for itself."""

    kind: Literal["service_bus", "storage_queue"]
    connection: ConnectionId
    queue: Annotated[str, Field(min_length=1, max_length=260)]


Preset = Literal["azure", "stack_hub", "stack_edge"]
"""Which kind of blob service answers, and so which API version and features it has."""


class Source(Part):
    """Where files arrive and when they count as complete."""

    kind: Literal["folder", "smb", "blob"] = "folder"
    connection: ConnectionId = "edgeloop_share"
    preset: Preset = "azure"
    """Of a blob source."""
    folder: str = ""
    pattern: str = "*.csv"
    exclude: tuple[str, ...] = ("*.part", "*.tmp", ".*")
    group: str
    """Regular expression searched in the file's path; its first group names the batch the file belongs to."""
    partitions: str = ""
    """How date-named folders below ``folder`` are written (strftime); "" when files are not sorted by date."""
    look_back_days: Annotated[int, Field(ge=0)] = 7
    complete: Literal["settled", "renamed", "sentinel", "manifest"] = "settled"
    marker: str = ""
    """Which file is the sentinel or the manifest (a glob)."""
    quiet_seconds: Annotated[float, Field(ge=0)] = 5.0
    polls: Annotated[int, Field(ge=2)] = 2
    poll_seconds: Annotated[float, Field(gt=0)] = 1.0
    final_newline: bool = True
    """A last line without a line end means a half-written file; false for a producer that never writes one."""
    nudge: Nudge | None = None

    @model_validator(mode="after")
    def _group_is_a_regex(self) -> Self:
        try:
            groups = re.compile(self.group).groups
        except (re.error, OverflowError, RecursionError) as error:
            raise wrong(f"is no regular expression: {error}", "group") from error
        if groups != 1:
            raise wrong(f"must hold exactly one (...) that names the batch, it holds {groups}", "group")
        return self

    @model_validator(mode="after")
    def _a_blob_source_names_its_container(self) -> Self:
        if self.kind == "blob" and not re.fullmatch(CONTAINER_NAME, self.container):
            raise wrong("with kind: blob begins with the container, and a prefix may follow after '/'", "folder")
        if self.kind != "blob" and self.preset != "azure":
            raise wrong("says which blob service answers; remove it, or write kind: blob", "preset")
        return self

    @property
    def container(self) -> str:
        """The container of a blob source."""
        return self.folder.strip("/").partition("/")[0]

    @model_validator(mode="after")
    def _marker_goes_with_complete(self) -> Self:
        needed = self.complete in ("sentinel", "manifest")
        if needed and not self.marker:
            raise wrong(f"is missing; complete: {self.complete} needs the glob of that file", "marker")
        if self.marker and not needed:
            raise wrong("does nothing without complete: sentinel or manifest; remove it or set that", "marker")
        return self

    @model_validator(mode="after")
    def _partitions_name_days(self) -> Self:
        wild = set(re.findall(r"%(.)", self.partitions))
        if self.partitions and not ({"Y", "m", "d"} <= wild <= {"Y", "m", "d", "H"}):
            raise wrong("must hold %Y, %m and %d, %H if wanted, and nothing else, for example '%Y/%m/%d'", "partitions")
        if self.partitions.startswith("/") or ".." in self.partitions.split("/"):
            raise wrong("is written relative to folder, for example '%Y/%m/%d'", "partitions")
        return self


class Columns(Part):
    """The columns that the loop itself must know."""

    time: str
    site: str
    target: str
    timezone: str = "UTC"
    """How event times without an offset are read (an IANA name)."""
    identifiers: tuple[str, ...] = ()
    """Columns whose values name a person or a thing: none of them may be in what a training puts out."""

    @model_validator(mode="after")
    def _timezone_exists(self) -> Self:
        try:
            ZoneInfo(self.timezone)
        # OSError: 'Europe' is a folder of names, and a name may be longer than a file's may.
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise wrong(f"{self.timezone!r} is no IANA name such as Europe/Paris", "timezone") from error
        return self


class Validation(Part):
    """How a batch is judged; the expectations themselves are in expectations.json."""

    memory_mb: Annotated[int, Field(ge=64)] = 1024
    """What one column may take when an expectation has to see it whole (MiB)."""
    chunk_rows: Annotated[int, Field(ge=1000)] = 200_000
    docs: bool = True
    """Whether Data Docs are published for every batch."""


class Storage(Part):
    """The account and containers the pipeline's data, records and prediction logs live in."""

    connection: ConnectionId = "edgeloop_private"
    container: ContainerName
    predictions: ContainerName = "edge"
    preset: Preset = "azure"


class Transfer(Part):
    """How files go to blob storage: what the link can carry, and how much is read back."""

    link_mbit: Annotated[float, Field(gt=0)] = 1000.0
    """Speed of the link (Mbit/s); block size and the number of blocks on their way at once follow from it."""
    limit_mbit: Annotated[float, Field(ge=0)] = 0.0
    """No more than this may be used of it (Mbit/s); 0 for no limit."""
    verify: Literal["full", "sampled"] = "full"
    sample_above_mb: Annotated[int, Field(ge=1)] = 1024
    """With ``sampled``, blobs above this size (MiB) are read back in part."""
