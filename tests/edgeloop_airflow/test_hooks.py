"""From Airflow connections to endpoints: what is read, what is missing, and that secrets stay where they belong."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.errors import ConfigurationError
from edgeloop_airflow import hooks

if TYPE_CHECKING:
    from edgeloop.azure.blob import BlobAccount

PIPELINES = Path(__file__).resolve().parents[2] / "include" / "pipelines"
SECRET = "c2VjcmV0LWtleQ=="
ACCOUNT = f"DefaultEndpointsProtocol=http;AccountName=hub;AccountKey={SECRET};BlobEndpoint=http://127.0.0.1:9/hub;"
STRONG = "Zb7-vR2q_kW9.xT4h"


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection of each kind, complete."""
    vm = {"key_file": "/keys/vm", "host_key": "ssh-ed25519 AAAA"}
    registry = {"login": "puller", "password": SECRET, "extra": {"insecure": True}}
    for conn_id, fields in {
        "blob1": {"conn_type": "wasb", "extra": {"connection_string": ACCOUNT, "api_version": "2019-02-02"}},
        "vm1": {"conn_type": "edgeloop_ssh", "host": "10.0.0.4", "login": "trainer", "extra": vm},
        "builder1": {"conn_type": "edgeloop_docker", "host": "unix:///run/docker.sock"},
        "reg1": {"conn_type": "edgeloop_registry", "host": "10.0.0.1:5000", **registry},
        "bare": {"conn_type": "generic"},
    }.items():
        _set(monkeypatch, conn_id, fields)


def _set(monkeypatch: pytest.MonkeyPatch, conn_id: str, fields: dict[str, Any]) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


@pytest.mark.usefixtures("connections")
def test_every_kind_becomes_its_endpoint() -> None:
    """Address, login and options arrive where the library reads them; SSH falls back to port 22."""
    assert hooks.blob_account("blob1").api_version == "2019-02-02"
    vm = hooks.ssh_endpoint("vm1")
    assert (vm.connection, vm.host, vm.port, vm.user) == ("vm1", "10.0.0.4", 22, "trainer")
    assert (vm.key_file, vm.host_key) == ("/keys/vm", "ssh-ed25519 AAAA")
    assert hooks.engine_endpoint("builder1").url == "unix:///run/docker.sock"
    registry = hooks.registry_endpoint("reg1")
    assert (registry.url, registry.user, registry.password) == ("http://10.0.0.1:5000", "puller", SECRET)


@pytest.mark.usefixtures("connections")
def test_triggers_read_the_same_as_tasks() -> None:
    """The awaited look-ups give what the blocking ones give."""

    async def read() -> tuple[object, object]:
        return await hooks.ssh_endpoint_async("vm1"), await hooks.blob_account_async("blob1")

    assert asyncio.run(read()) == (hooks.ssh_endpoint("vm1"), hooks.blob_account("blob1"))


@pytest.mark.usefixtures("connections")
@pytest.mark.parametrize(
    ("read", "missing"),
    [
        (hooks.blob_account, "extra.connection_string"),
        (hooks.ssh_endpoint, "host and login"),
        (hooks.engine_endpoint, "unix:///"),
        (hooks.registry_endpoint, "login server"),
    ],
)
def test_an_incomplete_connection_says_what_is_missing(read: Any, missing: str) -> None:
    """The error names the connection, the missing part, and where to put it."""
    with pytest.raises(ConfigurationError) as caught:
        read("bare")
    text = str(caught.value)
    assert all(part in text for part in ("'bare'", missing, "Admin > Connections"))


@pytest.mark.usefixtures("connections")
def test_no_secret_shows_in_the_text_of_an_endpoint() -> None:
    """Endpoints end up in logs and tracebacks; keys and passwords do not."""
    for endpoint in (hooks.blob_account("blob1"), hooks.registry_endpoint("reg1")):
        assert SECRET not in repr(endpoint)
        assert SECRET not in str(endpoint)


def test_a_login_is_read_with_all_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key by text, its passphrase from either place, jump hosts by id; none of the secrets shows."""
    pin = {"host_key": "ssh-ed25519 AAAA"}
    keyed = pin | {"private_key": SECRET, "jump": "gate"}
    _set(monkeypatch, "vm1", {"conn_type": "edgeloop_ssh", "host": "h", "login": "t", "password": "p1", "extra": keyed})
    more = pin | {"key_file": "/k", "private_key_passphrase": "p2"}
    _set(monkeypatch, "gate", {"conn_type": "edgeloop_ssh", "host": "g", "login": "u", "port": 2222, "extra": more})
    vm = hooks.ssh_endpoint("vm1")
    assert (vm.private_key, vm.passphrase, vm.password, vm.by_password) == (SECRET, "p1", "", False)
    assert vm.jump is not None
    assert (vm.jump.connection, vm.jump.port, vm.jump.passphrase) == ("gate", 2222, "p2")
    assert vm.hosts == ("h", "g")
    assert vm.way == "h:22 through connection 'gate'"
    assert vm.login == "ssh -J u@g:2222 -p 22 t@h"
    assert not any(secret in repr(vm) for secret in (SECRET, "p1", "p2"))
    assert asyncio.run(hooks.ssh_endpoint_async("vm1")) == vm


@pytest.mark.parametrize(
    ("jump", "said"),
    [
        ("vm1", "leads back to 'vm1': vm1 > vm1"),
        ("gate", "leads back to 'vm1': vm1 > gate > vm1"),
        ("nothing", "names 'nothing', which is no connection"),
        ("other", "names 'other', which is of type 'ssh' and may not be pinned"),
    ],
)
def test_a_jump_host_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, jump: str, said: str) -> None:
    """Loops of any length, unknown ids and connections without a pin; by tasks and triggers alike."""
    keys = {"host_key": "ssh-ed25519 AAAA", "key_file": "/k"}
    one = {"conn_type": "edgeloop_ssh", "host": "h", "login": "t"}
    _set(monkeypatch, "vm1", one | {"extra": keys | {"jump": jump}})
    _set(monkeypatch, "gate", one | {"extra": keys | {"jump": "vm1"}})
    _set(monkeypatch, "other", one | {"conn_type": "ssh", "extra": keys})
    for read in (hooks.ssh_endpoint, lambda name: asyncio.run(hooks.ssh_endpoint_async(name))):
        with pytest.raises(ConfigurationError, match=re.escape(said)) as caught:
            read("vm1")
        assert "extra.jump" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"extra": {"host_key": "k"}}, "has no private key"),
        ({"password": STRONG, "extra": {"host_key": "k"}}, "passwords are refused"),
        ({"password": STRONG, "extra": {"host_key": "k", "allow_password": "***"}}, "passwords are refused"),
        ({"password": "short", "extra": {"host_key": "k", "allow_password": True}}, "can be guessed: it has 5 char"),
        ({"extra": {"host_key": "k", "key_file": "/k", "private_key": "x"}}, "both extra.key_file and"),
        ({"port": 70000, "extra": {"host_key": "k", "key_file": "/k"}}, "names port 70000"),
        ({"extra": {"key_file": "/k"}}, "pins no host key"),
    ],
)
def test_a_login_that_is_not_safe_is_refused(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], said: str
) -> None:
    """Before anything is connected, by connection and field, without quoting what is secret."""
    _set(monkeypatch, "vm1", {"conn_type": "edgeloop_ssh", "host": "h", "login": "t"} | fields)
    with pytest.raises(ConfigurationError, match=re.escape(said)) as caught:
        hooks.ssh_endpoint("vm1")
    text = str(caught.value)
    assert "'vm1'" in text
    assert "Next:" in text
    assert fields.get("password", "no such word") not in text


def test_a_strong_password_is_taken_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In JSON and as the text that other places write."""
    for allow in (True, "true", "Yes", 1):
        extra = {"host_key": "k", "allow_password": allow}
        _set(
            monkeypatch,
            "vm1",
            {"conn_type": "edgeloop_ssh", "host": "h", "login": "t", "password": STRONG, "extra": extra},
        )
        assert hooks.ssh_endpoint("vm1").by_password


@pytest.mark.usefixtures("pipelines_folder")
def test_an_unknown_pipeline_is_told_with_the_known_ones(pipelines_folder: Path) -> None:
    """A typing error in a pipeline's name shows what can be chosen."""
    shutil.copytree(PIPELINES / "wind_power", pipelines_folder / "wind_power")
    with pytest.raises(ConfigurationError, match="Choose one of: wind_power"):
        hooks.desk("wind_pwoer")


@pytest.mark.system
def test_a_record_is_read_with_the_configuration_it_pinned(
    blob_account: BlobAccount, pipelines_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit of pipeline.yaml in the middle changes nothing for what was claimed before it."""
    home = pipelines_folder / "wind_power"
    shutil.copytree(PIPELINES / "wind_power", home)
    account = {"conn_type": "wasb", "extra": {"connection_string": blob_account.connection_string}}
    _set(monkeypatch, "edgeloop_private", account)
    before = hooks.desk("wind_power")
    pinned = before.snapshot.save(before.blobs)
    spec = home / "pipeline.yaml"
    spec.write_text(spec.read_text("utf-8").replace("tolerance: 51.0", "tolerance: 99.0"), encoding="utf-8")
    now = hooks.desk("wind_power")
    assert now.snapshot.spec.model.tolerance == pytest.approx(99.0)
    assert now.at(pinned).snapshot.spec.model.tolerance == pytest.approx(51.0)
    assert now.at("") is now
    assert asyncio.run(hooks.desk_async("wind_power")).snapshot.digest == now.snapshot.digest


PLAIN = {"conn_type": "edgeloop_registry", "host": "r:5000"}
LOGIN = {"login": "u", "password": SECRET}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"host": "https://r:5000"}, "host is 'https://r:5000': write the name and port alone"),
        ({"login": "u"}, "it has a login but no password"),
        ({"password": "p"}, "it has a password but no login"),
        ({**LOGIN, "extra": {"azure": "azure1"}}, "it has a login and extra.azure"),
        (
            {"extra": {"azure": "azure1", "insecure": True}},
            "it has extra.insecure, which is plain HTTP, and extra.azure",
        ),
        (
            {"extra": {"ca_file": "/ca.pem", "insecure": "true"}},
            "it has extra.insecure, which is plain HTTP, and extra.ca_",
        ),
        ({"extra": {"azure": "nobody"}}, "extra.azure names 'nobody', and there is no such connection"),
    ],
)
def test_a_registry_whose_fields_contradict_each_other_is_refused(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], said: str
) -> None:
    """By name of connection and field, before anything is asked."""
    _set(monkeypatch, "azure1", {"conn_type": "azure", **LOGIN, "extra": {"tenantId": "t"}})
    _set(monkeypatch, "reg2", {**PLAIN, **fields})
    with pytest.raises(ConfigurationError) as caught:
        hooks.registry_endpoint("reg2")
    assert f"Connection 'reg2' cannot be used: {said}" in caught.value.what
    assert SECRET not in str(caught.value)


def test_a_registry_of_azure_is_asked_by_an_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The azure connection's, and no secret of it shows."""
    _set(monkeypatch, "azure1", {"conn_type": "azure", **LOGIN, "extra": {"tenantId": "t"}})
    _set(monkeypatch, "reg2", {**PLAIN, "extra": {"azure": "azure1", "ca_file": "/ca.pem"}})
    found = hooks.registry_endpoint("reg2")
    assert found.identity is not None
    assert (found.identity.connection, found.ca_file, found.url) == ("azure1", "/ca.pem", "https://r:5000")
    assert SECRET not in repr(found)
