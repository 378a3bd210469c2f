"""What is wrong in a pipeline's files: every problem with its file, line, field and what to write instead."""

from __future__ import annotations

import ast
import itertools
import json
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from edgeloop.pipeline import Pipeline
from edgeloop.pipeline_sense import argument_doubts, column_doubts, doubts
from edgeloop.pipeline_words import field_words, yaml_words
from edgeloop.residency import refusals
from edgeloop.validation.suite import wrong_with

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PARAMETERS = ("training", "parameters")
COMPILE = "python3 -m py_compile"
TRAINER = "edgeloop/trainer"
"""The image whose Python is the one that reads these files here; one of a pipeline's own may have a newer one."""


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
        remedy = yaml_words(str(getattr(error, "problem", None) or error))
        return None, [Problem(file=file, line=line, field="(yaml)", remedy=remedy)]
    if not isinstance(body, dict):
        return None, [Problem(file=file, line=1, field="(file)", remedy="must be a mapping that starts with 'name:'")]
    if again := _duplicates(node, file):
        return None, again
    try:
        spec = Pipeline.model_validate(body)
    except ValidationError as error:
        return None, [_problem(one, node, file) for one in _once(error.errors())]
    leaving = [
        Problem(file=file, line=line_of(node, one.at), field=one.field, remedy=one.remedy)
        for one in (() if pinned else (*refusals(spec), *doubts(spec)))
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
    field = ".".join(map(str, where)) or "(file)"
    return Problem(file=file, line=line_of(node, where), field=field, remedy=field_words(error))


def _once(errors: Iterable[Any]) -> Iterator[Any]:
    """The errors, those of one training parameter as one: pydantic tells each type that it might have had."""
    told: set[tuple[Any, ...]] = set()
    for error in errors:
        at = error["loc"]
        if at[:2] != PARAMETERS or len(at) <= len(PARAMETERS) + 1 or "[key]" in at:
            yield error
        elif (parameter := at[:3]) not in told:
            told.add(parameter)
            yield {**error, "loc": parameter, "type": "parameter", "msg": "write a number, a text, true or false"}


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
        remedy = f"is no JSON: {error.msg}; write a suite as Great Expectations saves it, texts in double quotes"
        if text.startswith("\ufeff"):
            remedy = "begins with a byte order mark, which is no JSON; save it as UTF-8 without BOM"
        return [Problem(file=file, line=error.lineno, field="(json)", remedy=remedy)]
    except RecursionError:
        return [Problem(file=file, line=0, field="(json)", remedy="is nested too deeply; a suite is a flat list")]
    # A number of more than 4,300 digits is JSON, and a bare ValueError of Python's.
    except ValueError as error:
        return [Problem(file=file, line=0, field="(json)", remedy=f"cannot be read as JSON: {error}")]
    if not isinstance(body, dict) or not isinstance(body.get("expectations"), list):
        return [Problem(file=file, line=1, field="expectations", remedy="must be a list of {type, kwargs, meta}")]
    wrong = [(number, *told) for number, one in enumerate(body["expectations"]) for told in wrong_with(one)]
    return [
        Problem(file=file, line=_line_of(text, number), field=f"expectations.{number}.{field}", remedy=remedy)
        for number, field, remedy in wrong or argument_doubts(body)
    ]


def column_problems(spec: Pipeline, text: str, suite: str, file: str) -> list[Problem]:
    """Columns that a valid pipeline.yaml (``text``, ``file``) names and its valid suite lets no file have."""
    return [
        Problem(file=file, line=line_in(text, *one.at), field=one.field, remedy=one.remedy)
        for one in column_doubts(spec, json.loads(suite))
    ]


def script_problems(spec: Pipeline, files: list[tuple[str, str]], home: str) -> list[Problem]:
    """Python files beside pipeline.yaml that the trainer image could not read: they fail here, not on the VM."""
    if spec.training.backend != "vm" or spec.training.image.partition(":")[0] != TRAINER:
        return []
    return [one for name, text in files if name.endswith(".py") for one in _unreadable(text, f"{home}/{name}", name)]


def _unreadable(text: str, file: str, name: str) -> Iterator[Problem]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError as error:
        yield Problem(
            file=file,
            line=error.lineno or 0,
            field=name,
            remedy=f"is no Python: {error.msg}; {COMPILE} {name} shows where",
        )
    # Zero bytes, and a thousand brackets.
    except (ValueError, RecursionError, MemoryError) as error:
        yield Problem(file=file, line=0, field=name, remedy=f"cannot be read as Python: {error}")


def _line_of(text: str, number: int) -> int:
    """The line of the type of the ``number``th expectation (from 0), as JSON is usually written; else 1."""
    found = re.finditer(r'"type"\s*:\s*"', text)
    at = next(itertools.islice(found, number, None), None)
    return 1 if at is None else text.count("\n", 0, at.start()) + 1
