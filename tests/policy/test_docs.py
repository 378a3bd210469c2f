"""The documentation is in step with the code: every field of pipeline.yaml, a runbook per stage, links that lead."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edgeloop.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo
    from tests.policy.conftest import Checkout

RERUNS = {"rerun-one-batch", "rerun-a-range", "rerun-failed-of-a-day"}
RUNBOOKS = {"intake", "ingest", "train", "package", "rollout", "drift", "lab"} | RERUNS
HEADINGS = ("## What you see", "## What it means", "## What is safe", "## What to type")


def _sections(model: type[BaseModel], where: str = "") -> Iterator[tuple[str, str, FieldInfo]]:
    """Every field as (section heading, field name, field)."""
    for name, field in model.model_fields.items():
        yield where or "(top)", name, field
        path = f"{where}.{name}".lstrip(".")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _sections(field.annotation, path)
        for part in get_args(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                optional = type(None) in get_args(field.annotation)
                yield from _sections(part, path if optional else f"{path}[]")


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    return "see below" if isinstance(value, BaseModel) else f"`{json.dumps(value)}`"


FIELDS = list(_sections(Pipeline))


@pytest.mark.parametrize(("section", "name", "field"), FIELDS, ids=[f"{part}.{name}" for part, name, _ in FIELDS])
def test_every_field_is_described_with_its_default(
    checkout: Checkout, section: str, name: str, field: FieldInfo
) -> None:
    """docs/pipeline.md has a row for the field in its section, with the default that the code has."""
    text = (checkout.root / "docs" / "pipeline.md").read_text(encoding="utf-8")
    found = re.search(rf"^### {re.escape(section)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"add a section '### {section}'"
    row = re.search(rf"^\| `{name}` \| (.+) \|$", found.group(1), re.MULTILINE)
    assert row, f"describe `{name}` in section {section}"
    _, default, meaning, *_ = row.group(1).replace(r"\|", "/").split(" | ")
    assert default == _default(field)
    assert meaning.strip()


def test_no_field_is_described_that_does_not_exist(checkout: Checkout) -> None:
    """A field that was removed leaves the documentation too."""
    text = (checkout.root / "docs" / "pipeline.md").read_text(encoding="utf-8")
    body = text.partition("## pipeline.yaml\n")[2].partition("\n## train.py")[0]
    described = set()
    for section, rows in re.findall(r"^### (\S+)\n(.*?)(?=^### |\Z)", body, re.MULTILINE | re.DOTALL):
        described |= {(section, name) for name in re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)}
    assert described == {(section, name) for section, name, _ in FIELDS}


def test_every_stage_that_can_page_somebody_has_a_runbook(checkout: Checkout) -> None:
    """Each says what is seen, what it means, what is safe, and what to type, in this order."""
    folder = checkout.root / "docs" / "runbooks"
    assert {path.stem for path in folder.glob("*.md")} >= RUNBOOKS
    for path in (folder / f"{name}.md" for name in sorted(RUNBOOKS)):
        text = path.read_text(encoding="utf-8")
        at = [text.find(f"\n{heading}\n") for heading in HEADINGS]
        assert -1 not in at, f"{path.name} lacks {[one for one in HEADINGS if one not in text]}"
        assert at == sorted(at), path.name
        assert "    airflow " in text or "    make " in text or "    python -m lab" in text, f"{path.name}: a command"


def test_links_lead_somewhere(checkout: Checkout) -> None:
    """Every relative link in README.md and docs/ names a file that is there."""
    broken = [
        f"{page.relative_to(checkout.root)} -> {target}"
        for page in [checkout.root / "README.md", *(checkout.root / "docs").rglob("*.md")]
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not broken, "\n".join(broken)


def test_commands_of_the_documentation_exist(checkout: Checkout) -> None:
    """Every `make verb` that a page names is a verb of the Makefile."""
    verbs = set(re.findall(r"^([a-z-]+):", (checkout.root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    pages = [checkout.root / "README.md", *(checkout.root / "docs").rglob("*.md")]
    spoken = re.compile(r"(?:^ {4}|^|`)make ([a-z-]+)(?=$|`)", re.MULTILINE)
    named = {verb for page in pages for verb in spoken.findall(page.read_text(encoding="utf-8"))}
    assert named
    assert named <= verbs


def test_every_kind_of_fault_is_described(checkout: Checkout) -> None:
    """Whoever is told that a kind of `make faults` does not hold finds in the lab's runbook what was struck."""
    from lab.campaign_kinds import KINDS

    text = (checkout.root / "docs" / "runbooks" / "lab.md").read_text(encoding="utf-8")
    names = {one.name for one in KINDS}
    stages = {name for name in names if name.startswith("worker_killed_in_")}
    row = re.search(r"^\| `worker_killed_in_<stage>` \| (.+) \|$", text, re.MULTILINE)
    assert row
    assert [one for one in sorted(stages) if one.removeprefix("worker_killed_in_") not in row.group(1)] == []
    assert [one for one in sorted(names - stages) if f"`{one}`" not in text] == []
    assert f", {len(names)} kinds:" in (checkout.root / "README.md").read_text(encoding="utf-8")
