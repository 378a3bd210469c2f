"""A model version of a workspace, pure: what is PUT for a version of ours, and what one that is there says.

Properties are what never changes, tags what is added later. Ours begin with ``edgeloop.``; what people add in the
studio beside them is left as it is. Aliases are one tag, for Azure ML has none of its own; a quarantined version is
archived as well, so that nobody picks it from the studio's list, and is still there under its number.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeloop.registry.backend import ALIASES, QUARANTINED, Listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

OURS = "edgeloop."
ALIAS = "edgeloop.alias"
MODEL, SHA256, SIZE = FIXED = ("edgeloop.model", "edgeloop.sha256", "edgeloop.size")
KIND = "custom_model"
"""What azure-ai-ml calls a model that is a file and no MLflow or Triton folder."""
MOST_TEXT = 256
"""Of a tag's value, as for Azure's resources; a longer one is cut, and says so by its end."""
CUT = "..."


def blob_name(pipeline: str, sha256: str) -> str:
    """Where the bytes are in the datastore: the same bytes are the same blob."""
    return f"edgeloop/{pipeline}/{sha256}/model.onnx"


def model_uri(workspace: WorkspaceEndpoint, datastore: str, blob: str) -> str:
    """How the workspace names them."""
    place = workspace.id.replace("/resourceGroups/", "/resourcegroups/").replace(
        "/providers/Microsoft.MachineLearningServices/workspaces/", "/workspaces/"
    )
    return f"azureml:/{place}/datastores/{datastore}/paths/{blob}"


def shortened(wanted: Listed) -> Listed:
    """The version as a workspace can hold it: texts are cut to ``MOST_TEXT``."""
    return replace(wanted, properties=_short(wanted.properties), tags=_short(wanted.tags))


def _short(texts: Mapping[str, str]) -> dict[str, str]:
    return {
        name: text if len(text) <= MOST_TEXT else text[: MOST_TEXT - len(CUT)] + CUT
        for name, text in sorted(texts.items())
        if text
    }


def body(wanted: Listed, uri: str, found: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What is PUT so that the workspace shows ``wanted``; ``found`` are the properties of the version that is there."""
    there = found or {}
    properties = {
        **_foreign(there.get("properties")),
        MODEL: wanted.model,
        SHA256: wanted.sha256,
        SIZE: str(wanted.size),
        **{f"{OURS}{name}": value for name, value in wanted.properties.items()},
    }
    tags = {**_foreign(there.get("tags")), **{f"{OURS}{name}": value for name, value in wanted.tags.items()}}
    if wanted.aliases:
        tags[ALIAS] = ",".join(one for one in ALIASES if one in wanted.aliases)
    return {
        "properties": {
            "modelUri": uri,
            "modelType": KIND,
            "description": str(there.get("description") or ""),
            "flavors": there.get("flavors") or {},
            "isAnonymous": False,
            "isArchived": QUARANTINED in wanted.aliases,
            "properties": properties,
            "tags": tags,
        }
    }


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two resources say the same, in what we write."""
    ours = ("modelUri", "modelType", "isArchived", "properties", "tags")
    return [one["properties"].get(name) for name in ours] == [other["properties"].get(name) for name in ours]


def listed(number: int, properties: Mapping[str, Any]) -> Listed:
    """A version that is there, with the bytes it was published with; ``model`` is "" for one that is not ours."""
    fixed, tags = _texts(properties.get("properties")), _texts(properties.get("tags"))
    said, size = tags.pop(ALIAS, "").split(","), fixed.get(SIZE, "")
    return Listed(
        version=number,
        model=fixed.get(MODEL, ""),
        sha256=fixed.get(SHA256, ""),
        size=int(size) if size.isdecimal() else 0,
        properties=_named(fixed, but=FIXED),
        tags=_named(tags),
        aliases=frozenset(ALIASES) & frozenset(said),
    )


def _named(texts: Mapping[str, str], but: Iterable[str] = ()) -> dict[str, str]:
    return {
        name.removeprefix(OURS): value
        for name, value in sorted(texts.items())
        if name.startswith(OURS) and name not in but
    }


def _foreign(texts: Any) -> dict[str, str]:
    return {name: value for name, value in _texts(texts).items() if not name.startswith(OURS)}


def _texts(told: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in (told or {}).items() if value is not None}
