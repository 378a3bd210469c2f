"""Testing a connection from the UI: what answers, what does not, and what the person is told to check."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop_airflow.connections import AirflowConnection, DockerConnection, RegistryConnection, SshConnection
from lab.connections import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.site import Site

Define = Callable[..., None]


@pytest.fixture
def define(monkeypatch: pytest.MonkeyPatch) -> Define:
    """Defines an Airflow connection as the lab does: by an environment variable."""

    def _define(conn_id: str, **fields: Any) -> None:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    return _define


@pytest.fixture
def listening() -> Iterator[int]:
    """A port of this machine that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def silent() -> int:
    """A port of this machine that refuses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("name", ["edgeloop_vm", "edgeloop_device_r80711"])
def test_a_machine_that_is_fit_says_so_part_by_part(name: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A VM and a device: address, host key, login, Docker, disk and clock have a sentence each."""
    variable = f"AIRFLOW_CONN_{name.upper()}"
    monkeypatch.setenv(variable, environment(site)[variable])
    good, message = SshConnection(name).test_connection()
    assert good
    sentences = ("answers.", "host key is the pinned one (ssh-ed25519 SHA256:", "logs in with its private key.",
                 "Docker ", "MiB of disk are free.", "Its clock agrees")  # fmt: skip
    places = [message.index(one) for one in sentences]
    assert places == sorted(places)


def test_what_is_wrong_with_a_machine_is_said(
    site: Site, define: Define, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another host key, another user, a full disk, a clock that is off: each names its remedy, the rest is told too."""
    vm = site.vm
    keys = {"key_file": str(vm.key_file), "host_key": vm.host_key}

    def said(**change: Any) -> str:
        extra = keys | {name: change.pop(name) for name in list(change) if name in keys}
        define("vm1", **({"conn_type": "edgeloop_ssh", "host": vm.host, "login": vm.user, "extra": extra} | change))
        good, message = SshConnection("vm1").test_connection()
        assert not good
        return message

    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    assert "shows another host key than connection 'vm1' pins" in said(host_key=(tmp_path / "key.pub").read_text())
    assert "authorized_keys" in said(key_file=str(tmp_path / "key"))
    assert "refused the key of 'nobody'" in said(login="nobody")
    monkeypatch.setattr("edgeloop.training.checkup.MINIMUM_FREE_KIB", 10**12)
    monkeypatch.setattr("edgeloop.training.checkup.CLOCK_SECONDS", -1.0)
    text = said()
    assert "Docker 2" in text
    assert "are the least: remove what is not needed." in text
    assert "let it follow a time server." in text
    monkeypatch.setattr("edgeloop.training.checkup.COMMAND", "DOCKER_HOST=unix:///nowhere docker version >&2")
    text = said()
    assert f"add {vm.user} to the group docker" in text
    assert "unix:///nowhere" in text


def test_a_machine_that_does_not_answer(define: Define, silent: int, tmp_path: Path) -> None:
    """The message names the connection, host and port, and what to check."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    extra = {"key_file": str(tmp_path / "key"), "host_key": (tmp_path / "key.pub").read_text()}
    define("vm1", conn_type="edgeloop_ssh", host="127.0.0.1", port=silent, login="trainer", extra=extra)
    ok, message = SshConnection("vm1").test_connection()
    assert not ok
    assert all(part in message for part in ("vm1", f"127.0.0.1:{silent}", "Check power and network"))


def test_a_machine_without_a_pinned_host_key_is_refused(define: Define, listening: int) -> None:
    """An unpinned login is refused before anything is connected, with the command that fixes it."""
    define("vm1", conn_type="edgeloop_ssh", host="127.0.0.1", port=listening, login="t", extra={"key_file": "/k"})
    ok, message = SshConnection("vm1").test_connection()
    assert not ok
    assert f"ssh-keyscan -t ed25519 -p {listening} 127.0.0.1" in message


def test_a_machine_without_a_key_is_refused(define: Define, listening: int) -> None:
    """Passwords are no way in."""
    define("vm1", conn_type="edgeloop_ssh", host="127.0.0.1", port=listening, login="t", extra={"host_key": "x"})
    ok, message = SshConnection("vm1").test_connection()
    assert not ok
    assert "key_file" in message


def test_an_engine_that_is_not_there(define: Define, tmp_path: Path) -> None:
    """A missing engine socket is an answer, not a traceback, and names the connection."""
    define("builder1", conn_type="edgeloop_docker", host=f"unix://{tmp_path}/no.sock")
    ok, message = DockerConnection("builder1").test_connection()
    assert not ok
    assert "builder1" in message


def test_an_engine_without_an_address(define: Define) -> None:
    """An empty host says what belongs there."""
    define("builder1", conn_type="edgeloop_docker")
    ok, message = DockerConnection("builder1").test_connection()
    assert not ok
    assert "unix:///" in message


@pytest.mark.parametrize(("status", "good"), [(200, True), (401, False), (403, False)])
def test_a_registry_that_answers(define: Define, status: int, good: bool) -> None:
    """One that lets nobody in is no good connection, and is told from one that is silent."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        define("reg1", conn_type="edgeloop_registry", host=host, extra={"insecure": True})
        found, message = RegistryConnection("reg1").test_connection()
        server.shutdown()
    assert found == good
    assert good or "did not let connection 'reg1' in" in message or "may not do that" in message


def test_a_registry_that_does_not_answer(define: Define, silent: int) -> None:
    """The message names the connection and the address."""
    define("reg1", conn_type="edgeloop_registry", host=f"127.0.0.1:{silent}", extra={"insecure": True})
    ok, message = RegistryConnection("reg1").test_connection()
    assert not ok
    assert "reg1" in message
    assert f"127.0.0.1:{silent}" in message


def test_an_airflow_without_address_or_login(define: Define) -> None:
    """The message says what belongs there."""
    define("af1", conn_type="edgeloop_airflow", host="http://127.0.0.1")
    ok, message = AirflowConnection("af1").test_connection()
    assert (ok, message.splitlines()[0]) == (False, "Connection 'af1' lacks the password of a user with role op.")
    define("af1", conn_type="edgeloop_airflow", password="x")
    assert "Connection 'af1' lacks its host." in AirflowConnection("af1").test_connection()[1]


def test_an_airflow_whose_host_holds_the_port(define: Define, silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As people write it; another port behind it was an address that no library took, told as httpx tells it."""
    monkeypatch.setattr("edgeloop_airflow.connections.CONNECT_SECONDS", 0.1)
    define("af1", conn_type="edgeloop_airflow", host=f"127.0.0.1:{silent}", login="oncall", password="x")
    ok, message = AirflowConnection("af1").test_connection()
    assert not ok
    assert f"http://127.0.0.1:{silent} (connection 'af1') did not answer" in message


def test_an_airflow_that_does_not_answer(define: Define, silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within its time-out, by name, with what to check."""
    monkeypatch.setattr("edgeloop_airflow.connections.CONNECT_SECONDS", 0.1)
    define("af1", conn_type="edgeloop_airflow", host="127.0.0.1", port=silent, login="oncall", password="x")
    ok, message = AirflowConnection("af1").test_connection()
    assert not ok
    assert f"http://127.0.0.1:{silent} (connection 'af1') did not answer" in message
    assert "api-server" in message
