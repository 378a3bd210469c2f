"""Jobs queue for a VM by what they declare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from edgeloop.pipeline import Pipeline
from edgeloop.training.pools import Pool, pool_slots, pools

if TYPE_CHECKING:
    from typing import Any

TINY = yaml.safe_load((Path(__file__).parents[2] / "data/pipelines/tiny_power/pipeline.yaml").read_text())
VM = {"cpus": 16, "memory_mb": 65536, "gpus": 2}


def spec(name: str = "tiny_power", **training: Any) -> Pipeline:
    """A pipeline with this training section."""
    return Pipeline.model_validate({**TINY, "name": name, "training": training})


@pytest.mark.parametrize(
    ("training", "slots"),
    [
        ({}, 100),
        ({"cpus": 4, "memory_mb": 1024, "vm": VM}, 25),
        ({"cpus": 1, "memory_mb": 49152, "vm": VM}, 75),
        ({"cpus": 1, "memory_mb": 1024, "gpus": 1, "vm": VM}, 50),
        ({"cpus": 5, "memory_mb": 1024, "vm": VM}, 32),
        ({"cpus": 0.01, "memory_mb": 64, "vm": VM}, 1),
    ],
)
def test_a_job_takes_its_share_of_what_it_needs_most(training: dict[str, Any], slots: int) -> None:
    """Rounded up, so that what fits the pool fits the VM; without the VM's size a job has it for itself."""
    assert pool_slots(spec(**training)) == slots


def test_one_pool_for_each_vm() -> None:
    """Pipelines that share a VM share its pool; one whose jobs Azure ML runs needs none."""
    cloud = spec("dd")
    azure_ml = cloud.training.model_copy(update={"backend": "azure_ml", "connection": "cloud_vm"})
    cloud = cloud.model_copy(update={"training": azure_ml})
    found = pools([spec("bb"), spec("aa"), spec("cc", connection="other_vm"), cloud])
    assert found == (
        Pool(name="vm_edgeloop_vm", description="Hundredths of the VM of edgeloop_vm; trains aa, bb"),
        Pool(name="vm_other_vm", description="Hundredths of the VM of other_vm; trains cc"),
    )


def test_a_job_that_no_vm_could_run_is_refused() -> None:
    """It would wait for ever in the pool; the field is named."""
    with pytest.raises(ValueError, match=r"asks for 3, training\.vm says that the VM has 2"):
        spec(gpus=3, vm=VM)
