"""A mirror that was changed by hand, half written or left behind is brought to what the store says, and never back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.azure_contract.conftest import WORKSPACE_ID

from edgeloop.azure_ml.models import AzureModels, opened
from edgeloop.errors import CloudError, UnreachableError
from edgeloop.records import sha256_hex
from edgeloop.registry.backend import CHALLENGER, CHAMPION, QUARANTINED, Listed
from edgeloop.registry.reconcile import What, differences, mend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

WHERE = "azure_ml"


def version(number: int, *aliases: str) -> Listed:
    """A version whose bytes are its number."""
    content = b"%d" % number
    return Listed(
        version=number,
        model=sha256_hex(b"id" + content),
        sha256=sha256_hex(content),
        size=len(content),
        properties={"dataset": f"d{number}"},
        tags={"image": f"sha256:{number}"},
        aliases=frozenset(aliases),
    )


TRUTH = (version(1, QUARANTINED), version(2, CHAMPION), version(3, CHALLENGER), version(4, QUARANTINED))


def content(wanted: Listed) -> bytes:
    """As the store gives it."""
    return b"%d" % wanted.version


def nothing(*_: object) -> None:
    """Say nothing."""


@pytest.fixture
def models(workspace: WorkspaceEndpoint) -> Iterator[AzureModels]:
    """The mirror of the pipeline tiny_power."""
    with opened(workspace, "tiny_power") as found:
        yield found


def whats(models: AzureModels) -> list[tuple[int, What]]:
    """What differs now."""
    return [(one.version, one.what) for one in differences(TRUTH, models.versions(), WHERE)]


def brought(models: AzureModels) -> None:
    """Bring the mirror to the truth."""
    mend(differences(TRUTH, models.versions(), WHERE), TRUTH, models, content, nothing)


def test_an_empty_mirror_is_filled_and_then_nothing_differs(azure: Any, models: AzureModels) -> None:
    """Registrations from before there was a workspace come too; a second time sends nothing."""
    assert whats(models) == [(number, What.MISSING) for number in (1, 2, 3, 4)]
    brought(models)
    assert models.versions() == TRUTH
    before = len(azure.log("PUT"))
    brought(models)
    assert len(azure.log("PUT")) == before


def test_what_somebody_changed_by_hand_is_named_and_mended(azure: Any, models: AzureModels) -> None:
    """A promotion in the studio, a changed tag and property, bytes that were replaced, a version that was deleted."""
    brought(models)
    paths = {number: f"{WORKSPACE_ID}/models/tiny_power/versions/{number}" for number in (1, 2, 3, 4)}
    for number, kind, name, value in (
        (1, "tags", "edgeloop.alias", "champion"),
        (3, "tags", "edgeloop.image", "sha256:x"),
        (3, "properties", "edgeloop.dataset", "x"),
    ):
        resource = azure.resource(paths[number])
        resource["properties"][kind][name] = value
        azure.seed(arm={paths[number]: resource})
    with models._workspace.connect() as arm:
        arm.delete(paths[2], "2024-10-01")
    blob = f"edgemlstore/azureml-blobstore/edgeloop/tiny_power/{TRUTH[3].sha256}/model.onnx"
    azure.seed(blobs={blob: "other"})
    assert whats(models) == [
        (1, What.ALIASES), (2, What.MISSING), (3, What.PROPERTIES), (3, What.TAGS), (4, What.BYTES),
    ]  # fmt: skip
    brought(models)
    assert models.versions() == TRUTH


def test_a_number_that_is_another_models_is_left_and_holds_up_no_other(azure: Any, models: AzureModels) -> None:
    """It gets no alias of ours, although the store's champion has its number; the rest is mended."""
    other = replace(version(2), model=sha256_hex(b"id9"), sha256=sha256_hex(b"9"))
    models.publish(other, b"9")
    brought(models)
    assert whats(models) == [(2, What.OTHER_MODEL)]
    shown = {one.version: one for one in models.versions()}
    assert (shown[2].model, shown[2].aliases) == (other.model, frozenset())
    assert shown[3].aliases == {CHALLENGER}


def test_a_version_that_cannot_be_mended_holds_up_no_other_and_is_told(azure: Any, models: AzureModels) -> None:
    """Azure refuses one; the others are there with their aliases, and the task is red."""
    azure.faults({"match": "PUT .*/versions/1$", "status": 400, "times": 9, "body": {}})
    with pytest.raises(CloudError, match="versions/1"):
        brought(models)
    azure.faults()
    assert whats(models) == [(1, What.MISSING)]
    brought(models)
    assert whats(models) == []


def test_an_azure_that_is_silent_is_asked_once(azure: Any, models: AzureModels) -> None:
    """Not version after version, each until its retries are over."""
    azure.faults({"match": "PUT .*/versions/.$", "status": 503, "times": 99})
    with pytest.raises(UnreachableError):
        brought(models)
    assert {one["path"][-1] for one in azure.log("PUT", "/versions/")} == {"1"}


class Died(BaseException):
    """The worker was killed."""


def test_a_mirror_that_dies_anywhere_is_finished_by_the_next_try(
    azure: Any, models: AzureModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before every second of its requests in turn; never two champions, and in the end all is there."""
    import requests

    real, died = requests.adapters.HTTPAdapter.send, 0
    monkeypatch.setattr(f"{__name__}.TRUTH", TRUTH[:3])
    for dies in range(0, 40, 2):
        count = iter(range(99))

        def send(adapter: Any, request: Any, *, dies: int = dies, count: Any = count, **options: Any) -> Any:
            if "login." not in request.url and next(count) == dies:
                raise Died
            return real(adapter, request, **options)

        with monkeypatch.context() as killed:
            killed.setattr(requests.adapters.HTTPAdapter, "send", send)
            try:
                brought(models)
            except Died:
                died += 1
        assert sum(CHAMPION in one.aliases for one in models.versions()) <= 1
    assert models.versions() == TRUTH
    assert died > 3
