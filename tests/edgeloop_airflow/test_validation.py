"""The tasks of ingest, one after the other, on a real Azurite."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from edgeloop.azure.blob import BlobAccount
from edgeloop.errors import ConfigurationError, IntegrityError, NotFoundError, ValidationBlockedError
from edgeloop.records import Batch, Certificate
from edgeloop_airflow import validation
from edgeloop_airflow.assets import Assets
from edgeloop_airflow.links import DataDocsLink, blob_url
from edgeloop_airflow.share import ClaimBatchesOperator
from edgeloop_airflow.validation import AnnounceLabelsOperator, CertifyBatchOperator, VerifyTransferOperator

if TYPE_CHECKING:
    from tests.edgeloop_airflow.conftest import Floor

ASSETS = Assets("tiny_power")


def claim(floor: Floor, run: str) -> list[Batch]:
    """Claim what lies on the share."""
    context = floor.context(run=run, dag="tiny_power_intake", task="claim")
    floor.states["tiny_power_intake", "claim", run] = "success"
    ids = ClaimBatchesOperator(task_id="claim", pipeline="tiny_power", outlets=[ASSETS.batch]).execute(context)
    store = floor.desk().store
    return [store.get(Batch, one) for one in ids]


def operator(**more: Any) -> CertifyBatchOperator:
    """The certifying task."""
    return CertifyBatchOperator(task_id="certify", pipeline="tiny_power", **more)


def certify(floor: Floor, key: str, **more: Any) -> Certificate:
    """Run the certifying task."""
    context = floor.context(key=key, dag="tiny_power_ingest", task="certify")
    return floor.desk().store.get(Certificate, operator(**more).execute(context))


def verify(floor: Floor, key: str, **more: Any) -> Any:
    """Run the verifying task; its context."""
    context = floor.context(key=key, dag="tiny_power_ingest", task="verify")
    VerifyTransferOperator(task_id="verify", pipeline="tiny_power", outlets=[ASSETS.dataset], **more).execute(context)
    return context


def announce(floor: Floor, key: str, run: str, **more: Any) -> Any:
    """Run the announcing task; its context."""
    context = floor.context(key=key, run=run, dag="tiny_power_ingest", task="announce_labels")
    outlets = [ASSETS.labels]
    AnnounceLabelsOperator(task_id="announce_labels", pipeline="tiny_power", outlets=outlets, **more).execute(context)
    return context


def test_a_batch_goes_through_ingest(floor: Floor, emitted: Any) -> None:
    """Certified, read back, announced: the dataset's partition is the batch's key, the labels' is the month."""
    floor.month("north", "2014-01")
    floor.month("south", "2014-01")
    (batch,) = claim(floor, "run-1")
    certificate = certify(floor, batch.key)
    assert (certificate.batch, certificate.rows) == (batch.id, 8)
    assert emitted(verify(floor, batch.key), ASSETS.dataset) == [batch.key]
    assert emitted(announce(floor, batch.key, "run-2"), ASSETS.labels) == ["2014-01"]


def test_a_run_without_a_key_says_how_keys_look(floor: Floor) -> None:
    """A manual run with no partition key is a mistake, told as one; a wrong key too."""
    with pytest.raises(ConfigurationError, match="no partition key"):
        CertifyBatchOperator(task_id="certify", pipeline="tiny_power").execute(floor.context())
    with pytest.raises(NotFoundError):
        certify(floor, "2014-01@0123456789abcdef")


def test_an_edit_in_the_middle_changes_nothing_that_was_claimed(floor: Floor) -> None:
    """The batch is judged by the suite it was claimed under; force judges it by today's."""
    floor.month("north", "2014-01")
    (batch,) = claim(floor, "run-1")
    floor.edit("expectations.json", '"max_value": 40', '"max_value": 4')
    assert certify(floor, batch.key).rows == 4
    with pytest.raises(ValidationBlockedError, match="4 of 4 rows"):
        certify(floor, batch.key, force="the sensor cannot measure more than 4 m/s")


def test_a_blocked_batch_fails_at_once_with_the_command_that_reruns_it(floor: Floor) -> None:
    """No retry, and the command quoted as a shell needs it, with the DAG and the key of this run."""
    floor.drop("north_2014-01.csv", "north,2014-01-01T00:00:00Z,5,high")
    (batch,) = claim(floor, "run-1")
    with pytest.raises(ValidationBlockedError) as caught:
        certify(floor, batch.key)
    assert isinstance(caught.value, AirflowFailException)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert f"airflow dags clear tiny_power_ingest --partition-key '{batch.key}' --only-failed -y" in str(caught.value)


def test_a_superseded_batch_is_skipped(floor: Floor) -> None:
    """Its file changed since the claim: nobody is called, the next intake has it."""
    floor.month("north", "2014-01")
    (batch,) = claim(floor, "run-1")
    floor.month("north", "2014-01", rows=9)
    with pytest.raises(AirflowSkipException, match="changed since it was claimed"):
        certify(floor, batch.key)


@pytest.mark.fault
def test_a_blob_that_is_not_what_was_certified_stops_the_dataset(floor: Floor, emitted: Any) -> None:
    """Changed or gone, each is named, none is announced, and force brings them back."""
    floor.month("north", "2014-01")
    floor.month("south", "2014-01")
    (batch,) = claim(floor, "run-1")
    north, south = certify(floor, batch.key).files
    blobs = floor.desk().blobs
    blobs.put(north.path, b"x" * north.size)
    blobs.delete(south.path)
    with pytest.raises(IntegrityError, match="2 of 2 blobs") as caught:
        verify(floor, batch.key)
    assert north.path in str(caught.value)
    assert south.path in str(caught.value)
    certify(floor, batch.key, force="blobs were damaged")
    assert emitted(verify(floor, batch.key), ASSETS.dataset) == [batch.key]


def test_labels_wait_for_every_site(floor: Floor, emitted: Any) -> None:
    """With one of two sites the interval is not complete; with both it is, under the key of the month."""
    floor.month("north", "2014-01")
    (first,) = claim(floor, "run-1")
    certify(floor, first.key)
    with pytest.raises(AirflowSkipException, match="2014-01 lacks south"):
        announce(floor, first.key, "run-2")
    floor.month("south", "2014-01")
    (second,) = claim(floor, "run-3")
    certify(floor, second.key)
    assert emitted(announce(floor, second.key, "run-4"), ASSETS.labels) == ["2014-01"]


def test_the_same_labels_are_announced_once(floor: Floor, emitted: Any) -> None:
    """A rerun on the same certificates is skipped; a corrected file announces the interval anew."""
    floor.month("north", "2014-01")
    floor.month("south", "2014-01")
    (batch,) = claim(floor, "run-1")
    certify(floor, batch.key)
    announce(floor, batch.key, "run-2")
    floor.states["tiny_power_ingest", "announce_labels", "run-2"] = "success"
    with pytest.raises(AirflowSkipException, match="2014-01 was announced on the same certificates"):
        announce(floor, batch.key, "run-3")
    floor.month("south", "2014-01", rows=7)
    (revision,) = claim(floor, "run-4")
    certify(floor, revision.key)
    assert emitted(announce(floor, revision.key, "run-5"), ASSETS.labels) == ["2014-01"]


@pytest.mark.fault
def test_labels_of_a_run_that_died_are_announced_by_the_next(floor: Floor, emitted: Any) -> None:
    """It took the right and never succeeded."""
    floor.month("north", "2014-01")
    floor.month("south", "2014-01")
    (batch,) = claim(floor, "run-1")
    certify(floor, batch.key)
    announce(floor, batch.key, "run-2")
    floor.states["tiny_power_ingest", "announce_labels", "run-2"] = "failed"
    assert emitted(announce(floor, batch.key, "run-3"), ASSETS.labels) == ["2014-01"]


def test_the_task_links_to_the_data_docs(floor: Floor) -> None:
    """Certified, found again or blocked: the address of the page, with nothing in it that opens the account."""
    floor.month("north", "2014-01")
    (batch,) = claim(floor, "run-1")
    context = floor.context(key=batch.key, dag="tiny_power_ingest", task="certify")
    links = []
    for _ in range(2):
        task = operator()
        certificate = floor.desk().store.get(Certificate, task.execute(context))
        links.append(DataDocsLink().get_link(task, ti_key=None))
    floor.drop("south_2014-01.csv", "south,2014-01-01T00:00:00Z,5,high")
    (stopped,) = claim(floor, "run-2")
    task = operator()
    with pytest.raises(ValidationBlockedError):
        task.execute(floor.context(key=stopped.key, dag="tiny_power_ingest", task="certify"))
    links.append(DataDocsLink().get_link(task, ti_key=None))
    blobs = floor.desk().blobs
    assert links[0] == links[1] == f"{blobs.account.client(blobs.name).url}/{certificate.docs}"
    assert f"/docs/{stopped.id}/" in links[2]
    for link in links:
        assert not urlsplit(link).query
        assert blobs.exists(urlsplit(link).path.split(f"/{blobs.name}/", 1)[1])


def test_an_address_holds_no_signature() -> None:
    """An account opened by a SAS has it in every address the SDK makes; the link must not carry it."""
    account = BlobAccount(
        connection="c",
        connection_string="BlobEndpoint=https://a.example/acc;SharedAccessSignature=sv=2019-02-02&sig=c2VjcmV0",
    )
    assert "sig=" in account.client("box").url
    assert blob_url(account.container("box"), "docs/a b/1.html") == "https://a.example/acc/box/docs/a%20b/1.html"


def test_the_ui_knows_the_link_after_serialisation(floor: Floor) -> None:
    """The webserver has the serialised DAG alone: the button's name, and the XCom that holds the address."""
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("tiny_power_ingest", schedule=None) as dag:
        operator()
    back = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    (link,) = back.get_task("certify").operator_extra_links
    assert (link.name, link.xcom_key) == ("Data Docs", "_link_DataDocsLink")


def test_force_verifies_whole_and_announces_again(floor: Floor, emitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stage traps anybody: a reason reads every byte back, and sends labels out that were sent before."""
    floor.month("north", "2014-01")
    floor.month("south", "2014-01")
    floor.edit("pipeline.yaml", "name: tiny_power\n", "name: tiny_power\ntransfer: {verify: sampled}\n")
    (batch,) = claim(floor, "run-1")
    certify(floor, batch.key)
    # An edit since then changes nothing: the batch is verified as it was sent.
    floor.edit("pipeline.yaml", "transfer: {verify: sampled}\n", "")
    asked = []
    real = validation.verify
    monkeypatch.setattr(validation, "verify", lambda *given: asked.append(given[2]) or real(*given))
    verify(floor, batch.key)
    verify(floor, batch.key, force="a disk was replaced")
    assert [terms.sampled for terms in asked] == [True, True, False, False]
    announce(floor, batch.key, "run-2")
    floor.states["tiny_power_ingest", "announce_labels", "run-2"] = "success"
    with pytest.raises(AirflowSkipException):
        announce(floor, batch.key, "run-3")
    context = announce(floor, batch.key, "run-3", force="the drift DAG lost its runs")
    assert emitted(context, ASSETS.labels) == ["2014-01"]
