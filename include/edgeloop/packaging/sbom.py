"""The bill of materials of an image in CycloneDX: Debian packages, Python distributions, and the model itself.

The same image has the same one, byte for byte: its serial number comes from the image's id, its time from the record.
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import TYPE_CHECKING

import edgeloop
from edgeloop.packaging import oci
from edgeloop.records import canonical_json

if TYPE_CHECKING:
    from cyclonedx.model import HashType
    from cyclonedx.model.component import Component

    from edgeloop.packaging.build import Plan
    from edgeloop.packaging.inventory import Inventory, Package

MEDIA_TYPE = "application/vnd.cyclonedx+json"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:edgeloop:sbom")


def make(plan: Plan, inventory: Inventory) -> bytes:
    """CycloneDX 1.6 in canonical JSON."""
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    root = Component(
        name=plan.name.repository.partition("/")[2],
        version=plan.name.tag,
        type=ComponentType.CONTAINER,
        bom_ref="image",
        hashes=[_sha256(plan.engine_id.removeprefix("sha256:"))],
    )
    parts = [_model(plan), *(_package(one, inventory.release) for one in inventory.packages)]
    tool = Component(name="edgeloop", version=edgeloop.__version__, type=ComponentType.APPLICATION, bom_ref="edgeloop")
    bom = Bom(
        components=parts,
        serial_number=uuid.uuid5(NAMESPACE, plan.engine_id),
        metadata=BomMetaData(
            component=root,
            timestamp=datetime.fromisoformat(oci.created(plan.model)),
            tools=ToolRepository(components=[tool]),
        ),
    )
    bom.register_dependency(root, parts)
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    return canonical_json(json.loads(text))


def _model(plan: Plan) -> Component:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType

    model = plan.model
    about = {"edgeloop.model": model.id, "edgeloop.dataset": plan.dataset, "edgeloop.training_run": model.training_run}
    return Component(
        name=model.pipeline,
        version=str(model.version),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        hashes=[_sha256(model.sha256)],
        properties=[Property(name=name, value=value) for name, value in about.items() if value],
    )


def _package(one: Package, release: str) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    if one.kind == "pypi":
        purl = PackageURL("pypi", None, one.name.lower().replace("_", "-"), one.version)
    else:
        qualifiers = {"arch": one.where, "distro": release, "upstream": one.source}
        purl = PackageURL(
            "deb", release.partition("-")[0] or "debian", one.name, one.version,
            {name: value for name, value in qualifiers.items() if value},
        )  # fmt: skip
    reference = f"{purl}#{one.where}" if one.kind == "pypi" else str(purl)
    return Component(name=one.name, version=one.version, type=ComponentType.LIBRARY, purl=purl, bom_ref=reference)


def _sha256(digest: str) -> HashType:
    from cyclonedx.model import HashAlgorithm, HashType

    return HashType(alg=HashAlgorithm.SHA_256, content=digest)
