"""What is wrong in a pipeline's files: every problem with its file, line, field and what to write instead."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from edgeloop.pipeline import Pipeline
from edgeloop.residency import refusals
from edgeloop.validation.suite import wrong_with


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a pipeline's folder; ``line`` is 1-based, 0 for the whole file."""

    file: str
    line: int
    field: str
    remedy: str

    def __str__(self) -> str:
        """``file:line: field: remedy``."""
        return f"{self.file}:{self.line}: {self.field}: {self.remedy}"


def parse_spec(text: str, file: str, *, pinned: bool = False) -> tuple[Pipeline | None, list[Problem]]:
    """Validate the text of a pipeline.yaml; every problem with its line.

    One that was ``pinned`` earlier is read whatever it lets out of the site: it runs under today's account and the
    stricter residency, and a guard asks again then. Refused here it would trap what was claimed under older rules.
    """
    try:
        node, body = _read(text)
    # An impossible date (2014-02-30) is a ValueError, a thousand brackets end the stack: PyYAML lets both through.
    except (ValueError, RecursionError) as error:
        return None, [Problem(file=file, line=0, field="(yaml)", remedy=f"cannot be read as YAML: {error}")]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 0
        remedy = f"is no YAML: {getattr(error, 'problem', None) or error}"
        return None, [Problem(file=file, line=line, field="(yaml)", remedy=remedy)]
    if not isinstance(body, dict):
        return None, [Problem(file=file, line=1, field="(file)", remedy="must be a mapping that starts with 'name:'")]
    if again := _duplicates(node, file):
        return None, again
    try:
        spec = Pipeline.model_validate(body)
    except ValidationError as error:
        return None, [_problem(one, node, file) for one in error.errors()]
    leaving = [
        Problem(file=file, line=line_of(node, one.at), field=one.field, remedy=one.remedy)
        for one in (() if pinned else refusals(spec))
    ]
    return None if leaving else spec, leaving


def _read(text: str) -> tuple[yaml.Node | None, Any]:
    """The document with its lines, and its value: read once, since every parse of a DAG file pays for it."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _problem(error: Any, node: yaml.Node | None, file: str) -> Problem:
    where = (*error["loc"], *error.get("ctx", {}).get("at", ()))
    remedy = error["msg"]
    if error["type"] == "missing":
        remedy = "is missing; add it"
    elif error["type"] == "extra_forbidden":
        remedy = "is no known field; remove it or correct its name"
    elif error["type"] != "edgeloop" and "input" in error and isinstance(error["input"], str | int | float | bool):
        remedy = f"{error['input']!r} will not do: {remedy}"
    return Problem(file=file, line=line_of(node, where), field=".".join(map(str, where)) or "(file)", remedy=remedy)


def _duplicates(node: yaml.Node | None, file: str, path: str = "", known: set[int] | None = None) -> list[Problem]:
    """Keys that a mapping holds twice: YAML would silently take the last."""
    found: list[Problem] = []
    # An alias is the very node that it names: one that holds itself has no end, and thirty that hold the one before
    # twice have none that anybody sees.
    known = set() if known is None else known
    if id(node) in known:
        return found
    known.add(id(node))
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, f"{path}{key.value}"
            if name in seen:
                remedy = f"is there twice, first on line {seen[name]}; remove one"
                found.append(Problem(file=file, line=line, field=name, remedy=remedy))
            seen.setdefault(name, line)
            found += _duplicates(value, file, f"{name}.", known)
    elif isinstance(node, yaml.SequenceNode):
        for at, value in enumerate(node.value):
            found += _duplicates(value, file, f"{path}{at}.", known)
    return found


def line_in(text: str, *where: str | int) -> int:
    """The 1-based line of a field in a YAML text that parses."""
    return line_of(yaml.compose(text, Loader=yaml.SafeLoader), where)


def line_of(node: yaml.Node | None, where: tuple[str | int, ...]) -> int:
    """The 1-based line of a field, or of the nearest section around it."""
    line = 1
    for part in where:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(part)]
            if not pairs:
                return line
            line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def suite_problems(text: str, file: str) -> list[Problem]:
    """What is wrong with the text of an expectation suite, as far as can be told without Great Expectations."""
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        return [Problem(file=file, line=error.lineno, field="(json)", remedy=f"is no JSON: {error.msg}")]
    except RecursionError:
        return [Problem(file=file, line=0, field="(json)", remedy="is nested too deeply; a suite is a flat list")]
    # A number of more than 4,300 digits is JSON, and a bare ValueError of Python's.
    except ValueError as error:
        return [Problem(file=file, line=0, field="(json)", remedy=f"cannot be read as JSON: {error}")]
    if not isinstance(body, dict) or not isinstance(body.get("expectations"), list):
        return [Problem(file=file, line=1, field="expectations", remedy="must be a list of {type, kwargs, meta}")]
    return [
        Problem(file=file, line=_line_of(text, number), field=f"expectations.{number}.{field}", remedy=remedy)
        for number, one in enumerate(body["expectations"])
        for field, remedy in wrong_with(one)
    ]


def _line_of(text: str, number: int) -> int:
    """The line of the type of the ``number``th expectation (from 0), as JSON is usually written; else 1."""
    found = re.finditer(r'"type"\s*:\s*"', text)
    at = next(itertools.islice(found, number, None), None)
    return 1 if at is None else text.count("\n", 0, at.start()) + 1
