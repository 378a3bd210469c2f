"""What a pipeline.yaml may not say when its data stays at the site, and which of two configurations is the stricter."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeloop import residency
from edgeloop.pipeline import Pipeline
from edgeloop.problems import parse_spec

TINY = Path(__file__).parents[1] / "data" / "pipelines" / "tiny_power" / "pipeline.yaml"


def body(**changes: Any) -> dict[str, Any]:
    """The tiny pipeline's YAML as a mapping, with some fields changed (``storage__preset`` is storage.preset)."""
    made = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    for path, value in changes.items():
        *sections, field = path.split("__")
        at = made
        for one in sections:
            at = at.setdefault(one, {})
        at[field] = copy.deepcopy(value)
    return made


def spec(**changes: Any) -> Pipeline:
    """The tiny pipeline, changed, as a model: not refused, whatever it says."""
    return Pipeline.model_validate(body(**changes))


def refused(**changes: Any) -> dict[str, str]:
    """What parsing the changed YAML says, by field."""
    parsed, problems = parse_spec(yaml.safe_dump(body(**changes), sort_keys=False), "pipeline.yaml")
    assert (parsed is None) is bool(problems)
    return {one.field: one.remedy for one in problems}


WORKSPACE = {
    "subscription": "11111111-1111-1111-1111-111111111111", "resource_group": "edge-rg", "workspace": "edge-ws",
}  # fmt: skip
AZURE_ML = {"training__backend": "azure_ml", "azure_ml": WORKSPACE}
NUDGE = {"kind": "storage_queue", "connection": "edgeloop_cloud", "queue": "arrivals"}
WAYS_OUT: dict[str, tuple[dict[str, Any], str, str]] = {
    "a public preset": ({"storage__preset": "azure"}, "storage.preset", "stack_hub or stack_edge"),
    "a source in another account": (
        {"source__kind": "blob", "source__connection": "edgeloop_cloud"}, "source.connection", "'edgeloop_private'",
    ),
    "names of files through a queue elsewhere": ({"source__nudge": NUDGE}, "source.nudge", "[event_names]"),
    "names of files through Service Bus": (
        {"source__nudge": {**NUDGE, "kind": "service_bus"}}, "source.nudge", "[event_names]",
    ),
    "one connection for the account and the VM": (
        {"training__connection": "edgeloop_private"}, "training.connection", "a connection of its own",
    ),
    "one connection for the account and the registry": (
        {"image__registry": "edgeloop_private"}, "image.registry", "a connection of its own",
    ),
    "one connection for the account and the builder": (
        {"image__engine": "edgeloop_private"}, "image.engine", "a connection of its own",
    ),
    "Azure ML's storage": (AZURE_ML, "training.backend", "[azure_ml_outputs]"),
    "an image built by Azure ML": (
        {
            "image__builder": "azure_ml_package", "image__base": "acr.example/edgeloop/scorer-base:1",
            "registry__backend": "azure_ml", "azure_ml": WORKSPACE,
        }, "image.builder", "[azure_ml_outputs]",
    ),
    "an Azure ML pipeline": (
        {**AZURE_ML, "training__backend": "azure_ml_pipeline"}, "training.backend", "azure_ml_pipeline sends",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "field", "remedy"), WAYS_OUT.values(), ids=WAYS_OUT)
def test_a_way_out_is_refused_at_load(changes: dict[str, Any], field: str, remedy: str) -> None:
    """Each with its field and with what to write instead."""
    assert refused() == {}
    found = refused(**changes)
    assert list(found) == [field]
    assert remedy in found[field]


@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_cloud_pipeline_may_do_all_that(way: str) -> None:
    """None of it is wrong in itself."""
    assert refused(residency="cloud", **WAYS_OUT[way][0]) == {}


def test_every_way_out_is_told_at_once_with_its_line() -> None:
    """Not one after the other, and the line is the field's."""
    text = TINY.read_text(encoding="utf-8").replace("  preset: stack_hub\n", "  preset: azure\n")
    text = text.replace("  folder: exports\n", "  folder: exports\n  kind: blob\n  connection: elsewhere\n")
    parsed, problems = parse_spec(text, "pipeline.yaml")
    assert parsed is None
    lines = text.splitlines()
    told = {one.field: lines[one.line - 1].strip() for one in problems}
    assert told == {"storage.preset": "preset: azure", "source.connection": "connection: elsewhere"}


def test_azure_ml_says_what_would_leave() -> None:
    """Job logs and metrics go to the workspace, the job has a network: allowed by name only, and only for that."""
    told = refused(**AZURE_ML)["training.backend"]
    assert all(one in told for one in ("job logs", "metrics", "its storage account", "not cut off from the network"))
    other = refused(**AZURE_ML, residency_permits=["event_names", "public_address"])
    assert other["training.backend"] == told


@pytest.mark.parametrize("more", [{"residency_permits": ["azure_ml_outputs"]}, {"residency": "cloud"}])
@pytest.mark.parametrize("backend", ["azure_ml", "azure_ml_pipeline"])
def test_azure_ml_trains_where_it_may(backend: str, more: dict[str, Any]) -> None:
    """With the permit, and for a cloud pipeline, both backends are taken; without a workspace neither is."""
    assert refused(training__backend=backend, azure_ml=WORKSPACE, **more) == {}
    assert "add the section azure_ml" in refused(training__backend=backend, **more)["training.backend"]


def test_models_and_figures_may_be_mirrored() -> None:
    """They are what is deployed; what is told of them is checked at run. The mirror needs a workspace."""
    assert refused(registry__backend="azure_ml", azure_ml=WORKSPACE) == {}
    assert "add the section azure_ml" in refused(registry__backend="azure_ml")["registry.backend"]


@pytest.mark.parametrize(
    ("changes", "field", "remedy"),
    [
        ({"azure_ml": WORKSPACE}, "image.builder", "registry.backend: azure_ml"),
        ({"azure_ml": WORKSPACE, "registry__backend": "azure_ml"}, "image.base", "name it whole"),
    ],
)
def test_azure_ml_packages_only_what_it_can(changes: dict[str, Any], field: str, remedy: str) -> None:
    """A model that the workspace has, on a base that it can pull."""
    found = refused(residency="cloud", image__builder="azure_ml_package", **changes)
    assert list(found) == [field]
    assert remedy in found[field]


def test_names_of_files_may_be_allowed_or_stay_in_the_private_account() -> None:
    """A permit opens one way; a queue of the private account needs none."""
    assert refused(source__nudge=NUDGE, residency_permits=["event_names"]) == {}
    assert refused(source__nudge={**NUDGE, "connection": "edgeloop_private"}) == {}
    bus = {"kind": "service_bus", "connection": "edgeloop_private", "queue": "arrivals"}
    assert "source.nudge" in refused(source__nudge=bus)
    assert "source.nudge.connection" in refused(source__nudge=bus, residency_permits=["event_names"])


def test_permits_are_known_and_needed() -> None:
    """A typing error is no permit, and a cloud pipeline needs none."""
    assert "residency_permits.0" in refused(residency_permits=["everything"])
    assert (
        "does nothing for residency: cloud"
        in refused(residency="cloud", residency_permits=["event_names"])["residency_permits"]
    )


@pytest.mark.parametrize("field", ["golden", "sample_rows", "golden_rows_from", "golden_file"])
def test_no_field_brings_real_rows_into_the_golden_ones(field: str) -> None:
    """How many are drawn is all that can be said of them; whatever else is no known field."""
    assert "is no known field" in refused(**{f"image__{field}": "data/rows.csv"})[f"image.{field}"]
    assert "image.golden_rows" in refused(image__golden_rows="data/rows.csv")


def cloud(**changes: Any) -> Pipeline:
    """Another pipeline, whose data may leave the site."""
    changes = {"name": "other", "residency": "cloud", "storage__connection": "edgeloop_cloud", **changes}
    changes.setdefault("source__folder", "elsewhere")
    return spec(**{"storage__preset": "azure", **changes})


CARRIERS: dict[str, tuple[dict[str, Any], str]] = {
    "reads the private account": (
        {"source__kind": "blob", "source__connection": "edgeloop_private", "source__folder": "tiny-power/data"},
        "source.connection",
    ),
    "watches the same folder": ({"source__folder": "exports"}, "source.folder"),
    "watches a folder below": ({"source__folder": "exports/2014"}, "source.folder"),
    "watches a folder above": ({"source__folder": ""}, "source.folder"),
    "writes the folder otherwise": ({"source__folder": "./x/../EXPORTS/"}, "source.folder"),
    "calls the private account a public one": ({"storage__connection": "edgeloop_private"}, "storage.preset"),
}


@pytest.mark.parametrize(("changes", "field"), CARRIERS.values(), ids=CARRIERS)
def test_another_pipeline_may_not_carry_it_away(changes: dict[str, Any], field: str) -> None:
    """A second pipeline, marked cloud, that takes up the first one's files or account is refused, and says whose."""
    found = residency.clash(cloud(**changes), spec())
    assert found is not None
    assert found.field == field
    assert "tiny_power" in found.remedy
    assert residency.clash(cloud(**changes), spec(residency="cloud")) is None
    assert residency.clash(spec(**{**changes, "storage__container": "another"}), spec()) is None


@pytest.mark.parametrize("folder", ["elsewhere", "exports_2", "export"])
def test_another_folder_is_nobodys_business(folder: str) -> None:
    """Only the folder itself and what lies in it belongs to the other pipeline."""
    assert residency.clash(cloud(source__folder=folder), spec()) is None


PERMITS = ["event_names", "public_address"]


@pytest.mark.parametrize(
    ("pinned", "today", "private", "permits"),
    [
        ({"residency": "cloud"}, {"residency": "cloud"}, False, ()),
        ({"residency": "cloud"}, {"residency_permits": PERMITS}, True, ("event_names", "public_address")),
        ({"residency_permits": PERMITS}, {"residency": "cloud"}, True, ("event_names", "public_address")),
        ({"residency_permits": PERMITS}, {"residency_permits": ["public_address"]}, True, ("public_address",)),
        ({"residency_permits": ["event_names"]}, {}, True, ()),
    ],
)
def test_the_stricter_of_two_configurations_holds(
    pinned: dict[str, Any], today: dict[str, Any], private: bool, permits: tuple[str, ...]
) -> None:
    """What a batch was claimed under, and what its pipeline says by now: neither loosens the other."""
    found = residency.stricter(spec(**pinned), spec(**today))
    assert (residency.private(found), found.residency_permits) == (private, permits)


def test_what_was_claimed_for_the_cloud_goes_to_todays_account() -> None:
    """The columns are those of the claim, the account is today's."""
    before = spec(
        residency="cloud", storage__preset="azure", storage__connection="edgeloop_cloud", model__tolerance=7.0
    )
    found = residency.stricter(before, spec())
    assert found.storage == spec().storage
    assert found.model.tolerance == pytest.approx(7.0)
    assert residency.refusals(found) == ()
