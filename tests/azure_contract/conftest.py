"""Azure's control plane for these tests: the contract server beside the checkout, spoken with by the real SDKs.

It is found by AZURE_CONTRACT_DIR, else in ``shared/azure-contract`` beside the checkout; where it is not, these tests
are skipped. One server serves all tests of a run, or the one that HTTPS_PROXY already leads to. Every test starts from
an empty Azure, and ends by asking whether each of its requests conformed to Microsoft's specification of exactly the
api-version that was sent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.azure_contract import task_spec
from tests.azure_contract.mlflow import Mlflow
from tests.edgeloop_airflow.conftest import floor  # noqa: F401 - a fixture of the operators' tests here too

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.edgeloop_airflow.conftest import Floor

    from edgeloop.azure_ml.workspace import WorkspaceEndpoint
    from edgeloop_airflow.hooks import Desk
    from lab.site import Site

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
TENANT = "22222222-2222-2222-2222-222222222222"
GROUP, WORKSPACE = "edge-rg", "edge-ws"
WORKSPACE_ID = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    f"/providers/Microsoft.MachineLearningServices/workspaces/{WORKSPACE}"
)
CHECKOUT = Path(__file__).resolve().parents[2]
SLEEP = 0.02


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for the contract server carries its marker."""
    for item in items:
        if {"azure", "contract_server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.azure_contract)


def contract_folder() -> Path:
    """The folder with the contract server; it need not be there."""
    named = os.environ.get("AZURE_CONTRACT_DIR")
    return Path(named) if named else CHECKOUT.parent / "shared" / "azure-contract"


@dataclass(slots=True)
class Azure:
    """The contract server's control calls, and what it saw."""

    url: str
    ca: str
    pinned: Path
    """Where the requests of all tests are kept, for one verdict of the server's own at the end."""
    workspace_id: str = WORKSPACE_ID
    fallbacks: bool = False
    """Set by a test that knowingly sends an api-version whose OpenAPI file is not there."""
    slept: list[float] = field(default_factory=list)
    """How long anybody in this process wanted to wait; it waited SLEEP at most."""

    def control(self, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One control call: reset, config, seed, log, summary or state."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/__contract__/{what}", data=data, method="POST" if data else "GET")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as reply:
            found = json.load(reply)
        return found if isinstance(found, dict) else {"entries": found}

    def config(self, **values: Any) -> None:
        """Set fields of the server's configuration."""
        self.control("config", values)

    def faults(self, *faults: dict[str, Any]) -> None:
        """Answer requests that match with something else: ``match``, ``status``, ``times``, ``headers``, ``body``."""
        self.control("config", {"faults": list(faults)})

    def seed(self, **values: Any) -> None:
        """Put resources (``arm``), devices or blobs there."""
        self.control("seed", values)

    def state(self) -> dict[str, Any]:
        """All ARM resources, by their lower-case id."""
        found = self.control("state")["arm"]
        assert isinstance(found, dict)
        return found

    def resource(self, path: str) -> dict[str, Any]:
        """One resource by its id or by its path below the workspace."""
        whole = path if path.startswith("/") else f"{self.workspace_id}/{path}"
        found = self.state()[whole.lower()]
        assert isinstance(found, dict)
        return found

    def log(self, method: str = "", part: str = "") -> list[dict[str, Any]]:
        """The requests so far, those of one method and with ``part`` in their path."""
        entries = self.control("log")["entries"]
        return [one for one in entries if method in {"", one["method"]} and part in one["path"]]

    def require_conforming(self) -> None:
        """Every request was valid and, unless the test says otherwise, of a version whose OpenAPI file is there."""
        summary = self.control("summary")
        assert summary["invalid"] == []
        assert self.fallbacks or summary["fallback_spec_only"] == 0, summary["operations"]
        if not self.fallbacks:
            with self.pinned.open("a") as kept:
                kept.writelines(f"{json.dumps(one)}\n" for one in self.log())


def _running() -> str:
    """The contract server that HTTPS_PROXY leads to already, or ""."""
    proxy = os.environ.get("HTTPS_PROXY", "")
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{proxy}/__contract__/summary", timeout=5) as reply:
            return proxy if "fallback_spec_only" in json.load(reply) else ""
    except (OSError, ValueError):
        return ""


@pytest.fixture(scope="session")
def contract_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    """A contract server for this run; at its end the server's own verdict on all requests must be good."""
    folder = contract_folder()
    script = folder / "azure_contract_server.py"
    if not script.is_file():
        pytest.skip(f"the Azure contract server is not in {folder}; name its folder with AZURE_CONTRACT_DIR")
    pinned = tmp_path_factory.mktemp("pinned") / "requests.jsonl"
    pinned.touch()
    if running := _running():
        yield Azure(url=running, ca=os.environ["REQUESTS_CA_BUNDLE"], pinned=pinned)
    else:
        run = tmp_path_factory.mktemp("contract")
        # The folder may be read-only, and Python would otherwise try to write bytecode beside the server.
        server = subprocess.Popen(
            [sys.executable, "-B", str(script), "--port", "0", "--dir", str(run)],
            env={**os.environ, "AZ_SPEC_ROOT": str(task_spec.overlay(folder / "specs", run / "specs"))},
            stdout=subprocess.PIPE,
            stderr=(run / "stderr").open("w"),
            text=True,
        )
        try:
            assert server.stdout is not None
            ready = server.stdout.readline()
            assert ready.startswith("READY "), (run / "stderr").read_text()
            yield Azure(url=ready.split()[1], ca=str(run / "ca.pem"), pinned=pinned)
        finally:
            server.terminate()
            server.wait(timeout=30)
    verdict = subprocess.run(
        [sys.executable, "-B", str(script), "--summary", str(pinned.parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verdict.returncode == 0, verdict.stdout
    assert json.loads(verdict.stdout)["fallback_spec_only"] == 0


@pytest.fixture
def azure(contract_server: Azure, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    """An empty Azure that this test's SDKs and requests reach under its real host names."""
    contract_server.control("reset", {})
    contract_server.fallbacks = False
    contract_server.slept.clear()
    really = time.sleep

    def capped(seconds: float) -> None:
        contract_server.slept.append(seconds)
        really(min(seconds, SLEEP))

    # The server asks for a second between two looks at an operation, and the SDKs wait as long by themselves.
    monkeypatch.setattr(time, "sleep", capped)
    for name, value in {
        "HTTPS_PROXY": contract_server.url,
        "NO_PROXY": "127.0.0.1,localhost",
        "REQUESTS_CA_BUNDLE": contract_server.ca,
        "SSL_CERT_FILE": contract_server.ca,
    }.items():
        monkeypatch.setenv(name, value)
    connection = {
        "conn_type": "azure",
        "login": "33333333-3333-3333-3333-333333333333",
        "password": "a secret",
        "extra": {"tenantId": TENANT, "subscriptionId": SUBSCRIPTION},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AZURE_DEFAULT", json.dumps(connection))
    yield contract_server
    contract_server.require_conforming()


@pytest.fixture
def workspace(azure: Azure) -> WorkspaceEndpoint:
    """The workspace edge-ws, asked by a service principal."""
    from edgeloop.azure_ml.identity import Identity
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

    identity = Identity.of("azure_default", "33333333-3333-3333-3333-333333333333", "a secret", {"tenantId": TENANT})
    return WorkspaceEndpoint(identity=identity, subscription=SUBSCRIPTION, resource_group=GROUP, workspace=WORKSPACE)


@pytest.fixture
def mlflow(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> Mlflow:
    """The workspace's tracking, which remembers what it is told."""
    fake = Mlflow()
    fake.install(monkeypatch)
    return fake


@pytest.fixture
def bench(floor: Floor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:  # noqa: F811 - it is that fixture
    """The tiny pipeline with a workspace, a VM's connection and a dataset; the desk that its tasks work with."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from tests.azure_contract.bench import SECTION

    key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    (tmp_path / "key").write_bytes(key)
    extra = {"key_file": str(tmp_path / "key"), "host_key": "ssh-ed25519 AAAA"}
    vm = {"conn_type": "edgeloop_ssh", "host": "10.0.0.7", "port": 2222, "login": "trainer", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_VM", json.dumps(vm))
    path = floor.home / "pipeline.yaml"
    path.write_text(path.read_text() + SECTION)
    return floor.desk()


@pytest.fixture
def mirrored(
    azure: Azure,
    floor: Floor,  # noqa: F811 - it is that fixture
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    """The tiny pipeline, which is on_premises, with a workspace that mirrors its models and a container registry."""
    from tests.azure_contract.bench import REGISTRY_SECTION, SECTION

    path = floor.home / "pipeline.yaml"
    path.write_text(path.read_text() + SECTION + REGISTRY_SECTION)
    told = {"conn_type": "edgeloop_registry", "host": site.registry.host, "extra": {"insecure": True}}
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_REGISTRY", json.dumps(told))
    return floor.desk()
