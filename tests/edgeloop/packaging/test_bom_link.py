from __future__ import annotations

import json
from dataclasses import replace

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tests.edgeloop.packaging.test_oci import plan
from tests.edgeloop.packaging.test_sbom import INSIDE

from edgeloop.packaging import bom_link, sbom
from edgeloop.packaging.inventory import Package


def test_both_parts_are_valid_and_hold_every_component_once() -> None:
    """The image's own names the model and links to the base's, which names all packages."""
    whole = sbom.make(plan(), INSIDE)
    own, base = bom_link.split(whole)
    for part in (own, base):
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(part.decode()) is None
    first, second, all_of_it = json.loads(own), json.loads(base), json.loads(whole)
    stands_on, model = first["components"]
    assert [model, *second["components"]] == sorted(
        all_of_it["components"], key=lambda one: one["type"] != bom_link.MODEL
    )
    serial = second["serialNumber"].removeprefix("urn:uuid:")
    assert stands_on["externalReferences"] == [{"type": "bom", "url": f"urn:cdx:{serial}/1"}]
    (root,) = (one for one in first["dependencies"] if one["ref"] == first["metadata"]["component"]["bom-ref"])
    assert root["dependsOn"] == [bom_link.BASE, model["bom-ref"]]
    assert first["metadata"] == all_of_it["metadata"]


def test_the_bases_part_is_the_same_for_every_model_and_another_for_another_base() -> None:
    """Else it would travel with every retrain, or two bases would be one."""
    one = plan()
    other = replace(one, model=replace(one.model, sha256="e" * 64, version=9, window_end="2015-01-01T00:00:00Z"))
    (own, base), (own_2, base_2) = (bom_link.split(sbom.make(made, INSIDE)) for made in (one, other))
    assert (base, own != own_2) == (base_2, True)
    assert len(own) < 3000
    more = replace(INSIDE, packages=(*INSIDE.packages, Package(kind="pypi", name="x", version="1", where="opt/site/")))
    _, base_3 = bom_link.split(sbom.make(one, more))
    assert json.loads(base_3)["serialNumber"] != json.loads(base)["serialNumber"]
