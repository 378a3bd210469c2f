"""What the policy tests look at: the modules of each floor, and the DAGs as Airflow loads them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.dag_processing.dagbag import DagBag

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Module:
    """A Python file of this checkout."""

    path: Path

    @property
    def name(self) -> str:
        """Its path from the top of the checkout."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        """Its source."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text, filename=self.name)

    @property
    def lines(self) -> int:
        """How many lines it has."""
        return len(self.text.splitlines())

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method in it."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


class Checkout:
    """The checkout under test."""

    root = ROOT

    def modules(self, *folders: str) -> list[Module]:
        """Every Python file below the folders (all of ours without an argument)."""
        ours = folders or ("dags", "plugins", "include", "tests", "benchmarks")
        files = (path for folder in ours for path in sorted((ROOT / folder).rglob("*.py")))
        return [Module(path) for path in files if "__pycache__" not in path.parts]


@pytest.fixture(scope="session")
def checkout() -> Checkout:
    """The checkout under test."""
    return Checkout()


@pytest.fixture(scope="session")
def dag_files(checkout: Checkout) -> list[Path]:
    """The files Airflow's dag-processor reads."""
    return [module.path for module in checkout.modules("dags")]


@pytest.fixture(scope="session")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagBag]:
    """Every DAG of this checkout's pipelines, loaded as the dag-processor loads them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGELOOP_PIPELINES", str(ROOT / "include" / "pipelines"))
        patch.setenv("EDGELOOP_LAST_VALID", str(tmp_path_factory.mktemp("last_valid")))
        from airflow.dag_processing.dagbag import DagBag

        yield DagBag(dag_folder=ROOT / "dags", bundle_path=ROOT / "dags", bundle_name="edgeloop")
