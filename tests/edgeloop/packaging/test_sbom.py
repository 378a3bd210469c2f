"""The bill of materials: whole, valid, and the same wherever it is made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tests.edgeloop.packaging.test_oci import MODEL, plan

from edgeloop.packaging import sbom
from edgeloop.packaging.inventory import Inventory, Package

INSIDE = Inventory(
    packages=(
        Package(kind="deb", name="libssl3", version="3.0.22-1~deb12u2", where="amd64", source="openssl"),
        Package(kind="pypi", name="Typing_Extensions", version="4.1", where="opt/site/"),
        Package(kind="pypi", name="pip", version="24.0", where="opt/site/"),
        Package(kind="pypi", name="pip", version="24.0", where="usr/local/"),
    ),
    release="debian-12",
)
ELSEWHERE = """
import sys
from tests.edgeloop.packaging.test_sbom import INSIDE
from tests.edgeloop.packaging.test_oci import plan
from edgeloop.packaging import sbom
sys.stdout.buffer.write(sbom.make(plan(), INSIDE))
"""


def test_it_names_packages_distributions_and_the_model() -> None:
    """By the addresses that scanners look up, and the model by its sha256, as a model and not as a library."""
    made = sbom.make(plan(), INSIDE)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(made.decode()) is None
    body = json.loads(made)
    parts = {one["name"]: one for one in body["components"]}
    assert len(body["components"]) == 5
    assert parts["libssl3"]["purl"] == (
        "pkg:deb/debian/libssl3@3.0.22-1~deb12u2?arch=amd64&distro=debian-12&upstream=openssl"
    )
    assert parts["Typing_Extensions"]["purl"] == "pkg:pypi/typing-extensions@4.1"
    assert parts["wind"]["type"] == "machine-learning-model"
    assert parts["wind"]["hashes"] == [{"alg": "SHA-256", "content": MODEL.sha256}]
    assert {one["name"] for one in parts["wind"]["properties"]} >= {"edgeloop.model", "edgeloop.dataset"}
    about = body["metadata"]
    assert about["timestamp"].startswith("2014-02-01T00:00:00")
    assert about["component"]["bom-ref"] == "image"
    assert about["component"]["hashes"] == [{"alg": "SHA-256", "content": plan().engine_id.removeprefix("sha256:")}]


def test_another_process_makes_the_same_bytes() -> None:
    """No set's order and no random serial number is in it."""
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(root)}
    told = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], env=environment, cwd=root, capture_output=True, check=True, timeout=60
    )
    assert told.stdout == sbom.make(plan(), INSIDE)
