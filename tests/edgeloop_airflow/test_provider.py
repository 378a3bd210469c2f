"""The provider metadata is what Airflow accepts, and the installed package announces it."""

from __future__ import annotations

import json
from importlib import resources
from importlib.metadata import entry_points
from typing import Any

import jsonschema
import pytest

import edgeloop
from edgeloop_airflow.provider import get_provider_info

TYPES = {"edgeloop_ssh", "edgeloop_docker", "edgeloop_registry"}


def _schema(name: str) -> Any:
    return json.loads(resources.files("airflow").joinpath(name).read_text(encoding="utf-8"))


def _types() -> list[dict[str, Any]]:
    return list(get_provider_info()["connection-types"])


def test_airflow_accepts_the_metadata() -> None:
    """It validates against the schema that Airflow's provider manager uses; a mistake would drop all three types."""
    jsonschema.validate(get_provider_info(), _schema("provider_info.schema.json"))


def test_the_installed_package_announces_it() -> None:
    """Airflow finds the metadata by entry point, in the version of the library."""
    announced = entry_points(group="apache_airflow_provider")
    (entry,) = [one for one in announced if one.value.startswith("edgeloop_airflow")]
    assert entry.load() is get_provider_info
    assert get_provider_info()["versions"] == [edgeloop.__version__]


def test_the_provider_manager_offers_the_three_types() -> None:
    """In Airflow itself the three types exist with our hooks behind them."""
    from airflow.providers_manager import ProvidersManager

    hooks = dict(ProvidersManager().hooks.items())
    assert set(hooks) >= TYPES
    for name in TYPES:
        assert hooks[name].package_name == "edgeloop"


@pytest.mark.parametrize("described", _types(), ids=lambda one: one["connection-type"])
def test_metadata_and_hook_agree(described: dict[str, Any]) -> None:
    """The form's type and name are the hook's own, so the UI tests a connection with the right class."""
    from importlib import import_module

    module, _, name = described["hook-class-name"].rpartition(".")
    hook = getattr(import_module(module), name)
    assert hook.conn_type == described["connection-type"]
    assert hook.hook_name == described["hook-name"]
    assert hook(**{hook.conn_name_attr: "some_id"}).conn_id == "some_id"


def test_the_form_of_a_machine_asks_for_what_it_needs() -> None:
    """What the UI is given: relabelled fields, every option of the login with a word of help, no secret in the open."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    (form,) = [one for one in HookMetaService.hook_meta_data() if one.connection_type == "edgeloop_ssh"]
    assert form.standard_fields is not None
    fields = form.standard_fields.model_dump()
    assert {name: one["title"] for name, one in fields.items() if one and one["title"]} == {
        "host": "Machine",
        "login": "User",
        "password": "Passphrase of the private key (or password)",
        "port": "SSH port",
    }
    extra = form.extra_fields or {}
    assert list(extra) == [
        "host_key", "key_file", "private_key", "private_key_passphrase", "allow_password", "jump", "share",
    ]  # fmt: skip
    assert all(one["description"] for one in extra.values())
    formats = {name: one["schema"].get("format") for name, one in extra.items()}
    # A text field would take the line ends out of a key that is pasted into it.
    assert (formats["private_key"], formats["private_key_passphrase"]) == ("multiline", "password")
    assert {one["value"] for one in extra.values()} == {None}
    assert extra["allow_password"]["schema"]["type"] == ["boolean", "null"]


def test_the_form_of_a_registry_asks_how_it_lets_people_in() -> None:
    """An identity of Azure, an authority of its own, plain HTTP: each a field with a word of help."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    (form,) = [one for one in HookMetaService.hook_meta_data() if one.connection_type == "edgeloop_registry"]
    extra = form.extra_fields or {}
    assert list(extra) == ["azure", "ca_file", "insecure"]
    assert all(one["description"] for one in extra.values())
