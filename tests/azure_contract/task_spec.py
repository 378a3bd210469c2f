"""What Microsoft publishes of a registry's tasks, in the form that the contract server reads.

The server's OpenAPI files hold no tasks; its folder has Microsoft's types of exactly their version (bicep-types-az).
From these an OpenAPI file is derived, beside links to all others, so that every request of a task is held to them.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

VERSION, NAMESPACE = "2025-03-01-preview", "Microsoft.ContainerRegistry"
TYPES = f"bicep/microsoft.containerregistry/{VERSION}.json.gz"
FILE = f"specification/containerregistry/resource-manager/{NAMESPACE}/preview/{VERSION}/tasks.json"
REQUIRED, READ_ONLY, ELSEWHERE = 1, 2, 8
"""Flags of bicep-types; what has the last one stands in the address, not in the body."""
ACCOUNT = "https://edgemlstore.blob.core.windows.net"
SAS = "sv=2019-07-07&sr=b&sp=rw&sig=fake"
UPLOADED, LOGGED = "acrsources/source.tar.gz", "acrlogs/log.txt"


def overlay(specs: Path, folder: Path) -> Path:
    """A folder of descriptions as ``specs``, with the tasks'."""
    shutil.copytree(specs, folder, copy_function=os.symlink)
    index = json.loads((folder / "INDEX.json").read_text())
    (folder / "INDEX.json").unlink()
    (folder / "INDEX.json").write_text(json.dumps([*index, FILE]))
    (folder / FILE).parent.mkdir(parents=True)
    (folder / FILE).write_text(json.dumps(describe(json.loads(gzip.decompress((specs / TYPES).read_bytes())))))
    return folder


def describe(types: list[dict[str, Any]]) -> dict[str, Any]:
    """The OpenAPI document of task runs and of the two functions that they need."""
    by_name = {one["name"]: one for one in types if one["$type"] in {"ResourceType", "ResourceFunctionType"}}
    task_run = by_name[f"{NAMESPACE}/registries/taskRuns@{VERSION}"]
    registry = (
        f"/subscriptions/{{subscriptionId}}/resourceGroups/{{group}}/providers/{NAMESPACE}/registries/{{registry}}"
    )
    whole = _schema(types, task_run["body"])
    source = _schema(types, by_name["listBuildSourceUploadUrl"]["output"])
    log = _schema(types, by_name["listLogSasUrl"]["output"])
    uploaded = {"uploadUrl": f"{ACCOUNT}/{UPLOADED}?{SAS}", "relativePath": f"source/{UPLOADED}"}
    return {
        "swagger": "2.0",
        "info": {"title": "Tasks", "version": VERSION},
        "paths": {
            f"{registry}/taskRuns/{{name}}": {
                "get": _operation("TaskRuns_Get", answer=whole, named=True),
                "put": _operation("TaskRuns_Create", body=whole, answer=whole, named=True),
                "delete": _operation("TaskRuns_Delete", named=True),
            },
            f"{registry}/listBuildSourceUploadUrl": {
                "post": _operation("Registries_GetBuildSourceUploadUrl", answer=source, example=uploaded)
            },
            f"{registry}/runs/{{run}}/listLogSasUrl": {
                "post": _operation("Runs_GetLogSasUrl", answer=log, example={"logLink": f"{ACCOUNT}/{LOGGED}?{SAS}"})
            },
        },
    }


def _operation(
    name: str, *, body: dict[str, Any] | None = None, answer: dict[str, Any] | None = None,
    example: dict[str, Any] | None = None, named: bool = False,
) -> dict[str, Any]:  # fmt: skip
    texts = ["subscriptionId", "group", "registry"]
    parameters: list[dict[str, Any]] = [
        {"in": "path", "name": one, "type": "string", "required": True} for one in texts
    ]
    if named:
        pattern = {"minLength": 5, "maxLength": 50, "pattern": "^[a-zA-Z0-9-]*$"}
        parameters.append({"in": "path", "name": "name", "type": "string", "required": True, **pattern})
    if name.startswith("Runs_"):
        parameters.append({"in": "path", "name": "run", "type": "string", "required": True})
    parameters.append({"in": "query", "name": "api-version", "type": "string", "required": True})
    if body is not None:
        parameters.append({"in": "body", "name": "body", "required": True, "schema": body})
    reply = {"description": "done", **({"schema": answer} if answer else {})}
    found: dict[str, Any] = {"operationId": name, "parameters": parameters, "responses": {"200": reply}}
    if example is not None:
        found["x-ms-examples"] = {"one": {"responses": {"200": {"body": example}}}}
    return found


def _schema(types: list[dict[str, Any]], reference: dict[str, str]) -> dict[str, Any]:
    """A type of bicep-types as JSON Schema."""
    one = types[int(reference["$ref"].removeprefix("#/"))]
    kind = one["$type"]
    if kind == "ObjectType":
        return _object(types, one.get("properties", {}), one.get("additionalProperties"))
    if kind == "DiscriminatedObjectType":
        # Of the four requests, the one whose text comes with it.
        element = types[int(one["elements"]["EncodedTaskRunRequest"]["$ref"].removeprefix("#/"))]
        return _object(types, {**one["baseProperties"], **element["properties"]}, None)
    if kind == "ArrayType":
        return {"type": "array", "items": _schema(types, one["itemType"])}
    if kind == "UnionType":
        parts = [_schema(types, each) for each in one["elements"]]
        values = [value for part in parts for value in part.get("enum", [])]
        open_ended = any("enum" not in part for part in parts)
        return {"type": "string"} if open_ended else {"type": "string", "enum": values}
    if kind == "StringLiteralType":
        return {"type": "string", "enum": [one["value"]]}
    limits = {"minLength", "maxLength", "pattern", "minValue", "maxValue"}
    names = {"minValue": "minimum", "maxValue": "maximum"}
    found = {names.get(key, key): value for key, value in one.items() if key in limits}
    simple = {"StringType": "string", "IntegerType": "integer", "BooleanType": "boolean"}
    return {"type": simple[kind], **found} if kind in simple else {}


def _object(types: list[dict[str, Any]], properties: dict[str, Any], more: dict[str, str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    if more:
        found["additionalProperties"] = _schema(types, more)
    for name, one in properties.items():
        schema = _schema(types, one["type"])
        found["properties"][name] = {**schema, "readOnly": True} if one["flags"] & READ_ONLY else schema
    required = [
        name for name, one in properties.items() if one["flags"] & (REQUIRED | READ_ONLY | ELSEWHERE) == REQUIRED
    ]
    return {**found, "required": required} if required else found
