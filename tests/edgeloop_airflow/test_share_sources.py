"""From a source section and a connection to where the files are, and what is said when they do not fit."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.errors import ConfigurationError
from edgeloop.pipeline import Source
from edgeloop.share import Folder
from edgeloop_airflow.sources import source_of, source_of_async

if TYPE_CHECKING:
    from pathlib import Path

    from edgeloop.azure.blob import BlobAccount
    from edgeloop.share.source import FileSource
    from lab.site import Site

SMB = {"conn_type": "samba", "host": "h", "login": "u", "password": "p", "schema": "s"}


@pytest.fixture(params=[source_of, lambda one: asyncio.run(source_of_async(one))], ids=["task", "trigger"])
def resolve(request: pytest.FixtureRequest) -> Any:
    """Both ways to resolve a section."""
    return request.param


def section(**more: Any) -> Source:
    """A section on connection plant."""
    return Source(**{"connection": "plant", "group": r"_(\d+)\.", **more})


def connect(monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]) -> None:
    """Make connection plant."""
    monkeypatch.setenv("AIRFLOW_CONN_PLANT", json.dumps(body))


def test_a_folder(resolve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An fs connection and the section's own fields."""
    connect(monkeypatch, {"conn_type": "fs", "extra": {"path": str(tmp_path)}})
    found = resolve(section(folder="in", pattern="*.txt", exclude=["x*"]))
    assert found == Folder(connection="plant", root=tmp_path, below="in", pattern="*.txt", exclude=("x*",))


def test_a_real_smb_share(resolve: Any, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A samba connection with host, port, login, password, and the share as its schema."""
    name = f"sources-{uuid.uuid4().hex[:12]}"
    (site.share.path / name).mkdir()
    (site.share.path / name / "a.csv").write_text("x")
    share = site.share
    body = {"conn_type": "samba", "host": share.host, "port": share.port, "login": share.user, "schema": share.share}
    connect(monkeypatch, {**body, "password": share.password})
    found: FileSource = resolve(section(kind="smb", folder=name))
    assert [one.path for one in found.scan()] == ["a.csv"]
    assert share.password not in repr(found)


@pytest.mark.parametrize(("extra", "encrypt"), [({}, True), ({"encrypt": False}, False), ({"encrypt": "false"}, False)])
def test_smb_is_encrypted_unless_the_connection_says_otherwise(
    resolve: Any, monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], *, encrypt: bool
) -> None:
    """A server that cannot encrypt is taken only on request; the port is SMB's own where none is given."""
    connect(monkeypatch, SMB | {"extra": extra})
    found = resolve(section(kind="smb"))
    assert (found.encrypt, found.port) == (encrypt, 445)
    connect(monkeypatch, SMB | {"port": 1445, "schema": "/s/"})
    other = resolve(section(kind="smb"))
    assert (other.port, other.share) == (1445, "s")


def test_a_real_container(resolve: Any, blob_account: BlobAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wasb connection; the folder is the container and a prefix."""
    connect(monkeypatch, {"conn_type": "wasb", "extra": {"connection_string": blob_account.connection_string}})
    name = f"sources-{uuid.uuid4().hex[:12]}"
    for blob in ("deep/in/a.csv", "deep/inner.csv", "b.csv"):
        blob_account.container(name).put(blob, b"x")
    assert [one.path for one in resolve(section(kind="blob", folder=f"/{name}/deep/in/")).scan()] == ["a.csv"]
    assert [one.path for one in resolve(section(kind="blob", folder=name)).scan()] == [
        "b.csv",
        "deep/in/a.csv",
        "deep/inner.csv",
    ]


@pytest.mark.parametrize(("preset", "version"), [("stack_edge", "2019-02-02"), ("azure", "")])
def test_a_blob_source_speaks_as_its_preset_says(
    resolve: Any, blob_account: BlobAccount, monkeypatch: pytest.MonkeyPatch, preset: str, version: str
) -> None:
    """Files arrive on a Stack Edge too, which knows no newer requests."""
    connect(monkeypatch, {"conn_type": "wasb", "extra": {"connection_string": blob_account.connection_string}})
    found = resolve(section(kind="blob", folder="landing", preset=preset))
    assert found.container.features.api_version == version


@pytest.mark.parametrize("kind", ["folder", "smb", "blob"])
def test_another_type_of_connection_is_refused(resolve: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """It is told which type is needed, which it is, and where to change either."""
    connect(monkeypatch, {"conn_type": "http", "host": "h"})
    wanted = {"folder": "fs", "smb": "samba", "blob": "wasb"}[kind]
    with pytest.raises(ConfigurationError, match=f"type '{wanted}'; 'plant' is of type 'http'") as raised:
        resolve(section(kind=kind, folder="landing"))
    assert "source.kind or source.connection" in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "body", "missing"),
    [
        ("folder", {"conn_type": "fs"}, "extra.path"),
        ("smb", SMB | {"host": ""}, "host"),
        ("smb", SMB | {"login": ""}, "login"),
        ("smb", SMB | {"password": ""}, "password"),
        ("smb", SMB | {"schema": ""}, r"schema \(the share\)"),
        ("smb", {"conn_type": "samba"}, r"host and login and password and schema \(the share\)"),
        ("blob", {"conn_type": "wasb"}, "connection_string"),
    ],
)
def test_a_missing_field_is_named(
    resolve: Any, monkeypatch: pytest.MonkeyPatch, kind: str, body: dict[str, Any], missing: str
) -> None:
    """Each with its connection and what to type."""
    connect(monkeypatch, body)
    with pytest.raises(ConfigurationError, match=f"'plant'.*{missing}") as raised:
        resolve(section(kind=kind, folder="landing"))
    assert "airflow connections delete plant" in str(raised.value) or "plant" in raised.value.next
