"""Where a connection leads to is judged at run: by name, by what DNS makes of it, and by address."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from tests.edgeloop.test_residency import AZURE_ML, TINY, spec

from edgeloop.azure.blob import BlobAccount, BlobContainer
from edgeloop.catalog import SPEC, SUITE, Snapshot
from edgeloop.drift.interval import Bench
from edgeloop.errors import ResidencyError
from edgeloop.packaging.golden import Golden, draw
from edgeloop.records import Batch
from edgeloop.residency_guard import (
    Resolved,
    require_configuration,
    require_hosts,
    require_local_logs,
    require_private,
    resolve,
)
from edgeloop.residency_outputs import require_figures, require_synthetic
from edgeloop.share import Folder
from edgeloop.store import Store
from edgeloop.validation import Certification

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "AccountName=acct;AccountKey=c2VjcmV0LWtleQ=="


def container(endpoint: str) -> BlobContainer:
    """A container of an account whose connection string says this of its endpoints."""
    return BlobAccount(connection="edgeloop_private", connection_string=f"{KEY};{endpoint}").container("tiny-power")


def nowhere(host: str) -> Resolved:
    """DNS that knows nothing."""
    del host
    return Resolved()


PUBLIC = {
    "the default of a connection string": "DefaultEndpointsProtocol=https",
    "the suffix": "EndpointSuffix=core.windows.net",
    "China's cloud": "EndpointSuffix=core.chinacloudapi.cn",
    "the government's cloud": "EndpointSuffix=core.usgovcloudapi.net",
    "a blob endpoint": "BlobEndpoint=https://acct.blob.core.windows.net",
    "a private link": "BlobEndpoint=https://acct.privatelink.blob.core.windows.net",
    "a DNS zone": "BlobEndpoint=https://acct.z07.blob.storage.azure.net",
    "a secondary endpoint only": "BlobEndpoint=http://10.0.0.9/acct;BlobSecondaryEndpoint=https://acct.blob.core.windows.net",
    "capitals and a last dot": "BlobEndpoint=https://ACCT.Blob.Core.Windows.NET./",
    "another full stop": "BlobEndpoint=https://acct.blob.core.windows\u3002net",
    "a port and a path": "BlobEndpoint=https://acct.blob.core.windows.net:443/acct",
    "a user in front": "BlobEndpoint=https://10.0.0.9@acct.blob.core.windows.net/",
    "an address of the internet": "BlobEndpoint=https://20.60.1.2/acct",
    "an address of the internet, version 6": "BlobEndpoint=https://[2603:1030::1]/acct",
    "an address in disguise": "BlobEndpoint=https://[::ffff:20.60.1.2]/acct",
}
AT_HOME = {
    "the lab": "BlobEndpoint=http://10.77.0.1:10000/acct",
    "an address of one's own, version 6": "BlobEndpoint=http://[fd00::7]:10000/acct",
    "Azure Stack Hub": "EndpointSuffix=local.azurestack.external",
    "Azure Stack Hub by name": "BlobEndpoint=https://acct.blob.east.stack.example",
    "a name that only looks alike": "BlobEndpoint=https://acct.blob.core.windows.net.plant.example",
}


@pytest.mark.parametrize("endpoint", PUBLIC.values(), ids=PUBLIC)
def test_a_public_endpoint_is_refused_however_it_is_written(endpoint: str) -> None:
    """The error names pipeline and connection, says that nothing was sent and what to type, and shows no key."""
    with pytest.raises(ResidencyError) as caught:
        require_private(spec(), container(endpoint), resolver=nowhere)
    text = str(caught.value)
    told = ("tiny_power", "'edgeloop_private'", "nothing was sent", "airflow connections get edgeloop_private")
    assert all(one in text for one in told), text
    assert "c2VjcmV0" not in text


@pytest.mark.parametrize("endpoint", AT_HOME.values(), ids=AT_HOME)
def test_an_endpoint_at_the_site_is_taken(endpoint: str) -> None:
    """The secondary that the SDK makes up for an unknown endpoint is never asked, so it does not count."""
    require_private(spec(), container(endpoint), resolver=nowhere)


def test_a_cloud_pipeline_goes_anywhere() -> None:
    """Its data may leave."""
    away = spec(residency="cloud", storage__preset="azure")
    require_private(away, container("EndpointSuffix=core.windows.net"), resolver=resolve)


def test_a_name_of_ones_own_for_a_cloud_account_is_seen_through() -> None:
    """A custom domain is an alias in DNS; a private-looking name may also have a public address."""

    def alias(host: str) -> Resolved:
        assert host == "blobs.plant.example"
        return Resolved(name="blob.ams07prdstr01a.store.core.windows.net", addresses=("10.1.2.3",))

    with pytest.raises(ResidencyError, match=r"only another name of blob\.ams07prdstr01a\.store\.core\.windows\.net"):
        require_private(spec(), container("BlobEndpoint=https://blobs.plant.example"), resolver=alias)
    wide = Resolved(name="blobs.plant.example", addresses=("10.1.2.3", "20.60.1.2"))
    with pytest.raises(ResidencyError, match=r"address of the public internet \(20.60.1.2\)"):
        require_private(spec(), container("BlobEndpoint=https://blobs.plant.example"), resolver=lambda _: wide)


def test_a_public_address_may_be_vouched_for_a_public_cloud_may_not() -> None:
    """Azure Stack Hub may answer on an address of the internet; core.windows.net is never at the site."""
    vouched = spec(residency_permits=["public_address"])
    require_private(vouched, container("BlobEndpoint=https://20.60.1.2/acct"), resolver=nowhere)
    with pytest.raises(ResidencyError, match=r"public cloud \(windows.net\)"):
        require_private(vouched, container("EndpointSuffix=core.windows.net"), resolver=nowhere)


def test_dns_is_asked_for_addresses() -> None:
    """The real resolver: a name of this machine, and one that nobody has."""
    assert resolve("localhost").addresses
    assert resolve("no-such-host.invalid") == Resolved()


def test_rows_are_neither_certified_nor_judged_into_a_public_account() -> None:
    """The library asks, too, for whoever uses it without a desk; the second of two containers counts as the first."""
    away, home = container("EndpointSuffix=core.windows.net"), container("BlobEndpoint=http://10.0.0.9/acct")
    files = {name: (TINY.parent / name).read_text(encoding="utf-8") for name in (SPEC, SUITE)}
    snapshot = Snapshot(spec=spec(), files=tuple(files.items()))
    batch = Batch(pipeline="tiny_power", group="g", files=(), config="", claimed_at="")
    share = Folder(connection="edgeloop_share", root=TINY.parent, below="", pattern="*.csv")
    Certification(batch, snapshot, share, home)
    with pytest.raises(ResidencyError, match="nothing was sent"):
        Certification(batch, snapshot, share, away)
    Bench(spec=spec(), store=Store(home), blobs=home, predictions=home)
    for blobs, predictions in ((away, home), (home, away)):
        with pytest.raises(ResidencyError, match="nothing was sent"):
            Bench(spec=spec(), store=Store(home), blobs=blobs, predictions=predictions)


def test_a_training_vm_in_the_cloud_is_refused() -> None:
    """Data is staged on it, so it counts like the account."""
    with pytest.raises(ResidencyError, match=r"Training data of pipeline tiny_power.*'edgeloop_vm'"):
        require_hosts(
            spec(), "edgeloop_vm", ("VM.WestEurope.CloudApp.Azure.com",), what="training data", resolver=nowhere
        )


@pytest.mark.parametrize(
    "changes",
    [{"storage__preset": "azure"}, AZURE_ML, {"source__kind": "blob"}],
)
def test_what_is_refused_at_load_is_refused_again_at_run(changes: dict[str, Any]) -> None:
    """A configuration that came another way than through a checked file is refused all the same."""
    with pytest.raises(ResidencyError, match="nothing was sent"):
        require_configuration(spec(**changes))
    require_configuration(spec())


def test_logs_that_leave_need_a_permit() -> None:
    """Task logs hold train.py's own words; sent elsewhere they are refused unless somebody answered for it."""
    require_local_logs(spec(), remote="")
    with pytest.raises(ResidencyError, match=r"wasb://logs.*\n.*nothing was started.*\n.*\[remote_logs\]"):
        require_local_logs(spec(), remote="wasb://logs")
    require_local_logs(spec(residency_permits=["remote_logs"]), remote="wasb://logs")
    require_local_logs(spec(residency="cloud"), remote="wasb://logs")


class _Elsewhere(BaseHTTPRequestHandler):
    """Answers every request with: ask over there."""

    there: str
    got: list[bytes]

    def answer(self) -> None:
        self.got.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        self.send_response(307)
        self.send_header("Location", self.there + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def servers() -> Iterator[tuple[str, list[bytes], list[bytes]]]:
    """A server that redirects to another one, and what either was sent."""
    started = []
    for _ in range(2):
        verbs = {f"do_{verb}": _Elsewhere.answer for verb in ("GET", "PUT", "HEAD")}
        handler = type("Handler", (_Elsewhere,), {"got": [], "there": "", **verbs})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append((server, handler))
    (first, one), (second, other) = started
    one.there = f"http://127.0.0.1:{second.server_address[1]}"
    yield f"http://127.0.0.1:{first.server_address[1]}", one.got, other.got
    for server, _ in started:
        server.shutdown()
        server.server_close()


def test_a_redirect_is_not_followed(servers: tuple[str, list[bytes], list[bytes]]) -> None:
    """An endpoint that says "go there" gets an error of ours, and there gets nothing: reading, writing, in blocks."""
    url, asked, leaked = servers
    blobs = BlobAccount(connection="hub", connection_string=f"{KEY};BlobEndpoint={url}/acct").container("box")
    blobs._made = True
    acts = (
        lambda: blobs.put_new("a", b"rows"),
        lambda: blobs.stage("a", "MDAwMQ==", b"rows"),
        lambda: blobs.get("a"),
        lambda: list(blobs.list()),
    )
    for number, act in enumerate(acts, start=1):
        with pytest.raises(ResidencyError, match=r"'hub' answered 307: go to 127.0.0.1.*\n.*nothing was sent there"):
            act()
        assert len(asked) >= number
    assert leaked == []


FIGURES = {
    "rows_train": 100,
    "accuracy": 0.93,
    "champion": {"accuracy": 0.9, "mae": None},
    "features": ["wind"],
    "sites": {"north": {"rows": 4, "ok": True}},
}


def test_figures_about_a_model_may_travel() -> None:
    """Numbers under plain names, and names that pipeline.yaml holds anyway."""
    require_figures(spec(), FIGURES)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"sample": [[424242.4242, 1.0]]}, "sample is a list"),
        ({"rows": [424242.4242]}, "rows is a list"),
        ({"worst": {"row": "424242.4242"}}, "row is a text"),
        ({"424242.4242": 1}, "a name below metrics.json is no plain one"),
        ({"by_value": {"424242.4242": 1}}, "a name below by_value is no plain one"),
        ({f"v{number}": 424242.4242 for number in range(200)}, "entries"),
        ({"deep": {"a": {"b": [{"c": 424242.4242}]}}}, "b is a list"),
    ],
)
def test_rows_hidden_in_metrics_do_not_travel(more: dict[str, Any], told: str) -> None:
    """train.py sees every row; its metrics become labels of an image, and what is in them is not shown either."""
    with pytest.raises(ResidencyError) as caught:
        require_figures(spec(), {**FIGURES, **more})
    assert told in str(caught.value)
    assert "424242" not in str(caught.value)
    require_figures(spec(residency="cloud"), {**FIGURES, **more})


def test_golden_rows_that_are_not_the_drawn_ones_do_not_travel() -> None:
    """One real row among them is enough."""
    drawn = draw(spec().model.features, "ab" * 32, 8)
    require_synthetic(spec(), Golden(sha256="ab" * 32, rows=drawn, answers=(0.0,) * 8))
    changed = Golden(sha256="ab" * 32, rows=(*drawn[:7], (5.5,)), answers=(0.0,) * 8)
    with pytest.raises(ResidencyError, match="may be rows of the data"):
        require_synthetic(spec(), changed)
    require_synthetic(spec(residency="cloud"), changed)
