"""Fixtures shared by all tests: the lab's `test` site, and what hangs on it. Nothing here starts unless a test asks."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure.blob import BlobAccount, BlobContainer
    from edgeloop.store import Store
    from lab.airflow_site import AirflowSite
    from lab.campaign_site import Ground
    from lab.loop import Loop
    from lab.site import Site

SITE = os.environ.get("EDGELOOP_TEST_SITE", "test")
"""Runs at once need a name each; tools/test.sh gives them."""
KEEP = bool(os.environ.get("EDGELOOP_TEST_KEEP"))
"""Leave the site and its Airflow up after the tests, for looking at what failed; the next tests start anew."""

# Importing airflow writes its home; a test run must neither read nor write the user's.
os.environ["AIRFLOW_HOME"] = str(Path(__file__).resolve().parents[1] / "build" / f"airflow-{SITE}")
# So with the packed layers of scorer images; runs at once share them, and later ones find them.
os.environ["EDGELOOP_CACHE"] = str(Path(__file__).resolve().parents[1] / "build" / "cache")

# A shell without job control starts what it puts in the background with SIGINT ignored, and that is inherited: nothing
# that a test starts could be asked to end by it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for the site is a system test, and runs after everything that needs no server."""
    for item in items:
        if "site" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.system)

    def order(item: pytest.Item) -> tuple[bool, bool]:
        return "airflow" in getattr(item, "fixturenames", ()), bool(item.get_closest_marker("system"))

    items.sort(key=order)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """The `test` site, started from nothing and stopped at the end; it can be up beside the demo's."""
    import lab

    lab.clean(SITE)
    try:
        yield lab.up(SITE)
    finally:
        if not KEEP:
            with contextlib.suppress(Exception):
                _stop_airflow()
            lab.down(SITE)


def _stop_airflow() -> None:
    from lab.airflow_site import AirflowSite, plan_for
    from lab.site import load, state_of

    AirflowSite(plan_for(load(state_of(SITE)))).stop()


@pytest.fixture(scope="session")
def blob_account(site: Site) -> BlobAccount:
    """The site's private storage account, on a real Azurite."""
    from edgeloop.azure.blob import BlobAccount

    return BlobAccount(connection="edgeloop_private", connection_string=site.blob.private.connection_string)


@pytest.fixture
def container(blob_account: BlobAccount) -> BlobContainer:
    """A container of this test's own."""
    return blob_account.container(f"t{uuid.uuid4().hex[:20]}")


@pytest.fixture
def store(container: BlobContainer) -> Store:
    """An empty store of this test's own."""
    from edgeloop.store import Store

    return Store(container)


@pytest.fixture(scope="session")
def airflow(site: Site) -> Iterator[AirflowSite]:
    """The site's Airflow on a small copy of the sample pipeline, with shortened heartbeat time-outs.

    A killed part is noticed in seconds, and a whole loop over the extracts in tests/data takes a minute or two.
    """
    from lab import campaign_site

    folder = site.state / campaign_site.FOLDER
    campaign_site.small_pipeline(folder)
    campaign_site.bulk_pipeline(folder)
    one = campaign_site.airflow_for(site, folder)
    one.start()
    try:
        yield one
    finally:
        if not KEEP:
            one.stop()


@pytest.fixture(scope="session")
def ground(site: Site, airflow: AirflowSite) -> Iterator[Ground]:
    """The site with its Airflow up, and the loop of its pipeline to drive."""
    from lab import campaign_site

    with campaign_site.ground_of(airflow, site, site.state / campaign_site.FOLDER) as one:
        yield one


@pytest.fixture(scope="session")
def loop(ground: Ground) -> Loop:
    """The loop of the site's pipeline, as its people drive it."""
    return ground.loop


@pytest.fixture
def pipelines_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the catalog reads instead of include/pipelines."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    monkeypatch.setenv("EDGELOOP_PIPELINES", str(folder))
    monkeypatch.setenv("EDGELOOP_LAST_VALID", str(tmp_path / "last_valid"))
    return folder
