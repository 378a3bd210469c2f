"""Arrows go one way (dags -> plugins -> include/edgeloop), and nothing heavy is imported while a DAG file is read."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.policy.conftest import Checkout

HEAVY = {
    *("asyncssh", "azure", "docker", "great_expectations", "matplotlib", "numpy", "onnx", "onnxruntime"),
    *("pandas", "paramiko", "pyarrow", "scipy", "skl2onnx", "sklearn", "smbclient", "smbprotocol"),
}

FORBIDDEN = {
    "include/edgeloop": {"airflow", "edgeloop_airflow", "lab", "dags", "benchmarks"},
    "include/lab": {"airflow", "edgeloop_airflow", "dags", "benchmarks"},
    "include/images": {"airflow", "edgeloop", "edgeloop_airflow", "lab"},
    "include/pipelines": {"airflow", "edgeloop", "edgeloop_airflow", "lab"},
    "plugins": {"dags", "lab", "benchmarks"},
    "dags": {"lab", "benchmarks", *HEAVY},
}

AT_READING = ("include/edgeloop", "plugins", "dags")
"""Where a module-level import is paid by every parse and every task start."""


def _imports(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Top-level package and line of every import that ``node`` itself is."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name.partition(".")[0], node.lineno
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0], node.lineno


def everywhere(tree: ast.Module) -> list[tuple[str, int]]:
    """Imports anywhere in a module: also those for type checkers and those inside functions."""
    return [found for node in ast.walk(tree) for found in _imports(node)]


def at_reading(tree: ast.AST) -> list[tuple[str, int]]:
    """Imports that run when a module is imported: not those inside functions, not those for type checkers."""
    found: list[tuple[str, int]] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            found += [one for branch in node.orelse for one in [*_imports(branch), *at_reading(branch)]]
            continue
        found += [*_imports(node), *at_reading(node)]
    return found


@pytest.mark.parametrize("floor", FORBIDDEN)
def test_a_floor_never_imports_what_stands_above_it(checkout: Checkout, floor: str) -> None:
    """The library knows no Airflow, operators know no lab, what is shipped to VM and devices knows none of us."""
    wrong = [
        f"{module.name}:{line} imports {package}"
        for module in checkout.modules(floor)
        for package, line in everywhere(module.tree)
        if package in FORBIDDEN[floor]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("floor", AT_READING)
def test_heavy_libraries_are_imported_inside_functions(checkout: Checkout, floor: str) -> None:
    """Great Expectations alone costs 7 s; at module level every parse and every task start would pay it."""
    wrong = [
        f"{module.name}:{line} imports {package} at module level; move it into the function that needs it"
        for module in checkout.modules(floor)
        for package, line in at_reading(module.tree)
        if package in HEAVY
    ]
    assert not wrong, "\n".join(wrong)


def test_the_plugin_loader_sees_no_package_of_ours(checkout: Checkout) -> None:
    """Airflow imports every visible .py below plugins/ under its bare stem: a docker.py would replace the real one."""
    hidden = (checkout.root / "plugins" / ".airflowignore").read_text(encoding="utf-8").split()
    packages = [path.name for path in (checkout.root / "plugins").iterdir() if (path / "__init__.py").exists()]
    assert packages
    assert set(packages) <= set(hidden)
    assert {path.name for path in (checkout.root / "plugins").glob("*.py")} <= {"edgeloop_plugin.py"}


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("import pandas", ["pandas"]),
        ("import azure.ai.ml as ml", ["azure"]),
        ("from docker.errors import APIError", ["docker"]),
        ("from . import pandas", []),
        ("if TYPE_CHECKING:\n    import pandas", []),
        ("if TYPE_CHECKING:\n    import pandas\nelse:\n    import numpy", ["numpy"]),
        ("def f():\n    import pandas", []),
        ("class C:\n    import pandas", ["pandas"]),
        ("try:\n    import pandas\nexcept ImportError:\n    pandas = None", ["pandas"]),
    ],
)
def test_the_rule_knows_what_runs_at_import(source: str, seen: list[str]) -> None:
    """The rule itself: class bodies and try blocks run at import, function bodies and TYPE_CHECKING blocks do not."""
    assert [package for package, _ in at_reading(ast.parse(source))] == seen
