"""The plain sensor, on a real folder and a real container, with and without a trigger."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, PokeReturnValue
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException, TaskDeferred

from edgeloop.errors import ConfigurationError
from edgeloop.share import Folder
from edgeloop_airflow import sensor
from edgeloop_airflow.sensor import ShareSensor, ShareTrigger

if TYPE_CHECKING:
    from pathlib import Path

    from edgeloop.azure.blob import BlobAccount

QUICK = {"quiet_seconds": 0.1, "poll_seconds": 0.05}


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder behind connection plant_share."""
    folder = tmp_path / "share"
    folder.mkdir()
    connection = {"conn_type": "fs", "extra": {"path": str(folder)}}
    monkeypatch.setenv("AIRFLOW_CONN_PLANT_SHARE", json.dumps(connection))
    return folder


def made(**more: Any) -> ShareSensor:
    """A sensor on the share that does not wait long."""
    arguments = {"task_id": "wait", "connection": "plant_share", "timeout": 20.0, "poke_interval": 0.05, **QUICK}
    return ShareSensor(**{**arguments, **more})


def trigger_of(one: ShareSensor) -> ShareTrigger:
    """The trigger that a deferring sensor starts, as the triggerer rebuilds it."""
    with pytest.raises(TaskDeferred) as deferred:
        one.execute({})  # type: ignore[arg-type]
    path, arguments = deferred.value.trigger.serialize()
    assert path == "edgeloop_airflow.sensor.ShareTrigger"
    json.dumps(arguments)
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.timeout is not None
    return ShareTrigger(**arguments)


def event_of(trigger: ShareTrigger) -> dict[str, Any]:
    """Its one event."""

    async def go() -> list[Any]:
        return [one.payload async for one in trigger.run()]

    (payload,) = asyncio.run(asyncio.wait_for(go(), 30))
    json.dumps(payload)
    return dict(payload)


def result(one: ShareSensor) -> Any:
    """What the task returns or raises, whichever way it waits."""
    if one.deferrable:
        return one.execute_complete({}, event_of(trigger_of(one)))  # type: ignore[arg-type]
    return one.execute({})  # type: ignore[arg-type]


@pytest.mark.parametrize("deferrable", [True, False])
def test_it_returns_the_complete_files(share: Path, *, deferrable: bool) -> None:
    """Sorted paths of what matches, by the same look in the triggerer and in a worker; excluded names do not count."""
    (share / "in").mkdir()
    for name in ("b.csv", "a.csv", "c.csv.part", "d.txt"):
        (share / "in" / name).write_text("x")
    assert result(made(folder="in", minimum_files=2, deferrable=deferrable)) == ["a.csv", "b.csv"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_it_waits_for_as_many_files_as_asked(share: Path, *, deferrable: bool) -> None:
    """One file of two is not enough; the second ends the wait."""
    (share / "a.csv").write_text("x")
    looked, scans = threading.Event(), Folder.listing

    def told(self: Folder, *more: Any) -> Any:
        found = scans(self, *more)
        looked.set()
        return found

    def later() -> None:
        assert looked.wait(20)
        (share / "b.csv").write_text("x")

    thread = threading.Thread(target=later)
    thread.start()
    one = made(minimum_files=2, deferrable=deferrable)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "listing", told)
        got = result(one)
    thread.join()
    assert got == ["a.csv", "b.csv"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_sentinel_completes_its_group(share: Path, *, deferrable: bool) -> None:
    """The arguments of complete, marker and group mean what they mean in pipeline.yaml."""
    for name in ("x_1.csv", "x_2.csv", "_1.done"):
        (share / name).write_text("")
    one = made(complete="sentinel", marker="*.done", group=r"_(\d)\.", deferrable=deferrable)
    got = result(one)
    assert got == ["x_1.csv"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_sentinel_without_groups_completes_its_folder(share: Path, *, deferrable: bool) -> None:
    """Whatever its name; and as many files as are allowed are not too many."""
    for name in ("x_1.csv", "x_2.csv", "all.done"):
        (share / name).write_text("")
    one = made(complete="sentinel", marker="*.done", maximum_files=2, deferrable=deferrable)
    assert result(one) == ["x_1.csv", "x_2.csv"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_only_recent_date_folders_are_looked_into(share: Path, *, deferrable: bool) -> None:
    """The arguments partitions and look_back_days mean what they mean in pipeline.yaml."""
    today = f"{datetime.now(UTC):%Y/%m/%d}"
    for folder in ("2014/01/05", today):
        (share / folder).mkdir(parents=True)
        (share / folder / "a.csv").write_text("x")
    assert result(made(partitions="%Y/%m/%d", deferrable=deferrable)) == [f"{today}/a.csv"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_deadline_is_kept(share: Path, *, deferrable: bool) -> None:
    """A sensor that waited long enough fails, and says what it saw in the meantime."""
    (share / "a.csv").write_text("x")
    one = made(minimum_files=2, timeout=0.3, deferrable=deferrable)
    if not deferrable:
        with pytest.raises(AirflowSensorTimeout):
            one.execute({})  # type: ignore[arg-type]
        return
    event = event_of(trigger_of(one))
    with pytest.raises(AirflowSensorTimeout, match=r"Not complete within 0\.3 s: 1 of 2 files are complete"):
        one.resume_execution("execute_complete", {"event": event}, {})  # type: ignore[arg-type]
    with pytest.raises(AirflowSkipException):
        made(timeout=0.3, soft_fail=True).resume_execution("execute_complete", {"event": event}, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("deferrable", [True, False])
def test_too_many_paths_are_refused_by_number(share: Path, *, deferrable: bool) -> None:
    """Airflow's database is no place for a listing; the refusal names the limit and the way on."""
    for number in range(4):
        (share / f"{number}.csv").write_text("x")
        os.utime(share / f"{number}.csv", (1_600_000_000, 1_600_000_000))
    one = made(maximum_files=3, minimum_files=2, deferrable=deferrable)
    with pytest.raises(ConfigurationError, match=r"4 files are complete; .* at most 3 \(maximum_files\)"):
        result(one)


def test_long_paths_are_refused_too(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few files with long names are as large as many."""
    monkeypatch.setattr(sensor, "MOST_BYTES", 100)
    (share / f"{'x' * 100}.csv").write_text("x")
    assert event_of(trigger_of(made(deferrable=True))) == {"count": 1}


@pytest.mark.fault
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_share_that_is_away_is_waited_for(share: Path, *, deferrable: bool) -> None:
    """It is asked again until the deadline; a share that comes back ends the wait."""
    away, scans = share.with_name("away"), Folder.listing
    (share / "a.csv").write_text("x")
    share.rename(away)

    def back(self: Folder, *more: Any) -> Any:
        try:
            return scans(self, *more)
        finally:
            if away.exists():
                away.rename(share)

    one = made(deferrable=deferrable)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "listing", back)
        got = result(one)
    assert got == ["a.csv"]


@pytest.mark.fault
def test_the_deadline_says_which_share_was_away(share: Path) -> None:
    """What nobody could look at is told by its connection when the time is over."""
    share.rmdir()
    event = event_of(trigger_of(made(deferrable=True, timeout=0.2)))
    assert "'plant_share' is not there" in event["why"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_connection_of_another_type_is_refused_at_once(
    share: Path, monkeypatch: pytest.MonkeyPatch, *, deferrable: bool
) -> None:
    """It would never become right by waiting."""
    monkeypatch.setenv("AIRFLOW_CONN_PLANT_SHARE", json.dumps({"conn_type": "sftp"}))
    one = made(deferrable=deferrable)
    with pytest.raises(ConfigurationError, match="needs a connection of type 'fs'; 'plant_share' is of type 'sftp'"):
        result(one)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"kind": "ftp"}, "kind: Input should be 'folder', 'smb' or 'blob'"),
        ({"kind": "blob"}, "folder: with kind: blob begins with the container"),
        ({"complete": "manifest"}, "marker: is missing"),
        ({"polls": 1}, "polls: Input should be greater than or equal to 2"),
        ({"group": "(a)(b)"}, "group: must hold exactly one"),
        ({"partitions": "%Y"}, "partitions: must hold %Y, %m and %d"),
        ({"minimum_files": 0}, "minimum_files is 0"),
        ({"minimum_files": 9, "maximum_files": 3}, "minimum_files is 9 and maximum_files 3"),
    ],
)
def test_arguments_that_will_not_do_are_named(share: Path, arguments: dict[str, Any], said: str) -> None:
    """Each is told by its name, before anything is looked at, and with where to read on."""
    with pytest.raises(ConfigurationError, match="ShareSensor cannot be used like that") as raised:
        made(**arguments).execute({})  # type: ignore[arg-type]
    assert said in str(raised.value)
    assert "docs/operators.md" in str(raised.value)


def test_a_worker_that_pokes_looks_until_files_settle(share: Path) -> None:
    """One poke is enough for a file that rests, so that mode="reschedule", which forgets, works too."""
    (share / "a.csv").write_text("x")
    poked = made(mode="reschedule").poke({})  # type: ignore[arg-type]
    assert isinstance(poked, PokeReturnValue)
    assert poked.xcom_value == ["a.csv"]


def test_it_stands_in_a_dag_with_templates(share: Path) -> None:
    """Folders and patterns may be templates."""
    with DAG("somebodys_own", schedule=None) as dag:
        made(folder="{{ params.folder }}", pattern="{{ params.glob }}")
    task = dag.get_task("wait")
    task.render_template_fields({"params": {"folder": "in", "glob": "*.parquet"}})
    assert (task.folder, task.pattern) == ("in", "*.parquet")


def test_a_container_is_watched_alike(blob_account: BlobAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blob kind needs a wasb connection and no pipeline."""
    extra = {"connection_string": blob_account.connection_string}
    monkeypatch.setenv("AIRFLOW_CONN_LANDING", json.dumps({"conn_type": "wasb", "extra": extra}))
    name = f"landing-{uuid.uuid4().hex[:12]}"
    container = blob_account.container(name)
    container.put("plant/a.csv", b"x")
    container.put("other/b.csv", b"x")
    one = made(connection="landing", kind="blob", folder=f"{name}/plant", deferrable=True)
    assert event_of(trigger_of(one)) == {"paths": ["a.csv"]}
