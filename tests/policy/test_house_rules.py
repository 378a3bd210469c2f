"""The rules of the house that no linter holds: sizes, a docstring per test, reasons, and a lock file in step."""

from __future__ import annotations

import ast
import re
import statistics
import tomllib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.policy.conftest import Checkout

MODULE_LINES = 300
DAG_LINES = 120
FUNCTION_LINES_P95 = 40


def test_no_module_outgrows_a_reader(checkout: Checkout) -> None:
    """A module has at most 300 lines, a DAG file fewer than 120."""
    long = [
        f"{module.name}: {module.lines} lines"
        for module in checkout.modules("include", "plugins", "benchmarks", "dags")
        if module.lines > (DAG_LINES - 1 if module.name.startswith("dags/") else MODULE_LINES)
    ]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("floor", ["include/edgeloop", "include/lab", "include/images", "plugins", "benchmarks"])
def test_functions_are_short(checkout: Checkout, floor: str) -> None:
    """95 of 100 functions of a floor have at most 40 lines, docstring and signature included."""
    sizes = sorted(
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{module.name}:{node.lineno} {node.name}")
        for module in checkout.modules(floor)
        for node in module.functions()
    )
    p95 = statistics.quantiles([lines for lines, _ in sizes], n=20)[-1]
    assert p95 <= FUNCTION_LINES_P95, "\n".join(f"{lines} lines: {where}" for lines, where in sizes[-10:])


def test_every_test_says_which_behaviour_it_holds(checkout: Checkout) -> None:
    """A test without a docstring cannot be judged when it goes red."""
    mute = [
        f"{module.name}:{node.lineno} {node.name}"
        for module in checkout.modules("tests")
        for node in module.functions()
        if node.name.startswith("test_") and module.path.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert not mute, "\n".join(mute)


def test_what_is_skipped_says_why(checkout: Checkout) -> None:
    """skip, skipif, xfail, importorskip and skip() carry a reason, so that no hole in the tests is silent."""
    silent = [
        f"{module.name}:{node.lineno} {ast.unparse(node)[:80]}"
        for module in checkout.modules("tests")
        for node in _skips(module.tree)
        if not _has_reason(node)
    ]
    assert not silent, "\n".join(silent)


def _skips(tree: ast.Module) -> list[ast.Call | ast.Attribute]:
    names = r"^pytest\.(mark\.(skip|skipif|xfail)|skip|xfail|importorskip)$"
    calls = [one for one in ast.walk(tree) if isinstance(one, ast.Call) and re.match(names, ast.unparse(one.func))]
    called = {id(one.func) for one in calls}
    bare = [
        one
        for one in ast.walk(tree)
        if isinstance(one, ast.Attribute) and id(one) not in called and re.match(names, ast.unparse(one))
    ]
    return [*calls, *bare]


def _has_reason(node: ast.Call | ast.Attribute) -> bool:
    if not isinstance(node, ast.Call):
        return False
    if any(keyword.arg == "reason" and ast.unparse(keyword.value) not in {"''", "None"} for keyword in node.keywords):
        return True
    return ast.unparse(node.func) in {"pytest.skip", "pytest.xfail"} and bool(node.args)


@pytest.mark.parametrize(
    ("source", "says_why"),
    [
        ("pytest.mark.skip", False),
        ("pytest.mark.skip()", False),
        ("pytest.mark.xfail(strict=True)", False),
        ("pytest.mark.skipif(True, reason='no /dev/fuse here')", True),
        ("pytest.skip('the share has no such file')", True),
    ],
)
def test_the_rule_knows_a_reason(source: str, says_why: bool) -> None:
    """The rule itself: a bare marker is caught as well as a call without a reason."""
    assert all(_has_reason(node) for node in _skips(ast.parse(source))) is says_why


def test_lint_rules_are_ignored_for_a_reason(checkout: Checkout) -> None:
    """Each rule that ruff may ignore has its reason on its own line."""
    text = (checkout.root / "pyproject.toml").read_text(encoding="utf-8")
    body = re.search(r"^ignore = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert body
    assert not [line for line in body.group(1).splitlines() if not re.match(r'\s*"[A-Z]+\d+",\s+# \S+ \S+', line)]


def test_the_lock_file_is_in_step(checkout: Checkout) -> None:
    """Everything requirements.in names is pinned in requirements.txt with hashes; azure-ai-ml is no old one."""
    wanted = re.findall(r"^([A-Za-z0-9][\w.-]*)", (checkout.root / "requirements.in").read_text("utf-8"), re.MULTILINE)
    text = (checkout.root / "requirements.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([a-z0-9][\w.-]*?)(?:\[[\w,-]+\])?==(\S+) \\\n {4}--hash=sha256:", text, re.MULTILINE))
    assert not [name for name in wanted if name.lower().replace("_", "-") not in pins]
    assert len(pins) == len(re.findall(r"^[a-z0-9][^ ]*==", text, re.MULTILINE)), "a pin without a hash"
    assert tuple(map(int, pins["azure-ai-ml"].split(".")[:2])) >= (1, 35)


def test_no_file_knows_where_this_checkout_is(checkout: Checkout) -> None:
    """A path of the machine that wrote it would work on that machine only."""
    here = str(checkout.root)
    if here == "/":
        pytest.skip("the checkout is the root folder, which every path starts with")
    names = ["Makefile", "pyproject.toml", "requirements.in", "requirements.txt", ".ci/run"]
    folders = ("dags", "plugins", "include", "tests", "benchmarks", "docs", "tools")
    files = [*(checkout.root / name for name in names), *checkout.root.glob("*.md")]
    files += [path for folder in folders for path in (checkout.root / folder).rglob("*") if path.is_file()]
    known = {".py", ".md", ".yaml", ".json", ".txt", ".in", ".toml", ".sh", ""}
    texts = (path for path in files if path.suffix in known and "__pycache__" not in path.parts)
    assert not [str(path) for path in texts if here in path.read_text(encoding="utf-8", errors="replace")]


def test_records_do_not_change_after_they_were_made(checkout: Checkout) -> None:
    """What crosses every room (records, endpoints, snapshots) is frozen: a value, not a place to keep state."""
    mutable = [
        f"{module.name}:{node.lineno} {node.name}"
        for module in checkout.modules("include/edgeloop")
        if module.path.name in {"records.py", "catalog.py", "endpoint.py", "blob.py"}
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        for decorator in map(ast.unparse, node.decorator_list)
        if decorator.startswith("dataclass") and "frozen=True" not in decorator
    ]
    assert not mutable, "\n".join(mutable)


def test_every_verb_is_listed_and_none_is_a_file(checkout: Checkout) -> None:
    """`make help` shows every public verb, and a file of a verb's name cannot turn it into a no-op."""
    text = (checkout.root / "Makefile").read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE).group(1).split())  # type: ignore[union-attr]
    assert {"setup", "demo", "down", "test", "lint", "bench", "faults", "lock", "clean"} <= verbs
    assert verbs <= phony


def test_ci_runs_exactly_the_tests(checkout: Checkout) -> None:
    """CI and a person at a terminal run the same command."""
    lines = (checkout.root / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines[1:] if line and not line.startswith("#")][-1] == "make test"
    assert "set -euo pipefail" in lines


def test_the_project_has_one_description_of_its_tools(checkout: Checkout) -> None:
    """pyproject.toml holds lint, types and tests; a second configuration file would quietly win over it."""
    tools = tomllib.loads((checkout.root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert {"ruff", "mypy", "pytest"} <= set(tools)
    rivals = ("ruff.toml", ".ruff.toml", "mypy.ini", "pytest.ini", "tox.ini", "setup.cfg", "setup.py")
    assert not [name for name in rivals if (checkout.root / name).exists()]
