"""A sensor for any DAG: waits until files are complete on a share, by intake's own rules and through the same look.

It needs a connection and no pipeline.yaml, no store and no claim: what it returned once it returns again.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowSensorTimeout
from airflow.triggers.base import BaseTrigger, TriggerEvent
from pydantic import ValidationError

from edgeloop.errors import ConfigurationError, UnreachableError
from edgeloop.pipeline_data import Source
from edgeloop.share.partitions import scope_of
from edgeloop.share.watch import Watch, policy_of
from edgeloop_airflow.sources import source_of, source_of_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow.sdk import Context

    from edgeloop.share.source import FileSource
    from edgeloop.share.watch import Look

MOST_BYTES = 48 * 1024
"""Paths come back through XCom, which lies in Airflow's database."""
BACKSTOP_SECONDS = 300.0
LONGEST_PAUSE = 60.0
ANY_GROUP = "(.*)"


class ShareSensor(BaseSensorOperator):
    """Waits until files are complete on a folder, an SMB share or a blob prefix; returns their paths, sorted.

    The arguments are those of ``source`` in pipeline.yaml (docs/pipeline.md), with the same meanings and defaults.

    Args:
        connection: An ``fs``, ``samba`` or ``wasb`` connection, as ``kind`` asks.
        kind: ``folder``, ``smb`` or ``blob``.
        preset: Of a blob service: ``azure``, ``stack_hub`` or ``stack_edge``.
        folder: Below the connection's folder or share; for ``blob`` the container, and a prefix after ``/``.
        pattern: Which files are data.
        exclude: Names of files that are still being written.
        group: Regular expression that names a file's group; with ``complete="sentinel"`` one per group is enough.
        partitions: How date-named folders are written; only those of the last ``look_back_days`` are looked into.
        look_back_days: See ``partitions``.
        complete: ``settled``, ``renamed``, ``sentinel`` or ``manifest``.
        marker: Which file is the sentinel or the manifest.
        quiet_seconds, polls, poll_seconds: When a file counts as settled.
        minimum_files: How many complete files end the wait.
        maximum_files: More than these are refused instead of written to Airflow's database.
        deferrable: Wait in the triggerer; else in the worker, looking every ``poke_interval``.

    Fails with ``AirflowSensorTimeout`` after ``timeout`` seconds (skipped with ``soft_fail``), which the trigger keeps
    itself; with ``ConfigurationError`` on arguments and connections that cannot be used.
    """

    template_fields: Sequence[str] = ("connection", "folder", "pattern", "exclude", "group", "partitions", "marker")

    def __init__(
        self,
        *,
        connection: str,
        kind: str = "folder",
        preset: str = "azure",
        folder: str = "",
        pattern: str = "*.csv",
        exclude: Sequence[str] = ("*.part", "*.tmp", ".*"),
        group: str = "",
        partitions: str = "",
        look_back_days: int = 7,
        complete: str = "settled",
        marker: str = "",
        quiet_seconds: float = 5.0,
        polls: int = 2,
        poll_seconds: float = 1.0,
        minimum_files: int = 1,
        maximum_files: int = 500,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.connection, self.kind, self.preset, self.folder = connection, kind, preset, folder
        self.pattern, self.exclude, self.group = pattern, list(exclude), group
        self.partitions, self.look_back_days = partitions, look_back_days
        self.complete, self.marker = complete, marker
        self.quiet_seconds, self.polls, self.poll_seconds = quiet_seconds, polls, poll_seconds
        self.minimum_files, self.maximum_files, self.deferrable = minimum_files, maximum_files, deferrable
        if minimum_files < 1 or maximum_files < minimum_files:
            raise _wrong(f"minimum_files is {minimum_files} and maximum_files {maximum_files}")
        self._eye: Watch | None = None

    def section(self) -> dict[str, Any]:
        """The arguments as the fields of a source section; raises ``ConfigurationError`` for what will not do."""
        names = (
            "connection", "kind", "preset", "folder", "pattern", "exclude", "group", "partitions", "look_back_days",
            "complete", "marker", "quiet_seconds", "polls", "poll_seconds",
        )  # fmt: skip
        fields = {name: getattr(self, name) for name in names}
        section_of(fields)
        return fields

    def execute(self, context: Context) -> Any:
        """Wait; the paths of the complete files below ``folder``."""
        fields = self.section()
        if not self.deferrable:
            return super().execute(context)
        trigger = ShareTrigger(
            section=fields,
            minimum_files=self.minimum_files,
            maximum_files=self.maximum_files,
            deadline=time.time() + self.timeout,
        )
        backstop = timedelta(seconds=self.timeout + BACKSTOP_SECONDS)
        return self.defer(trigger=trigger, method_name="execute_complete", timeout=backstop)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[str]:  # noqa: ARG002 - Airflow's
        """The paths that the trigger found; raises what it could not raise itself."""
        if "paths" in event:
            return self._found(list(event["paths"]))
        if "count" in event:
            self._refuse(int(event["count"]))
        if "wrong" in event:
            raise ConfigurationError(**event["wrong"])
        raise AirflowSensorTimeout(f"Not complete within {self.timeout:g} s: {event['why']}")

    def poke(self, context: Context) -> bool | PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Look until nothing that was seen may still settle; files that are not there are waited for by Airflow."""
        section, policy = section_of(self.section())
        if self._eye is None:
            self._eye = Watch(source_of(section), policy)
        self._eye.scope = scope_today(section)
        try:
            look = self._eye.wait()
        except UnreachableError as error:
            self.log.warning("Looked at nothing: %s", error)
            return False
        self.log.info("%s", said(look, self.minimum_files))
        if len(look.ready) < self.minimum_files:
            return False
        event = answer(look, self.maximum_files)
        if "count" in event:
            self._refuse(event["count"])
        return PokeReturnValue(is_done=True, xcom_value=self._found(event["paths"]))

    def _found(self, paths: list[str]) -> list[str]:
        self.log.info("%d files are complete", len(paths))
        return paths

    def _refuse(self, count: int) -> NoReturn:
        raise ConfigurationError(
            f"{count} files are complete; this sensor returns at most {self.maximum_files} (maximum_files), of "
            f"together at most {MOST_BYTES} bytes, because they go through Airflow's database.",
            left="the files as they are",
            next="Narrow pattern, folder or partitions, or raise maximum_files; for a stream of files bring a pipeline "
            "(docs/pipeline.md), whose batches have no such limit.",
        )


class ShareTrigger(BaseTrigger):
    """The wait of a :class:`ShareSensor`: one event, with the paths, their number if they are too many, or why not.

    Args:
        section: The fields of a source section; no secret is among them.
        minimum_files: How many complete files end the wait.
        maximum_files: How many paths the event may hold.
        deadline: Wall clock, seconds.
    """

    def __init__(self, section: dict[str, Any], minimum_files: int, maximum_files: int, deadline: float) -> None:
        super().__init__()
        self.section, self.minimum_files, self.maximum_files = section, minimum_files, maximum_files
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        arguments: dict[str, Any] = {"section": self.section, "minimum_files": self.minimum_files}
        arguments |= {"maximum_files": self.maximum_files, "deadline": self.deadline}
        return "edgeloop_airflow.sensor.ShareTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until enough is complete or the deadline has passed. An unreachable source is asked again."""
        section, policy = section_of(self.section)
        eye: Watch | None = None
        why, pause = "nothing was looked at yet", section.poll_seconds
        while True:
            try:
                source: FileSource = await source_of_async(section)
                eye = eye or Watch(source, policy)
                eye.source, eye.scope = source, scope_today(section)
                look = await asyncio.to_thread(eye.look)
            except ConfigurationError as error:
                yield TriggerEvent({"wrong": {"what": error.what, "left": error.left, "next": error.next}})
                return
            except UnreachableError as error:
                why, pause = str(error), min(LONGEST_PAUSE, pause * 2)
                self.log.warning("Looked at nothing: %s", error)
            else:
                if len(look.ready) >= self.minimum_files:
                    yield TriggerEvent(answer(look, self.maximum_files))
                    return
                if (now := said(look, self.minimum_files)) != why:
                    self.log.info("%s", now)
                why, pause = now, eye.pause()
            left = self.deadline - time.time()
            if left <= 0:
                yield TriggerEvent({"why": why})
                return
            await asyncio.sleep(min(pause, left))


def section_of(fields: dict[str, Any]) -> tuple[Source, Any]:
    """The section and its policy; raises ``ConfigurationError`` naming each argument that will not do."""
    try:
        section = Source(**{**fields, "exclude": tuple(fields["exclude"]), "group": fields["group"] or ANY_GROUP})
    except ValidationError as error:
        found = []
        for one in error.errors():
            context = one.get("ctx") or {}
            name = ".".join(map(str, (*one["loc"], *context.get("at", ()))))
            found.append(f"{name}: {context.get('remedy') or one['msg']}")
        raise _wrong("; ".join(found)) from None
    return section, replace(policy_of(section), group=fields["group"])


def scope_today(section: Source) -> Any:
    """The date folders up to today, or everything."""
    now = datetime.now(UTC)
    return scope_of(section.partitions, now.date().isoformat(), section.look_back_days, now)


def answer(look: Look, most: int) -> dict[str, Any]:
    """What an event says of complete files: their paths, or only how many they are."""
    paths = [one.path for one in look.ready]
    small = len(paths) <= most and len(json.dumps(paths)) <= MOST_BYTES
    return {"paths": paths} if small else {"count": len(paths)}


def said(look: Look, minimum: int) -> str:
    """A look in a sentence."""
    broken = "".join(f"; {one.path}: {one.reason}" for one in look.broken[:10])
    return f"{len(look.ready)} of {minimum} files are complete, {len(look.waiting)} are not{broken}"


def _wrong(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"ShareSensor cannot be used like that: {what}.",
        left="nothing was read",
        next="Correct the argument; docs/operators.md has an example, docs/pipeline.md every field.",
    )
